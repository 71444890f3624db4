-- When what went with a deletion had happened: the place of the deletion in changes, and the earliest and the latest moment, in
-- microseconds since 1970. Whoever counts over time counts those stretches anew. They are kept as long as the changes.
CREATE TABLE deleted_spans (
  seq integer PRIMARY KEY,
  earliest integer NOT NULL,
  latest integer NOT NULL
);

-- Dead letters of messages over time.
CREATE INDEX dead_letters_over_time ON dead_letters (died_at) WHERE message_id IS NOT NULL;
