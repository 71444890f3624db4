-- UUIDs as lower-case text, times as RFC 3339 UTC text with six decimals, JSON as text: every tool reads them as they are.
CREATE TABLE conversation_sessions (
  id text PRIMARY KEY NOT NULL,
  session_id text UNIQUE NOT NULL,
  user_id text NOT NULL,
  started_at text NOT NULL,
  ended_at text,
  duration_seconds real,
  metadata text DEFAULT '{}',
  created_at text,
  external_id text,
  status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'ended', 'abandoned')),
  end_reason text,
  message_count integer NOT NULL DEFAULT 0,
  last_event_at text
);
CREATE INDEX conversation_sessions_newest ON conversation_sessions (started_at DESC, session_id DESC);
CREATE INDEX conversation_sessions_of_user ON conversation_sessions (user_id, started_at DESC, session_id DESC);
CREATE INDEX conversation_sessions_open ON conversation_sessions (session_id) WHERE status = 'active';

CREATE TABLE conversation_messages (
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
  kind text NOT NULL DEFAULT 'message' CHECK (kind IN ('message', 'tool_call', 'tool_result', 'event')),
  revision integer NOT NULL DEFAULT 0,
  interrupted integer NOT NULL DEFAULT 0,
  content_generated text,
  parts text,
  metrics text
);
CREATE INDEX conversation_messages_in_order ON conversation_messages (session_id, created_at, coalesce(seq, 0));

-- The outbox: what is durable and not yet in the remote store. Empty where this file is the store.
CREATE TABLE journal (
  seq integer PRIMARY KEY,
  message_id text,
  revision integer,
  body text NOT NULL,
  checksum integer NOT NULL
);
CREATE UNIQUE INDEX journal_messages ON journal (message_id, revision) WHERE message_id IS NOT NULL;

-- Sessions that this process has started in the remote store and not ended: after a crash the next start ends them.
CREATE TABLE open_sessions (session_id text PRIMARY KEY NOT NULL) WITHOUT ROWID;

-- What the store will never take, with the reason.
CREATE TABLE dead_letters (
  seq integer PRIMARY KEY,
  session_id text,
  message_id text,
  reason text NOT NULL,
  detail text,
  body text NOT NULL,
  died_at text NOT NULL
);

-- One row of running totals, changed in the same transaction as what it counts.
CREATE TABLE books (
  one integer PRIMARY KEY CHECK (one = 1),
  durable integer NOT NULL DEFAULT 0,
  stored integer NOT NULL DEFAULT 0,
  dead_lettered integer NOT NULL DEFAULT 0,
  inserted integer NOT NULL DEFAULT 0,
  journal_bytes integer NOT NULL DEFAULT 0,
  last_seq integer NOT NULL DEFAULT 0
);
INSERT INTO books (one) VALUES (1);
