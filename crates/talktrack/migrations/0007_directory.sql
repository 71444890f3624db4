-- What this data directory is to others. `node` names it in a shared store; a copy or a salvaged file gets a new one. `store` is the
-- id of the store whose outbox this file is, null while it has met none; `store_address` says for people where that is, without
-- the password. Both are null while only the tables of this file were ever used.
CREATE TABLE directory (
  one integer PRIMARY KEY CHECK (one = 1),
  node text NOT NULL,
  store text,
  store_address text
);
-- A random UUID (version 4).
INSERT INTO directory (one, node) SELECT 1, lower(
  hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-' ||
  substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)));
