-- Messages that were removed while their session was kept: the place of the removal in changes, the id (null if all messages of the
-- session were removed or replaced), and the row that the message had (null if it was not stored in this file). They are kept as
-- long as the changes.
CREATE TABLE removed_messages (
  seq integer NOT NULL,
  message_id blob,
  row integer
);
CREATE INDEX removed_messages_by_seq ON removed_messages (seq);

-- The sessions of a user, and those with an external id, of which records wait, are found without reading the whole journal.
CREATE INDEX journal_records_of_owner ON journal (CASE WHEN json_valid(body) THEN coalesce(body ->> '$.body.message.owner', body ->> '$.body.start.user_id', body ->> '$.body.update.owner', body ->> '$.body.end.owner', body ->> '$.body.alive.owner', body ->> '$.body.edit_messages.owner') END)
  WHERE message_id IS NULL;
CREATE INDEX journal_starts_of_external_id ON journal (CASE WHEN json_valid(body) THEN body ->> '$.body.start.external_id' END)
  WHERE message_id IS NULL;
