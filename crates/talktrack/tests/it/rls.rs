//! Row-level security, seen from inside: as the roles that PostgREST takes on, with the claims that it sets.

mod plans;

use talktrack_testbed::{Database, Postgres, like_supabase};

use crate::schema::migrate;

pub(crate) const ANN: &str = "00000000-0000-4000-8000-00000000000a";
pub(crate) const BEN: &str = "00000000-0000-4000-8000-00000000000b";
/// A session of each.
pub(crate) const ANNS: &str = "00000000-0000-4000-8000-0000000000a1";
pub(crate) const BENS: &str = "00000000-0000-4000-8000-0000000000b1";

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) enum Caller<'a> {
    Anon,
    User(&'a str),
    Service,
}

/// Runs statements as PostgREST would. Errors begin with their SQLSTATE.
pub(crate) fn as_caller(database: &Database, caller: Caller<'_>, sql: &str) -> Result<String, String> {
    let (role, claims) = match caller {
        Caller::Anon => ("anon", r#"{"role":"anon"}"#.to_owned()),
        Caller::User(user) => ("authenticated", format!(r#"{{"role":"authenticated","sub":"{user}"}}"#)),
        Caller::Service => ("service_role", r#"{"role":"service_role"}"#.to_owned()),
    };
    database.try_psql(&format!(
        "\\set VERBOSITY verbose\nSET ROLE {role};\n\\o /dev/null\nSELECT set_config('request.jwt.claims', '{claims}', false);\n\\o\n{sql};"
    ))
}

/// A session of each, with a message of its user and one of the system, written by the owner of the tables.
pub(crate) fn fill(database: &Database) {
    for (session, user) in [(ANNS, ANN), (BENS, BEN)] {
        database.psql(&format!(
            "INSERT INTO conversation_sessions (session_id, user_id) VALUES ('{session}', '{user}');
             INSERT INTO conversation_messages (session_id, user_id, role, content) VALUES
               ('{session}', '{user}', 'user', 'said'), ('{session}', NULL, 'system', 'be kind')"
        ));
    }
}

/// Both kinds of database, filled: one like Supabase's and a plain one.
async fn databases() -> [Database; 2] {
    let supabase = Postgres::shared().database();
    like_supabase(&supabase);
    let plain = Postgres::plain().database();
    for database in [&supabase, &plain] {
        migrate(database).await;
        fill(database);
    }
    [supabase, plain]
}

/// What somebody sees of both tables.
fn seen(database: &Database, caller: Caller<'_>) -> Result<String, String> {
    let sql = "SELECT string_agg(session_id::text, ' ' ORDER BY session_id) FROM conversation_sessions;
               SELECT string_agg(session_id || ' ' || role, ', ' ORDER BY session_id, role) FROM conversation_messages";
    as_caller(database, caller, sql)
}

#[tokio::test]
async fn a_user_sees_the_own_sessions_the_own_messages_and_the_systems_in_them() {
    for database in databases().await {
        for (user, session) in [(ANN, ANNS), (BEN, BENS)] {
            let expected = format!("{session}\n{session} system, {session} user");
            assert_eq!(seen(&database, Caller::User(user)).unwrap(), expected);
        }
        let nobody = "00000000-0000-4000-8000-00000000000c";
        assert_eq!(seen(&database, Caller::User(nobody)).unwrap(), "");
    }
}

#[tokio::test]
async fn nobody_without_a_name_sees_or_does_anything() {
    for database in databases().await {
        for sql in [
            "SELECT 1 FROM conversation_sessions",
            "SELECT content FROM conversation_messages",
            "DELETE FROM conversation_messages",
            "TRUNCATE conversation_messages",
            "INSERT INTO conversation_sessions (session_id, user_id) VALUES (gen_random_uuid(), gen_random_uuid())",
        ] {
            let line = as_caller(&database, Caller::Anon, sql).unwrap_err();
            assert!(line.contains("42501: permission denied for table"), "{sql}: {line}");
        }
        let sql = "SELECT count(*) FROM conversation_messages";
        database.psql("GRANT SELECT ON conversation_messages TO anon");
        assert_eq!(
            as_caller(&database, Caller::Anon, sql).unwrap(),
            "0",
            "even where somebody gave the right back"
        );
        let without_claims = format!("RESET request.jwt.claims; {sql}");
        assert_eq!(as_caller(&database, Caller::User(ANN), &without_claims).unwrap(), "0");
    }
}

#[tokio::test]
async fn a_user_writes_into_the_own_sessions() {
    for database in databases().await {
        let sql = format!(
            "INSERT INTO conversation_sessions (session_id, user_id) VALUES ('00000000-0000-4000-8000-0000000000a2', '{ANN}');
             INSERT INTO conversation_messages (session_id, user_id, role, content) VALUES
               ('00000000-0000-4000-8000-0000000000a2', '{ANN}', 'assistant', 'x'),
               ('00000000-0000-4000-8000-0000000000a2', NULL, 'system', 'y');
             UPDATE conversation_messages SET content = 'z' WHERE session_id = '{ANNS}';
             UPDATE conversation_sessions SET end_reason = 'completed';
             DELETE FROM conversation_messages WHERE content = 'z';
             DELETE FROM conversation_sessions WHERE session_id = '{ANNS}'"
        );
        as_caller(&database, Caller::User(ANN), &sql).unwrap();
        let left = "SELECT session_id, end_reason FROM conversation_sessions ORDER BY 1;
                    SELECT session_id, content FROM conversation_messages ORDER BY 1, 2";
        let a2 = "00000000-0000-4000-8000-0000000000a2";
        let expected = format!("{a2}|completed\n{BENS}|\n{a2}|x\n{a2}|y\n{BENS}|be kind\n{BENS}|said");
        assert_eq!(database.psql(left), expected);
    }
}

#[tokio::test]
async fn a_user_inserts_changes_and_deletes_nothing_of_others() {
    for database in databases().await {
        let all = "SELECT * FROM conversation_sessions ORDER BY id; SELECT * FROM conversation_messages ORDER BY id";
        let before = database.psql(all);
        let insert = |session: &str, user: &str, role: &str| {
            format!(
                "INSERT INTO conversation_messages (session_id, user_id, role, content) VALUES ('{session}', {user}, '{role}', 'x')"
            )
        };
        let (ann, ben) = (format!("'{ANN}'"), format!("'{BEN}'"));
        for sql in [
            format!(
                "INSERT INTO conversation_sessions (session_id, user_id) VALUES (gen_random_uuid(), '{BEN}')"
            ),
            format!("UPDATE conversation_sessions SET user_id = '{BEN}'"),
            insert(BENS, &ann, "user"),
            insert(BENS, &ben, "user"),
            insert(BENS, "NULL", "system"),
            insert(ANNS, &ben, "user"),
            insert(ANNS, "NULL", "user"),
            format!("UPDATE conversation_messages SET session_id = '{BENS}'"),
            format!("UPDATE conversation_messages SET user_id = '{BEN}'"),
            format!(
                "INSERT INTO conversation_sessions (session_id, user_id) VALUES ('{BENS}', '{ANN}')
                 ON CONFLICT (session_id) DO UPDATE SET user_id = '{ANN}'"
            ),
        ] {
            let line = as_caller(&database, Caller::User(ANN), &sql).unwrap_err();
            assert!(line.contains("42501: new row violates row-level security policy"), "{sql}: {line}");
        }
        for sql in [
            format!("UPDATE conversation_sessions SET end_reason = 'x' WHERE session_id = '{BENS}'"),
            format!("UPDATE conversation_messages SET content = 'x' WHERE session_id = '{BENS}'"),
            format!("DELETE FROM conversation_messages WHERE session_id = '{BENS}'"),
            format!("DELETE FROM conversation_sessions WHERE session_id = '{BENS}'"),
        ] {
            as_caller(&database, Caller::User(ANN), &sql).unwrap();
        }
        for sql in ["TRUNCATE conversation_messages", "TRUNCATE conversation_sessions CASCADE"] {
            let line = as_caller(&database, Caller::User(ANN), sql).unwrap_err();
            assert!(line.contains("42501: permission denied for table"), "{line}");
        }
        assert_eq!(database.psql(all), before);
    }
}

#[tokio::test]
async fn the_service_and_the_owner_of_the_tables_are_not_hindered() {
    for database in databases().await {
        let everything = format!("{ANNS} {BENS}\n{ANNS} system, {ANNS} user, {BENS} system, {BENS} user");
        assert_eq!(seen(&database, Caller::Service).unwrap(), everything);
        let write = format!(
            "INSERT INTO conversation_sessions (session_id, user_id) VALUES (gen_random_uuid(), '{BEN}');
             INSERT INTO conversation_messages (session_id, role, content) VALUES ('{BENS}', 'tool', 'x');
             UPDATE conversation_messages SET content = 'y'; DELETE FROM conversation_messages WHERE role = 'tool'"
        );
        as_caller(&database, Caller::Service, &write).unwrap();
        // An owner who is no superuser, and passes over no policy by right.
        let owner = format!("owner_{}", database.name());
        database.psql(&format!(
            "CREATE ROLE {owner} LOGIN; GRANT USAGE, CREATE ON SCHEMA public TO {owner};
             ALTER TABLE conversation_sessions OWNER TO {owner}; ALTER TABLE conversation_messages OWNER TO {owner};"
        ));
        database.psql(&format!("SET ROLE {owner}; {write}"));
        let count = database.psql(&format!("SET ROLE {owner}; SELECT count(*) FROM conversation_sessions"));
        assert_eq!(count, "4");
        database.psql(&format!(
            "REASSIGN OWNED BY {owner} TO talktrack; DROP OWNED BY {owner}; DROP ROLE {owner}"
        ));
    }
}
