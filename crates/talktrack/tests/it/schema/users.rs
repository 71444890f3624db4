//! The rights of users: `migrate` grants and records what was chosen and revokes the rest, and the doctor checks it.

use talktrack::store::postgres::Address;
use talktrack::store::postgres::schema::{self, UserAccess};
use talktrack_testbed::{Database, Postgres, like_supabase};

use super::starts::STARTS;
use super::{connect, differences, everything, migrate, problems};

/// Rights that an earlier schema granted to users, or that a project may have granted.
const WIDER: &str = "
    GRANT SELECT, INSERT, UPDATE, DELETE ON conversation_sessions, conversation_messages, conversation_search TO authenticated;
    GRANT UPDATE (content) ON conversation_messages TO authenticated;
    GRANT EXECUTE ON FUNCTION insert_conversation_message TO PUBLIC, authenticated;
    CREATE POLICY talktrack_own_search ON conversation_search TO authenticated USING (true)";

/// Returns the rights of `authenticated`: table, privilege and columns.
fn rights(database: &Database) -> String {
    database.psql(
        "SELECT replace(relname, 'conversation_', '') || ' ' || privilege
           || CASE WHEN has_table_privilege('authenticated', c.oid, privilege) THEN '' ELSE
              ' ' || (SELECT string_agg(attname, ',' ORDER BY attname COLLATE \"C\") FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0
                      AND has_column_privilege('authenticated', c.oid, attnum, privilege)) END
         FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])
           WITH ORDINALITY AS p (privilege, place)
         WHERE relname LIKE 'conversation\\_%' AND relkind = 'r' AND (has_table_privilege('authenticated', c.oid, privilege)
           OR place IN (1, 2, 3, 6) AND has_any_column_privilege('authenticated', c.oid, privilege))
         ORDER BY relname DESC, place;
         SELECT 'call' WHERE has_function_privilege('authenticated',
           'insert_conversation_message(uuid, text, text, text, jsonb, uuid)', 'EXECUTE')",
    )
}

fn expected(access: UserAccess) -> String {
    let lines = [
        ("sessions SELECT", UserAccess::Read),
        (
            "sessions INSERT duration_seconds,ended_at,metadata,session_id,started_at,user_id",
            UserAccess::Write,
        ),
        ("sessions UPDATE duration_seconds,ended_at,metadata", UserAccess::Write),
        ("sessions DELETE", UserAccess::Delete),
        ("messages SELECT", UserAccess::Read),
        ("messages INSERT audio_url,content,created_at,metadata,role,session_id,user_id", UserAccess::Write),
        ("messages DELETE", UserAccess::Delete),
        ("call", UserAccess::Write),
    ];
    let given = lines.into_iter().filter(|(_, from)| *from <= access).map(|(line, _)| line);
    given.collect::<Vec<_>>().join("\n")
}

async fn migrate_for(database: &Database, access: UserAccess) {
    assert_eq!(schema::migrate_for(&connect(database).await, access).await.unwrap(), [], "{access}");
}

#[tokio::test]
async fn users_get_the_rights_of_the_access_that_is_chosen_and_no_other() {
    let database = Postgres::plain().database();
    migrate(&database).await;
    assert_eq!(rights(&database), expected(UserAccess::Write), "the first time");
    for access in [UserAccess::Delete, UserAccess::Read, UserAccess::Write, UserAccess::Read] {
        migrate_for(&database, access).await;
        assert_eq!(rights(&database), expected(access), "{access}");
        // The database keeps this access from now on.
        database.psql(WIDER);
        migrate(&database).await;
        assert_eq!(rights(&database), expected(access), "{access} is kept");
    }
}

#[tokio::test]
async fn the_printed_script_gives_what_is_chosen_or_keeps_what_is_noted() {
    for access in UserAccess::ALL {
        let printed = Postgres::plain().database();
        let migrated = Postgres::plain().database();
        for database in [&printed, &migrated] {
            STARTS[4].make(database);
        }
        migrate_for(&migrated, access).await;
        printed.psql(&schema::script_for(access));
        assert_eq!(rights(&printed), expected(access));
        assert_eq!(problems(&printed).await, [""; 0]);
        let once = everything(&printed);
        printed.psql(&schema::script());
        assert_eq!(everything(&printed), once, "{access} is kept");
    }
}

#[tokio::test]
async fn the_doctor_compares_with_what_is_noted_and_its_statements_alone_mend_it() {
    for access in UserAccess::ALL {
        let database = Postgres::plain().database();
        migrate_for(&database, access).await;
        database.psql(WIDER);
        database.psql("DROP POLICY talktrack_own_messages ON conversation_messages");
        let found = differences(&database).await;
        let on = |table| found.iter().filter(|found| found.table == Some(table)).count();
        assert_eq!(
            (on("conversation_sessions"), on("conversation_messages"), on("conversation_search")),
            (1, 2, 2),
            "{found:#?}"
        );
        for difference in &found {
            database.psql(&difference.fix);
        }
        assert_eq!(problems(&database).await, [""; 0], "{access}");
        assert_eq!(rights(&database), expected(access));
    }
}

#[tokio::test]
async fn from_one_access_to_any_other_the_doctors_statements_lead_too() {
    for (from, to) in [
        (UserAccess::Read, UserAccess::Delete),
        (UserAccess::Delete, UserAccess::Read),
        (UserAccess::Write, UserAccess::Read),
        (UserAccess::Read, UserAccess::Write),
    ] {
        let database = Postgres::plain().database();
        migrate_for(&database, from).await;
        database.psql(&format!("UPDATE conversation_store SET user_access = '{to}'"));
        for difference in differences(&database).await {
            database.psql(&difference.fix);
        }
        assert_eq!(problems(&database).await, [""; 0], "{from} to {to}");
        assert_eq!(rights(&database), expected(to), "{from} to {to}");
    }
}

#[tokio::test]
async fn an_access_that_cannot_be_read_is_the_one_that_comes_nearest() {
    let database = Postgres::shared().database();
    like_supabase(&database);
    migrate_for(&database, UserAccess::Delete).await;
    let as_anybody: Address = database.url_as("authenticator").parse().unwrap();
    let client = as_anybody.connect().await.unwrap();
    assert_eq!(schema::differences(&client).await.unwrap(), []);
    database.psql("GRANT UPDATE ON conversation_messages TO authenticated");
    let found = schema::differences(&client).await.unwrap();
    let problem = "The role 'authenticated' may UPDATE 'conversation_messages', and must not";
    assert_eq!(found.iter().map(|found| &*found.problem).collect::<Vec<_>>(), [problem]);
}

#[tokio::test]
async fn a_database_of_an_earlier_schema_is_named_and_narrowed_to_what_users_get_by_default() {
    let database = Postgres::plain().database();
    migrate(&database).await;
    database.psql(WIDER);
    database.psql("ALTER TABLE conversation_store DROP user_access");
    let problem = "Could not find the 'user_access' column of 'conversation_store'";
    assert!(problems(&database).await.iter().any(|found| found == problem));
    migrate(&database).await;
    assert_eq!(rights(&database), expected(UserAccess::Write));
}

#[tokio::test]
async fn rights_to_columns_of_the_projects_own_are_the_projects_business() {
    let database = Postgres::plain().database();
    migrate(&database).await;
    database.psql(
        "ALTER TABLE conversation_sessions ADD \"of which, Team\" text;
         GRANT INSERT (\"of which, Team\"), UPDATE (\"of which, Team\") ON conversation_sessions TO authenticated",
    );
    assert_eq!(problems(&database).await, [""; 0]);
    let given = rights(&database);
    assert!(given.contains("UPDATE duration_seconds,ended_at,metadata,of which, Team\n"), "{given}");
    migrate(&database).await;
    assert_eq!(rights(&database), given, "by a migration");
    database.psql("GRANT UPDATE (status) ON conversation_sessions TO authenticated");
    database.psql(&differences(&database).await[0].fix);
    assert_eq!(rights(&database), given, "by the doctor's statements");
}
