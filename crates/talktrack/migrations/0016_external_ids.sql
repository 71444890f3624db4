-- A session is found by the id that its caller gave to it.
CREATE INDEX conversation_sessions_of_external_id ON conversation_sessions (external_id, started_at DESC, session_id DESC)
  WHERE external_id IS NOT NULL;
