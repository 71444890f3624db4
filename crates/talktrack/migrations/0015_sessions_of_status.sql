-- A list of the sessions with one status reads only these, and not all sessions that are newer.
CREATE INDEX conversation_sessions_of_status ON conversation_sessions (status, started_at DESC, session_id DESC);
