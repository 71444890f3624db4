-- Dead letters of messages that are no longer there: replayed or dropped.
-- Rows in dead_letters (of messages) = dead_lettered - letters_taken_out.
ALTER TABLE books ADD COLUMN letters_taken_out integer NOT NULL DEFAULT 0;
