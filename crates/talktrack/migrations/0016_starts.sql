-- A session is found by the id that its caller gave to it.
CREATE INDEX conversation_sessions_of_external_id ON conversation_sessions (external_id, started_at DESC, session_id DESC)
  WHERE external_id IS NOT NULL;
-- Sessions whose start moved down to their first message or their end. The statistics had counted them at the old start.
CREATE TABLE moved_starts (
  seq integer NOT NULL,
  moved_from integer NOT NULL,
  moved_to integer NOT NULL
);
CREATE INDEX moved_starts_by_seq ON moved_starts (seq);
