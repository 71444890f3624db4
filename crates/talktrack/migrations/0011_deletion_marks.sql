-- A user deleted a session that is not that user's in the store, or not there yet: what is accepted for the user is refused.
CREATE TABLE deleted_claims (
  session_id text NOT NULL,
  user_id text NOT NULL,
  deleted_at integer NOT NULL,        -- microseconds since 1970
  PRIMARY KEY (session_id, user_id)
) WITHOUT ROWID;
CREATE INDEX deleted_claims_of_user ON deleted_claims (user_id, deleted_at);
