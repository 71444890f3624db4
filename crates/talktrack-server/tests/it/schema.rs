//! `talktrack migrate` and `talktrack doctor`: their output and their exit codes.

use serde_json::json;
use talktrack_testbed::{Database, Postgres};

use crate::harness::{Home, Output};

/// The tables of a typical project that does not have talktrack's schema yet.
const BROKEN: &str = "
    CREATE TABLE conversation_sessions (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), session_id uuid UNIQUE NOT NULL,
      user_id uuid NOT NULL, session_start timestamptz NOT NULL DEFAULT now(), session_end timestamptz,
      duration_seconds double precision, created_at timestamptz DEFAULT now());
    CREATE TABLE conversation_messages (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
      session_id uuid NOT NULL REFERENCES conversation_sessions (session_id), user_id uuid NOT NULL,
      role text NOT NULL CHECK (role IN ('user', 'assistant', 'system')), content text NOT NULL, metadata jsonb,
      created_at timestamptz NOT NULL DEFAULT now());";

/// Runs a command on the database.
async fn run(home: &Home, database: &Database, arguments: &[&str]) -> Output {
    home.run(&[arguments, &["--database-url", &database.url()]].concat()).await
}

#[tokio::test]
async fn migrate_mends_and_shows_the_final_schema_and_doctor_is_silent_then() {
    let home = Home::new();
    let database = Postgres::plain().database();
    database.psql(BROKEN);
    database.psql("ALTER TABLE conversation_messages ADD team text DEFAULT 'blue'");
    let shown = run(&home, &database, &["migrate"]).await.succeeded();
    assert_eq!(shown.stderr, "");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = shown.stdout.lines().map(words).collect();
    assert_eq!(lines[0], "TABLE COLUMN TYPE NULL DEFAULT");
    for line in [
        "conversation_sessions started_at timestamptz not null now()",
        "conversation_sessions status text not null 'active'::text",
        "conversation_messages audio_url text",
        "conversation_messages user_id uuid",
        "conversation_messages team text 'blue'::text your own",
    ] {
        assert!(lines.iter().any(|shown| shown == line), "{line}: {}", shown.stdout);
    }
    assert_eq!(lines.len(), 1 + 24 + 20 + 8 + 4 + 4 + 3 + 3 + 2 + 2 + 4 + 1);
    let silent = run(&home, &database, &["doctor"]).await.succeeded();
    assert_eq!((silent.stdout.as_str(), silent.stderr.as_str()), ("", ""));
    assert_eq!(run(&home, &database, &["migrate"]).await.succeeded(), shown, "again");
}

#[tokio::test]
async fn doctor_names_each_difference_with_the_sql_that_mends_it_and_exits_with_1() {
    let home = Home::new();
    let database = Postgres::plain().database();
    run(&home, &database, &["migrate"]).await.succeeded();
    database.psql(
        "ALTER TABLE conversation_messages DROP audio_url, ALTER user_id SET NOT NULL, ADD CHECK (role IN ('user', 'bot'));
         DROP INDEX conversation_messages_by_time",
    );
    let found = run(&home, &database, &["doctor"]).await;
    assert_eq!((found.code, found.stderr.as_str()), (Some(1), ""));
    let expected = "\
-- The 'user_id' column of 'conversation_messages' does not allow null
ALTER TABLE public.conversation_messages ALTER COLUMN \"user_id\" DROP NOT NULL;

-- The check 'conversation_messages_role_check' of 'conversation_messages' does not allow 'assistant', 'system', 'developer', 'tool'
ALTER TABLE public.conversation_messages DROP CONSTRAINT \"conversation_messages_role_check\",
  ADD CONSTRAINT \"conversation_messages_role_check\" CHECK (role IN ('user', 'assistant', 'system', 'developer', 'tool', 'bot'));

-- Could not find the 'audio_url' column of 'conversation_messages'
ALTER TABLE public.conversation_messages ADD COLUMN audio_url text;
GRANT INSERT (audio_url) ON public.conversation_messages TO authenticated;

-- Could not find the index 'conversation_messages_by_time' of 'conversation_messages'
CREATE INDEX IF NOT EXISTS conversation_messages_by_time ON public.conversation_messages (created_at);

";
    assert_eq!(found.stdout, expected);
    let objects = run(&home, &database, &["doctor", "--json"]).await.json_lines();
    assert_eq!(objects.len(), 4);
    let audio_url = json!({
        "table": "conversation_messages",
        "column": "audio_url",
        "problem": "Could not find the 'audio_url' column of 'conversation_messages'",
        "fix": "ALTER TABLE public.conversation_messages ADD COLUMN audio_url text;\n\
                 GRANT INSERT (audio_url) ON public.conversation_messages TO authenticated;"
    });
    assert_eq!(objects[2], audio_url);
    // The output is SQL that psql can run unchanged.
    database.psql(&found.stdout);
    assert_eq!(run(&home, &database, &["doctor"]).await.succeeded().stdout, "");
}

#[tokio::test]
async fn what_migrate_leaves_over_is_printed_below_the_schema_and_it_exits_with_1() {
    let home = Home::new();
    let database = Postgres::plain().database();
    database.psql(BROKEN);
    database.psql("ALTER TABLE conversation_messages ALTER metadata TYPE json");
    let left = run(&home, &database, &["migrate"]).await;
    assert_eq!((left.code, left.stderr.as_str()), (Some(1), ""));
    let (_, below) = left
        .stdout
        .split_once("\n\n-- Not done, because it would change something of your own:\n\n")
        .unwrap();
    let expected = "\
-- The 'metadata' column of 'conversation_messages' is json, not jsonb
ALTER TABLE public.conversation_messages ALTER COLUMN metadata DROP DEFAULT,
  ALTER COLUMN metadata TYPE jsonb USING metadata::text::jsonb;

";
    assert_eq!(below, expected);
    assert_eq!(run(&home, &database, &["doctor"]).await.stdout, expected, "everything else is mended");
}

#[tokio::test]
async fn print_asks_no_database_and_prints_what_psql_and_an_sql_editor_can_run() {
    let home = Home::new();
    let database = Postgres::plain().database();
    let mut command = home.command(&["migrate", "--print"]);
    command.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nowhere");
    let script = Output::of(command).await.succeeded().stdout;
    assert!(
        script.starts_with("-- talktrack: brings the tables conversation_sessions and conversation_messages")
    );
    database.psql(BROKEN);
    let shown = database.psql(&script);
    assert!(shown.lines().any(|line| line == "conversation_messages|audio_url|text|t||"), "{shown}");
    run(&home, &database, &["doctor"]).await.succeeded();
}

#[tokio::test]
async fn with_a_sqlite_store_there_is_nothing_to_do() {
    let home = Home::new();
    for command in ["migrate", "doctor"] {
        let output = home.look(&[command]).await.succeeded();
        assert_eq!(output.stdout, "");
        assert!(output.stderr.starts_with("the store is a SQLite file"), "{output:?}");
    }
    assert!(!home.data_dir().exists(), "looking makes nothing");
}

#[tokio::test]
async fn a_database_out_of_reach_and_a_role_without_rights_are_named_in_one_line_without_the_password() {
    let home = Home::new();
    let database = Postgres::plain().database();
    let nowhere = "postgres://me:hunter2@127.0.0.1:1/x";
    for command in ["migrate", "doctor"] {
        let line = home.run(&[command, "--database-url", nowhere]).await.failed(1);
        assert!(line.contains("postgres://127.0.0.1:1/x: ") && line.contains("refused"), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
    let url = database.url_as(&format!("keyed:{}", talktrack_testbed::KEYED_PASSWORD));
    let line = home.run(&["migrate", "--database-url", &url]).await.failed(1);
    assert!(line.contains("permission denied") && line.contains("talktrack migrate --print"), "{line}");
}

#[tokio::test]
async fn migrate_gives_users_what_is_asked_for_and_keeps_it_until_it_is_asked_otherwise() {
    let home = Home::new();
    let database = Postgres::plain().database();
    let may = || {
        database.psql(
            "SELECT user_access, has_column_privilege('authenticated', 'conversation_messages', 'content', 'INSERT'),
               has_table_privilege('authenticated', 'conversation_messages', 'DELETE') FROM conversation_store",
        )
    };
    for (arguments, expected) in [
        (&["migrate"][..], "write|t|f"),
        (&["migrate", "--users", "delete"], "delete|t|t"),
        (&["migrate"], "delete|t|t"),
        (&["migrate", "--users", "read"], "read|f|f"),
        (&["migrate"], "read|f|f"),
    ] {
        run(&home, &database, arguments).await.succeeded();
        assert_eq!(may(), expected, "{arguments:?}");
        run(&home, &database, &["doctor"]).await.succeeded();
    }
    database.psql(&home.run(&["migrate", "--print", "--users", "write"]).await.succeeded().stdout);
    assert_eq!(may(), "write|t|f");
    database.psql("GRANT DELETE ON conversation_messages TO authenticated");
    let found = run(&home, &database, &["doctor"]).await;
    let problem = "-- The role 'authenticated' may DELETE 'conversation_messages', and must not\n";
    assert!(found.code == Some(1) && found.stdout.starts_with(problem), "{found:?}");
    let refused = home.run(&["migrate", "--users", "all"]).await;
    assert!(
        refused.code == Some(2) && refused.stderr.contains("must be read, write or delete"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn warnings_are_printed_and_are_no_failure() {
    let home = Home::new();
    let database = Postgres::plain().database();
    run(&home, &database, &["migrate"]).await.succeeded();
    database.psql("ALTER TABLE conversation_messages SET UNLOGGED");
    let found = run(&home, &database, &["doctor"]).await.succeeded();
    let expected = "\
-- Warning: The table 'conversation_messages' is UNLOGGED: a crash of the server empties it
ALTER TABLE public.conversation_messages SET LOGGED;

";
    assert_eq!(found.stdout, expected);
    let objects = run(&home, &database, &["doctor", "--json"]).await.succeeded().json_lines();
    assert_eq!((objects.len(), &objects[0]["warning"]), (1, &json!(true)));
    run(&home, &database, &["migrate"]).await.succeeded();
    database.psql("DROP INDEX conversation_messages_by_time");
    assert_eq!(run(&home, &database, &["doctor"]).await.code, Some(1), "beside a difference");
}
