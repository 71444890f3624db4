-- What sessions are filtered and grouped by. Tags are a JSON array of texts.
ALTER TABLE conversation_sessions ADD COLUMN agent text;
ALTER TABLE conversation_sessions ADD COLUMN agent_version text;
ALTER TABLE conversation_sessions ADD COLUMN channel text;
ALTER TABLE conversation_sessions ADD COLUMN environment text;
ALTER TABLE conversation_sessions ADD COLUMN parent_session_id text;
ALTER TABLE conversation_sessions ADD COLUMN tags text;

-- Who spoke, and messages that are still in progress. A check of a column cannot be changed, so the table is written anew. Rows keep
-- their numbers, which the search index uses. Rows of other programs that violate the checks are kept as well.
PRAGMA ignore_check_constraints = ON;
CREATE TABLE conversation_messages_new (
  id text PRIMARY KEY NOT NULL,
  session_id text NOT NULL REFERENCES conversation_sessions (session_id),
  user_id text,
  role text NOT NULL CHECK (role IN ('user', 'assistant', 'system', 'developer', 'tool')),
  content text NOT NULL,
  audio_url text,
  metadata text,
  created_at text NOT NULL,
  seq integer,
  external_id text,
  kind text NOT NULL DEFAULT 'message' CHECK (kind IN ('message', 'tool_call', 'tool_result', 'event', 'handoff')),
  revision integer NOT NULL DEFAULT 0,
  interrupted integer NOT NULL DEFAULT 0,
  content_generated text,
  parts text,
  metrics text,
  extra text,
  name text,
  status text NOT NULL DEFAULT 'final' CHECK (status IN ('in_progress', 'final', 'discarded')),
  -- The revision that gave created_at.
  place_revision integer
);
INSERT INTO conversation_messages_new (rowid, id, session_id, user_id, role, content, audio_url, metadata, created_at, seq,
    external_id, kind, revision, interrupted, content_generated, parts, metrics, extra)
  SELECT rowid, id, session_id, user_id, role, content, audio_url, metadata, created_at, seq,
    external_id, kind, revision, interrupted, content_generated, parts, metrics, extra FROM conversation_messages;
DROP TABLE conversation_messages;
ALTER TABLE conversation_messages_new RENAME TO conversation_messages;
PRAGMA ignore_check_constraints = OFF;
CREATE INDEX conversation_messages_in_order ON conversation_messages (session_id, created_at, coalesce(seq, 0));
CREATE INDEX conversation_messages_interrupted ON conversation_messages (session_id) WHERE interrupted;
CREATE INDEX conversation_messages_in_progress ON conversation_messages (session_id) WHERE status = 'in_progress';

-- Messages that the end of their session closed: the record of the end changed them.
CREATE TABLE closed_messages (
  seq integer NOT NULL,
  message_id blob NOT NULL
);
CREATE INDEX closed_messages_by_seq ON closed_messages (seq);
-- Messages that a revision moved to another time.
CREATE TABLE moved_messages (
  seq integer NOT NULL,
  moved_from integer NOT NULL
);
CREATE INDEX moved_messages_by_seq ON moved_messages (seq);
