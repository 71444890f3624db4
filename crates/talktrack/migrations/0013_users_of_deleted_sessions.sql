-- Whose the session was, as far as is known: this user is told that it was deleted, other users that it is not there.
ALTER TABLE deleted_sessions ADD COLUMN user_id text;
