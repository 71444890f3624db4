-- What became durable, in this order, for whoever follows: one row for each record that changed something. Ids as 16 bytes.
-- kind: 1 session started, 2 updated, 3 ended, 4 deleted; 5 message, 6 revision. The user is null where the record does not say.
-- The oldest go. All that came after the first row is kept: the row of kind 0 is the first where none has gone yet.
CREATE TABLE changes (
  seq integer PRIMARY KEY,
  kind integer NOT NULL,
  session_id blob,
  user_id blob,
  message_id blob
);
INSERT INTO changes (seq, kind) SELECT last_seq, 0 FROM books;
