//! Row-level security and grants, seen with the roles and the claims that PostgREST sets.

mod plans;
mod text_users;
mod viewer;

use talktrack::store::postgres::schema::{self, UserAccess};
use talktrack_testbed::{Database, Postgres, like_supabase};

use crate::schema::{connect, migrate};

pub(crate) const ANN: &str = "00000000-0000-4000-8000-00000000000a";
pub(crate) const BEN: &str = "00000000-0000-4000-8000-00000000000b";
/// One session of each user.
pub(crate) const ANNS: &str = "00000000-0000-4000-8000-0000000000a1";
pub(crate) const BENS: &str = "00000000-0000-4000-8000-0000000000b1";

/// The role, and the claims, with which a statement runs.
#[derive(Clone, Copy)]
pub(crate) enum Caller<'a> {
    Anon,
    User(&'a str),
    Service,
}

/// Runs statements as PostgREST would. An error begins with its SQLSTATE.
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

/// Writes one session of each user, with a message of the user and one of the system, as the owner of the tables.
pub(crate) fn fill(database: &Database) {
    for (session, user) in [(ANNS, ANN), (BENS, BEN)] {
        database.psql(&format!(
            "INSERT INTO conversation_sessions (session_id, user_id) VALUES ('{session}', '{user}');
             INSERT INTO conversation_messages (session_id, user_id, role, content) VALUES
               ('{session}', '{user}', 'user', 'said'), ('{session}', NULL, 'system', 'be kind')"
        ));
    }
}

/// Creates a database like Supabase's and a plain one, both filled.
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

/// Returns what the caller sees of both tables.
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

const ANNS_SECOND: &str = "00000000-0000-4000-8000-0000000000a2";

fn insert(session: &str, user: &str, role: &str) -> String {
    format!(
        "INSERT INTO conversation_messages (session_id, user_id, role, content) VALUES ('{session}', {user}, '{role}', 'x')"
    )
}

#[tokio::test]
async fn a_user_writes_into_the_own_sessions() {
    for database in databases().await {
        let sql = format!(
            "INSERT INTO conversation_sessions (session_id, user_id, metadata) VALUES ('{ANNS_SECOND}', '{ANN}', '{{}}');
             INSERT INTO conversation_messages (session_id, user_id, role, content) VALUES
               ('{ANNS_SECOND}', '{ANN}', 'assistant', 'x'), ('{ANNS_SECOND}', NULL, 'system', 'y');
             UPDATE conversation_sessions SET metadata = '{{\"a\": 1}}', duration_seconds = 2"
        );
        as_caller(&database, Caller::User(ANN), &sql).unwrap();
        let left = "SELECT session_id, metadata, duration_seconds FROM conversation_sessions ORDER BY 1;
                    SELECT session_id, content FROM conversation_messages ORDER BY 1, 2";
        let expected = format!(
            "{ANNS}|{{\"a\": 1}}|2\n{ANNS_SECOND}|{{\"a\": 1}}|2\n{BENS}|{{}}|\n\
             {ANNS}|be kind\n{ANNS}|said\n{ANNS_SECOND}|x\n{ANNS_SECOND}|y\n{BENS}|be kind\n{BENS}|said"
        );
        assert_eq!(database.psql(left), expected);
    }
}

/// Statements that need write access, each on its own.
const WRITES: [&str; 4] = [
    "INSERT INTO conversation_sessions (session_id, user_id) VALUES (gen_random_uuid(), '00000000-0000-4000-8000-00000000000a')",
    "UPDATE conversation_sessions SET ended_at = now()",
    "INSERT INTO conversation_messages (session_id, user_id, role, content)
       VALUES ('00000000-0000-4000-8000-0000000000a1', '00000000-0000-4000-8000-00000000000a', 'user', 'x')",
    "SELECT insert_conversation_message('00000000-0000-4000-8000-0000000000a1', 'user', 'x')",
];

#[tokio::test]
async fn a_user_does_what_the_chosen_access_allows_and_deletes_only_with_the_widest() {
    for database in databases().await {
        for access in UserAccess::ALL {
            assert_eq!(schema::migrate_for(&connect(&database).await, access).await.unwrap(), []);
            let may = |sql: &str| as_caller(&database, Caller::User(ANN), &format!("BEGIN; {sql}; ROLLBACK"));
            seen(&database, Caller::User(ANN)).unwrap();
            for sql in WRITES {
                assert_eq!(may(sql).is_ok(), access >= UserAccess::Write, "{access}: {sql}");
            }
            let delete = format!(
                "DELETE FROM conversation_messages WHERE session_id = '{ANNS}';
                 DELETE FROM conversation_sessions WHERE session_id = '{ANNS}'"
            );
            assert_eq!(may(&delete).is_ok(), access >= UserAccess::Delete, "{access}: {delete}");
        }
        let others = "DELETE FROM conversation_messages; DELETE FROM conversation_sessions";
        as_caller(&database, Caller::User(ANN), others).unwrap();
        let left = "SELECT session_id FROM conversation_sessions; SELECT count(*) FROM conversation_messages";
        assert_eq!(database.psql(left), format!("{BENS}\n2"), "the own ones are gone");
    }
}

#[tokio::test]
async fn a_user_sets_no_column_that_is_the_servers_and_changes_no_message() {
    for database in databases().await {
        for sql in [
            "UPDATE conversation_messages SET content = 'z'".to_owned(),
            "UPDATE conversation_messages SET revision = 9".to_owned(),
            "UPDATE conversation_sessions SET message_count = 9223372036854775807".to_owned(),
            "UPDATE conversation_sessions SET status = 'hacked'".to_owned(),
            format!("UPDATE conversation_sessions SET user_id = '{BEN}'"),
            format!(
                "INSERT INTO conversation_sessions (session_id, user_id, status) VALUES (gen_random_uuid(), '{ANN}', 'x')"
            ),
            format!(
                "INSERT INTO conversation_messages (id, session_id, user_id, role, content)
                 VALUES (gen_random_uuid(), '{ANNS}', '{ANN}', 'user', 'x')"
            ),
            format!(
                "INSERT INTO conversation_messages (session_id, user_id, role, content, extra)
                 VALUES ('{ANNS}', '{ANN}', 'user', 'x', '{{}}')"
            ),
            "SELECT 1 FROM conversation_search".to_owned(),
            "SELECT 1 FROM conversation_stats".to_owned(),
            "SELECT 1 FROM conversation_nodes".to_owned(),
            "SELECT 1 FROM conversation_deletions".to_owned(),
            "SELECT 1 FROM conversation_store".to_owned(),
            "TRUNCATE conversation_messages".to_owned(),
            "TRUNCATE conversation_sessions CASCADE".to_owned(),
        ] {
            let line = as_caller(&database, Caller::User(ANN), &sql).unwrap_err();
            assert!(line.contains("42501: permission denied for table"), "{sql}: {line}");
        }
    }
}

#[tokio::test]
async fn a_user_inserts_changes_and_deletes_nothing_of_others() {
    for database in databases().await {
        assert_eq!(schema::migrate_for(&connect(&database).await, UserAccess::Delete).await.unwrap(), []);
        let all = "SELECT * FROM conversation_sessions ORDER BY id; SELECT * FROM conversation_messages ORDER BY id";
        let before = database.psql(all);
        let ann = format!("'{ANN}'");
        let ben = format!("'{BEN}'");
        // An id of version 5 is derived from a name, and only the server may do that.
        let derived = "2ed6657d-e927-568b-95e1-2665a8aea6a2";
        for sql in [
            format!(
                "INSERT INTO conversation_sessions (session_id, user_id) VALUES (gen_random_uuid(), '{BEN}')"
            ),
            format!("INSERT INTO conversation_sessions (session_id, user_id) VALUES ('{derived}', '{ANN}')"),
            insert(BENS, &ann, "user"),
            insert(BENS, &ben, "user"),
            insert(BENS, "NULL", "system"),
            insert(ANNS, &ben, "user"),
            insert(ANNS, "NULL", "user"),
            format!(
                "INSERT INTO conversation_sessions (session_id, user_id) VALUES ('{BENS}', '{ANN}')
                 ON CONFLICT (session_id) DO UPDATE SET ended_at = now()"
            ),
        ] {
            let line = as_caller(&database, Caller::User(ANN), &sql).unwrap_err();
            assert!(line.contains("42501: new row violates row-level security policy"), "{sql}: {line}");
        }
        for sql in [
            format!("UPDATE conversation_sessions SET metadata = '{{}}' WHERE session_id = '{BENS}'"),
            format!("DELETE FROM conversation_messages WHERE session_id = '{BENS}'"),
            format!("DELETE FROM conversation_sessions WHERE session_id = '{BENS}'"),
        ] {
            as_caller(&database, Caller::User(ANN), &sql).unwrap();
        }
        assert_eq!(database.psql(all), before);
    }
}

/// Ids of version 5 can be guessed, because they are derived from names. The policies are checked before
/// the unique index, so an existing and a missing id give the same error.
#[tokio::test]
async fn whether_a_session_of_others_exists_cannot_be_told_from_a_name_or_by_adding_a_message() {
    let derived = "2ed6657d-e927-568b-95e1-2665a8aea6a2";
    let absent_derived = "2ed6657d-e927-568b-95e1-2665a8aea6a3";
    let absent = "00000000-0000-4000-8000-0000000000ff";
    for database in databases().await {
        database.psql(&format!(
            "INSERT INTO conversation_sessions (session_id, user_id) VALUES ('{derived}', '{BEN}')"
        ));
        let start = |id: &str, ending: &str| {
            let sql = format!(
                "INSERT INTO conversation_sessions (session_id, user_id) VALUES ('{id}', '{ANN}') {ending}"
            );
            as_caller(&database, Caller::User(ANN), &sql).unwrap_err()
        };
        for ending in
            ["", "ON CONFLICT DO NOTHING", "ON CONFLICT (session_id) DO UPDATE SET ended_at = now()"]
        {
            assert_eq!(start(derived, ending), start(absent_derived, ending), "{ending}");
        }
        let say = |session: &str| {
            let sql = insert(session, &format!("'{ANN}'"), "user");
            as_caller(&database, Caller::User(ANN), &sql).unwrap_err()
        };
        assert_eq!(say(BENS), say(absent));
        let call = |session: &str| {
            let sql = format!("SELECT insert_conversation_message('{session}', 'user', 'x')");
            as_caller(&database, Caller::User(ANN), &sql).unwrap_err().replace(session, "SESSION")
        };
        assert_eq!(call(BENS), call(absent));
    }
}

#[tokio::test]
async fn policies_of_the_projects_own_for_new_rows_give_no_way_into_others_sessions() {
    for database in databases().await {
        database.psql(
            "CREATE POLICY mine ON conversation_sessions FOR INSERT TO authenticated WITH CHECK (auth.uid() = user_id);
             CREATE POLICY mine ON conversation_messages FOR INSERT TO authenticated WITH CHECK (auth.uid() = user_id)",
        );
        let derived = "2ed6657d-e927-568b-95e1-2665a8aea6a2";
        for sql in [
            insert(BENS, &format!("'{ANN}'"), "user"),
            format!("INSERT INTO conversation_sessions (session_id, user_id) VALUES ('{derived}', '{ANN}')"),
        ] {
            let line = as_caller(&database, Caller::User(ANN), &sql).unwrap_err();
            assert!(line.contains("42501: new row violates row-level security policy"), "{sql}: {line}");
        }
        as_caller(&database, Caller::User(ANN), &insert(ANNS, &format!("'{ANN}'"), "user")).unwrap();
    }
}

#[tokio::test]
async fn a_subject_that_is_no_uuid_owns_nothing_and_is_no_error() {
    for database in databases().await {
        for subject in [
            "ann@example.org",
            "",
            "00000000-0000-4000-8000-00000000000",
            "{00000000-0000-4000-8000-00000000000a}",
        ] {
            let caller = Caller::User(subject);
            assert_eq!(seen(&database, caller).unwrap(), "", "{subject}");
            as_caller(&database, caller, "UPDATE conversation_sessions SET ended_at = now()").unwrap();
            for sql in [
                insert(ANNS, &format!("'{ANN}'"), "user"),
                format!(
                    "INSERT INTO conversation_sessions (session_id, user_id) VALUES (gen_random_uuid(), '{ANN}')"
                ),
            ] {
                let line = as_caller(&database, caller, &sql).unwrap_err();
                assert!(line.contains("42501: new row violates row-level security"), "{subject}: {line}");
            }
        }
        let shouting = ANN.to_uppercase();
        assert!(seen(&database, Caller::User(&shouting)).unwrap().starts_with(ANNS), "the case is no matter");
        assert_eq!(database.psql("SELECT count(ended_at) FROM conversation_sessions"), "0");
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
        // An owner who is not a superuser and does not bypass the policies by any other right.
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
