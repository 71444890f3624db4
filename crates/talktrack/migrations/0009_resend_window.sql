-- Records that the store has confirmed stay in `journal` for a while, in case the store forgets them. The rows are not touched:
-- what is confirmed is noted here, a range of rows at a time, and the rows go later, many at once.

-- The writer's lane that delivers a record: the session's id modulo 4.
ALTER TABLE journal ADD COLUMN lane integer;
UPDATE journal SET lane = coalesce((instr('0123456789abcdef', substr(coalesce(session_id,
  CASE WHEN json_valid(body) THEN body ->> '$.body.delete.session_id' END), -1)) - 1) & 3, 0);

-- The rows of `lane` from `first` to `last` were stored by `delivery`. Ranges of a lane do not overlap.
CREATE TABLE resend_window (
  lane integer NOT NULL,
  first integer NOT NULL,
  last integer NOT NULL,
  delivery integer NOT NULL,
  stored_at integer NOT NULL,         -- microseconds since 1970
  bytes integer NOT NULL,
  deletes integer NOT NULL,           -- 1: one record that deletes something; kept longer
  PRIMARY KEY (lane, first)
) WITHOUT ROWID;
CREATE INDEX resend_window_by_age ON resend_window (deletes, stored_at);

-- The last delivery of each lane that was noted here.
CREATE TABLE lanes (
  lane integer PRIMARY KEY,
  delivery integer NOT NULL
);

-- What waits for the store.
CREATE VIEW pending AS SELECT * FROM journal WHERE coalesce((SELECT last FROM resend_window stored
  WHERE stored.lane = journal.lane AND stored.first <= journal.seq ORDER BY stored.first DESC LIMIT 1), 0) < journal.seq;

-- Which file this directory was noted for: another one is a copy, and gets another node id.
ALTER TABLE directory ADD COLUMN file text;

-- Has a row while remains of deleted text may be in the file.
CREATE TABLE unerased (one integer PRIMARY KEY CHECK (one = 1));
