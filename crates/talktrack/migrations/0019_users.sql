-- A user is a UUID, or any other text: then user_id is the UUIDv5 of the text, and this column has the text.
ALTER TABLE conversation_sessions ADD COLUMN user_external_id text;
-- The index is also the second place that knows whose a session is, if the row is damaged.
DROP INDEX conversation_sessions_of_user;
CREATE INDEX conversation_sessions_of_user
  ON conversation_sessions (user_id, started_at DESC, session_id DESC, user_external_id);
