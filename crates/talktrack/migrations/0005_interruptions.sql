-- How often a session was interrupted is counted without reading what was said in it.
CREATE INDEX conversation_messages_interrupted ON conversation_messages (session_id) WHERE interrupted;
