//! The databases that a migration may find.

use talktrack_testbed::Database;

/// A database with two sessions: the first has ended and has two messages, the second has one message.
pub(super) struct Start {
    pub(super) name: &'static str,
    /// The statements that create the tables.
    pub(super) tables: &'static str,
    /// The names of the columns for a session's start and end.
    pub(super) times: [&'static str; 2],
    /// The differences that `doctor` reports before the migration.
    pub(super) differences: &'static [&'static str],
}

impl Start {
    /// Creates the tables and their rows.
    pub(super) fn make(&self, database: &Database) {
        let [started, ended] = self.times;
        let user = "'00000000-0000-4000-8000-0000000000b0'";
        database.psql(self.tables);
        database.psql(&format!(
            "INSERT INTO conversation_sessions (session_id, user_id, {started}, {ended}, duration_seconds) VALUES
               ('00000000-0000-4000-8000-0000000000a1', {user}, '2024-05-01 10:00:00+00', '2024-05-01 10:01:30.5+00', 90.5),
               ('00000000-0000-4000-8000-0000000000a2', {user}, '2024-05-02 10:00:00.123456+02', NULL, NULL);
             INSERT INTO conversation_messages (session_id, user_id, role, content, created_at) VALUES
               ('00000000-0000-4000-8000-0000000000a1', {user}, 'user', 'Grüße, it''s me', '2024-05-01 10:00:01+00'),
               ('00000000-0000-4000-8000-0000000000a1', {user}, 'assistant', '', '2024-05-01 10:00:02+00'),
               ('00000000-0000-4000-8000-0000000000a2', {user}, 'user', '\\x', '2024-05-02 08:00:05+00');"
        ));
    }
}

const TIMES: [&str; 2] = ["started_at", "ended_at"];

/// All of them except an empty database and one that is already right.
pub(super) const STARTS: [Start; 6] = [
    Start {
        name: "(a) sessions without metadata",
        tables: "
            CREATE TABLE conversation_sessions (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), session_id uuid UNIQUE NOT NULL,
              user_id uuid NOT NULL, started_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz,
              duration_seconds double precision, created_at timestamptz DEFAULT now());
            CREATE TABLE conversation_messages (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
              session_id uuid NOT NULL REFERENCES conversation_sessions (session_id), user_id uuid, role text NOT NULL,
              content text NOT NULL, audio_url text, metadata jsonb, created_at timestamptz NOT NULL DEFAULT now());",
        times: TIMES,
        differences: &["Could not find the 'metadata' column of 'conversation_sessions'"],
    },
    Start {
        name: "(b) messages without audio_url",
        tables: "
            CREATE TABLE conversation_sessions (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), session_id uuid UNIQUE NOT NULL,
              user_id uuid NOT NULL, started_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz,
              duration_seconds double precision, metadata jsonb DEFAULT '{\"kept\": true}', created_at timestamptz DEFAULT now());
            CREATE TABLE conversation_messages (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
              session_id uuid NOT NULL REFERENCES conversation_sessions (session_id), user_id uuid, role text NOT NULL,
              content text NOT NULL, metadata jsonb, created_at timestamptz NOT NULL DEFAULT now());",
        times: TIMES,
        differences: &["Could not find the 'audio_url' column of 'conversation_messages'"],
    },
    Start {
        name: "(c) messages.user_id NOT NULL",
        tables: "
            CREATE TABLE conversation_sessions (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), session_id uuid UNIQUE NOT NULL,
              user_id uuid NOT NULL, started_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz,
              duration_seconds double precision, metadata jsonb DEFAULT '{}', created_at timestamptz DEFAULT now());
            CREATE TABLE conversation_messages (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
              session_id uuid NOT NULL REFERENCES conversation_sessions (session_id), user_id uuid NOT NULL, role text NOT NULL,
              content text NOT NULL, audio_url text, metadata jsonb, created_at timestamptz NOT NULL DEFAULT now());",
        times: TIMES,
        differences: &["The 'user_id' column of 'conversation_messages' does not allow null"],
    },
    Start {
        name: "(d) session_start and session_end",
        tables: "
            CREATE TABLE conversation_sessions (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), session_id uuid UNIQUE NOT NULL,
              user_id uuid NOT NULL, session_start timestamptz NOT NULL DEFAULT now(), session_end timestamptz,
              duration_seconds double precision, metadata jsonb DEFAULT '{}', created_at timestamptz DEFAULT now());
            CREATE TABLE conversation_messages (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
              session_id uuid NOT NULL REFERENCES conversation_sessions (session_id), user_id uuid, role text NOT NULL,
              content text NOT NULL, audio_url text, metadata jsonb, created_at timestamptz NOT NULL DEFAULT now());",
        times: ["session_start", "session_end"],
        differences: &[
            "Could not find the 'started_at' column of 'conversation_sessions'",
            "Could not find the 'ended_at' column of 'conversation_sessions'",
        ],
    },
    Start {
        name: "(e) all at once, without keys, defaults and references",
        tables: "
            CREATE TABLE conversation_sessions (session_id uuid, user_id uuid, session_start timestamptz, session_end timestamptz,
              duration_seconds double precision);
            CREATE TABLE conversation_messages (id uuid DEFAULT gen_random_uuid(), session_id uuid, user_id uuid NOT NULL,
              role varchar NOT NULL CHECK (role IN ('user', 'assistant', 'human')), content text NOT NULL, created_at timestamptz);",
        times: ["session_start", "session_end"],
        differences: &[
            "Could not find the 'id' column of 'conversation_sessions'",
            "The 'session_id' column of 'conversation_sessions' is not unique",
            "Could not find the 'metadata' column of 'conversation_sessions'",
            "Could not find the 'audio_url' column of 'conversation_messages'",
            "The 'user_id' column of 'conversation_messages' does not allow null",
            "The check 'conversation_messages_role_check' of 'conversation_messages' does not allow 'system', 'developer', 'tool'",
            "The 'session_id' column of 'conversation_messages' does not refer to 'conversation_sessions'",
        ],
    },
    Start {
        name: "(f) columns, triggers, policies and foreign keys of the user's own",
        tables: "
            CREATE TABLE people (id uuid PRIMARY KEY);
            INSERT INTO people VALUES ('00000000-0000-4000-8000-0000000000b0');
            CREATE TABLE heard (what text);
            CREATE TABLE conversation_sessions (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), session_id uuid UNIQUE NOT NULL,
              user_id uuid NOT NULL REFERENCES people (id), started_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz,
              duration_seconds double precision, created_at timestamptz DEFAULT now(),
              updated_at timestamptz NOT NULL DEFAULT now(), \"of which, Team\" text NOT NULL DEFAULT 'blue');
            CREATE TABLE conversation_messages (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
              session_id uuid NOT NULL REFERENCES conversation_sessions (session_id) ON DELETE CASCADE, user_id uuid NOT NULL,
              role text NOT NULL, content text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
              words int GENERATED ALWAYS AS (length(content)) STORED, place bigint GENERATED ALWAYS AS IDENTITY);
            CREATE TABLE stars (message_id uuid REFERENCES conversation_messages (id));
            CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
              BEGIN NEW.updated_at := now(); INSERT INTO heard VALUES ('session'); RETURN NEW; END $$;
            CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS $$
              BEGIN INSERT INTO heard VALUES ('message'); RETURN NULL; END $$;
            CREATE TRIGGER touch BEFORE UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION touch();
            CREATE TRIGGER hear AFTER INSERT OR UPDATE ON conversation_messages FOR EACH ROW EXECUTE FUNCTION hear();
            CREATE TRIGGER asleep AFTER UPDATE ON conversation_messages FOR EACH ROW EXECUTE FUNCTION hear();
            ALTER TABLE conversation_messages DISABLE TRIGGER asleep;
            ALTER TABLE conversation_messages ENABLE ALWAYS TRIGGER hear;
            CREATE POLICY own_policy ON conversation_messages FOR SELECT USING (length(content) > 1000);
            CREATE INDEX own_index ON conversation_messages (created_at);",
        times: TIMES,
        differences: &[
            "Could not find the 'metadata' column of 'conversation_sessions'",
            "Could not find the 'audio_url' column of 'conversation_messages'",
            "The 'user_id' column of 'conversation_messages' does not allow null",
        ],
    },
];
