-- Sessions that were deleted: whatever comes of them later is refused. They hold no text, and no user.
CREATE TABLE deleted_sessions (
  session_id text PRIMARY KEY NOT NULL,
  deleted_at text NOT NULL
) WITHOUT ROWID;

-- Rows of conversation_messages that went with their sessions: there are inserted - deleted of them.
ALTER TABLE books ADD COLUMN deleted integer NOT NULL DEFAULT 0;

-- What waits of a session, and what was laid aside of it, is found without reading everything else.
ALTER TABLE journal ADD COLUMN session_id text;
UPDATE journal SET session_id = coalesce(body ->> '$.body.message.message.session_id', body ->> '$.body.start.session_id',
  body ->> '$.body.update.session_id', body ->> '$.body.end.session_id', body ->> '$.body.alive.session_id')
  WHERE json_valid(body);
CREATE INDEX journal_of_session ON journal (session_id);
CREATE INDEX dead_letters_of_session ON dead_letters (session_id);
