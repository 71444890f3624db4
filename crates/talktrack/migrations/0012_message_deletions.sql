-- Messages that were deleted and whose session was not: what comes later under the id is refused, as long as the session is there.
CREATE TABLE conversation_message_deletions (
  message_id text NOT NULL,
  session_id text NOT NULL,
  deleted_at text NOT NULL,
  PRIMARY KEY (session_id, message_id)
) WITHOUT ROWID;
