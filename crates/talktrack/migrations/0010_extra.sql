-- What does not belong in another column: talktrack's own notes are under the key "talktrack". `{"talktrack":{"by":"user"}}` on a
-- message says that a user wrote it with a token.
ALTER TABLE conversation_sessions ADD COLUMN extra text;
ALTER TABLE conversation_messages ADD COLUMN extra text;
