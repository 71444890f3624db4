-- True for an end that nobody spoke: a lost connection, a timeout, a crash, a shutdown. It is taken back if the session goes on.
ALTER TABLE conversation_sessions ADD COLUMN end_inferred integer NOT NULL DEFAULT 0;
-- The last start, update or end that was applied to the row: the node that accepted it, and its place in that node's order.
ALTER TABLE conversation_sessions ADD COLUMN last_node text;
ALTER TABLE conversation_sessions ADD COLUMN last_seq integer;
UPDATE conversation_sessions SET end_inferred = 1 WHERE status = 'abandoned';
