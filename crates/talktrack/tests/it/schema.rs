//! The schema in PostgreSQL: a migration turns every database into the same one, and keeps its rows.

mod drift;
mod function;
mod odd;
mod rights;
mod starts;
mod users;

use serde_json::Value;
use starts::STARTS;
use talktrack::store::postgres::schema::{self, ColumnInfo, Difference};
use talktrack::store::postgres::{Address, Connection};
use talktrack_testbed::{Database, Postgres, like_supabase, open_client};

/// Opens a connection as the code under test does.
pub(crate) async fn connect(database: &Database) -> Connection {
    let address: Address = database.url().parse().unwrap();
    address.connect().await.unwrap()
}

/// Migrates the database, and checks that nothing is left to repair.
pub(crate) async fn migrate(database: &Database) {
    let client = connect(database).await;
    assert_eq!(schema::migrate(&client).await.unwrap(), []);
}

pub(crate) async fn differences(database: &Database) -> Vec<Difference> {
    schema::differences(&connect(database).await).await.unwrap()
}

async fn problems(database: &Database) -> Vec<String> {
    differences(database).await.into_iter().map(|difference| difference.problem).collect()
}

/// Returns the columns of the schema, without columns of the user's own, in an order that does
/// not depend on the database.
async fn ours(database: &Database) -> Vec<ColumnInfo> {
    let mut columns = schema::describe(&connect(database).await).await.unwrap();
    columns.retain(|column| column.remark.as_deref() != Some("your own"));
    columns.sort_by(|a, b| (&a.table, &a.column).cmp(&(&b.table, &b.column)));
    columns
}

/// Returns every row of a table as JSON, in an order that no migration changes.
fn rows(database: &Database, table: &str) -> Vec<Value> {
    let query =
        format!("SELECT to_jsonb(t) FROM {table} t ORDER BY session_id, to_jsonb(t) ->> 'created_at'");
    database.psql(&query).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Checks that each column of each earlier row still exists, under its current name, with its former
/// value. A null may have been filled in.
fn assert_kept(before: &[Value], after: &[Value], what: &str) {
    assert_eq!(before.len(), after.len(), "{what}");
    for (before, after) in before.iter().zip(after) {
        for (column, value) in before.as_object().unwrap() {
            let today = match column.as_str() {
                "session_start" => "started_at",
                "session_end" => "ended_at",
                same => same,
            };
            let filled = value.is_null() && !after[today].is_null();
            assert!(after[today] == *value || filled, "{what}: {column}: {before} became {after}");
        }
    }
}

/// Returns everything that a migration could change, and all rows with the transactions that wrote them.
fn everything(database: &Database) -> String {
    let tables = "('conversation_sessions'::regclass, 'conversation_messages'::regclass)";
    database.psql(&format!(
        "SELECT xmin, t FROM conversation_sessions t ORDER BY session_id;
         SELECT xmin, t FROM conversation_messages t ORDER BY id;
         SELECT attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, attnum,
           (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum)
           FROM pg_attribute WHERE attrelid IN {tables} ORDER BY 1, 5;
         SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE conrelid IN {tables} ORDER BY 1, 2;
         SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN {tables} ORDER BY 1;
         SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid IN {tables} AND NOT tgisinternal ORDER BY 1;
         SELECT * FROM pg_policies WHERE schemaname = 'public' ORDER BY tablename, policyname;
         SELECT relname, relacl, relrowsecurity FROM pg_class WHERE oid IN {tables} ORDER BY 1;
         SELECT proname, proacl, prosrc, proconfig FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1;
         SELECT nspname, nspacl FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp' ORDER BY 1;
         SELECT proname FROM pg_proc WHERE proname LIKE 'talktrack%';"
    ))
}

#[tokio::test]
async fn an_empty_database_gets_the_schema() {
    let database = Postgres::plain().database();
    let client = connect(&database).await;
    let found = schema::differences(&client).await.unwrap();
    let missing: Vec<_> = found.iter().map(|difference| difference.problem.as_str()).collect();
    for table in ["conversation_sessions", "conversation_messages"] {
        let problem = format!("Could not find the table 'public.{table}'");
        assert!(missing.contains(&problem.as_str()), "{missing:?}");
    }
    assert_eq!(schema::migrate(&client).await.unwrap(), []);
    let columns = schema::describe(&client).await.unwrap();
    let count = |table| columns.iter().filter(|column| column.table == table).count();
    assert_eq!((count("conversation_sessions"), count("conversation_messages")), (24, 20));
    assert!(columns.iter().all(|column| column.remark.is_none()));
}

#[tokio::test]
async fn every_broken_database_becomes_the_same_and_keeps_its_rows() {
    let empty = Postgres::plain().database();
    migrate(&empty).await;
    let expected = ours(&empty).await;
    for start in &STARTS {
        let database = Postgres::plain().database();
        start.make(&database);
        let before = [rows(&database, "conversation_sessions"), rows(&database, "conversation_messages")];
        let found = problems(&database).await;
        for problem in start.differences {
            assert!(found.iter().any(|found| found == problem), "{}: {problem}: {found:#?}", start.name);
        }
        migrate(&database).await;
        let after = [rows(&database, "conversation_sessions"), rows(&database, "conversation_messages")];
        assert_kept(&before[0], &after[0], start.name);
        assert_kept(&before[1], &after[1], start.name);
        let filled: Vec<_> =
            after[0].iter().map(|row| (row["status"].clone(), row["message_count"].clone())).collect();
        assert_eq!(filled, [("ended".into(), 2.into()), ("active".into(), 1.into())], "{}", start.name);
        let mut columns = ours(&database).await;
        for column in columns.iter_mut().zip(&expected).filter(|(is, _)| is.sql_type == "character varying") {
            column.0.sql_type.clone_from(&column.1.sql_type);
        }
        for (column, expected) in columns.iter_mut().zip(&expected) {
            // A default of the user's own stays as it is, so only its presence is compared.
            assert_eq!(column.default.is_some(), expected.default.is_some(), "{}: {column:?}", start.name);
            column.default.clone_from(&expected.default);
        }
        assert_eq!(columns, expected, "{}", start.name);
    }
}

#[tokio::test]
async fn running_it_again_changes_nothing() {
    for start in &STARTS {
        let database = Postgres::plain().database();
        start.make(&database);
        migrate(&database).await;
        let once = everything(&database);
        migrate(&database).await;
        assert_eq!(everything(&database), once, "{}", start.name);
    }
}

#[tokio::test]
async fn what_is_the_users_own_stays_as_it_is_and_hears_nothing() {
    let database = Postgres::plain().database();
    STARTS[5].make(&database);
    let own = || {
        database.psql(
            "SELECT count(*) FROM heard;
             SELECT tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger
               WHERE NOT tgisinternal AND tgname NOT LIKE 'talktrack%' ORDER BY 1;
             SELECT * FROM pg_policies WHERE policyname NOT LIKE 'talktrack%';
             SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f' ORDER BY 1;
             SELECT pg_get_indexdef('own_index'::regclass);",
        )
    };
    let before = own();
    migrate(&database).await;
    assert_eq!(own(), before);
    database.psql("UPDATE conversation_messages SET metadata = '{}'; UPDATE conversation_sessions SET end_reason = 'x';");
    let heard = database.psql("SELECT what, count(*) FROM heard GROUP BY 1 ORDER BY 1");
    // Three inserts and three updates of messages, for which only one of the two triggers is enabled,
    // and two updates of sessions.
    assert_eq!(heard, "message|6\nsession|2");
}

#[tokio::test]
async fn a_database_like_supabases_keeps_its_roles_and_shuts_anon_out() {
    let uid =
        "SELECT proname, prosrc, proacl FROM pg_proc WHERE pronamespace = 'auth'::regnamespace ORDER BY 1";
    let roles = "SELECT rolname, rolcanlogin, rolinherit, rolbypassrls FROM pg_roles ORDER BY 1";
    for start in [None, Some(&STARTS[4])] {
        let database = Postgres::shared().database();
        like_supabase(&database);
        if let Some(start) = start {
            start.make(&database);
            let own = "ALTER TABLE conversation_sessions OWNER TO postgres; ALTER TABLE conversation_messages OWNER TO postgres";
            database.psql(own);
            assert_eq!(may(&database), "t|t", "default privileges open every new table");
        }
        let before = [database.psql(uid), database.psql(roles)];
        let address: Address = database.url_as("postgres").parse().unwrap();
        let client = address.connect().await.unwrap();
        for _ in 0..2 {
            let left = schema::migrate(&client).await.unwrap();
            assert_eq!(left, [], "as the project's own user, who is no superuser");
        }
        assert_eq!([database.psql(uid), database.psql(roles)], before);
        assert_eq!(may(&database), "f|f");
    }
}

/// Returns two privileges that the roles of the API must not have.
fn may(database: &Database) -> String {
    database.psql(
        "SELECT has_table_privilege('anon', 'conversation_messages', 'SELECT'),
           has_table_privilege('authenticated', 'conversation_messages', 'TRUNCATE')",
    )
}

#[tokio::test]
async fn plain_postgresql_gets_the_roles_and_auth_uid_and_loses_none_of_them_to_a_second_database() {
    let cluster = Postgres::start();
    let one = cluster.database();
    let two = cluster.database();
    let missing = [
        "role 'anon'",
        "role 'authenticated'",
        "role 'service_role'",
        "function 'auth.uid()'",
        "function 'auth.jwt()'",
    ];
    let expected: Vec<_> = missing.iter().map(|what| format!("Could not find the {what}")).collect();
    assert_eq!(problems(&one).await[..5], expected);
    // Roles belong to the whole server, and here two migrations create them at the same moment.
    tokio::join!(migrate(&one), migrate(&two));
    let roles = "SELECT rolname, rolcanlogin, rolsuper, rolbypassrls FROM pg_roles
                 WHERE rolname IN ('anon', 'authenticated', 'service_role') ORDER BY 1";
    assert_eq!(one.psql(roles), "anon|f|f|f\nauthenticated|f|f|f\nservice_role|f|f|f");
    for database in [&one, &two] {
        let claims = |claims: &str| {
            let set = format!("SET request.jwt.claims = '{claims}'; SET ROLE authenticated");
            database.psql(&format!("{set}; SELECT coalesce(auth.uid()::text, 'nobody')"))
        };
        let user = "00000000-0000-4000-8000-0000000000b0";
        assert_eq!(claims(&format!(r#"{{"sub":"{user}"}}"#)), user);
        let nobody = ["{}", "", r#"{"sub":""}"#, r#"{"sub":"ann@example.org"}"#, r#"{"sub":7}"#];
        assert_eq!(nobody.map(claims), ["nobody"; 5]);
    }
}

#[tokio::test]
async fn the_printed_script_does_the_same_and_shows_the_final_schema() {
    let printed = Postgres::plain().database();
    let migrated = Postgres::plain().database();
    for database in [&printed, &migrated] {
        STARTS[4].make(database);
    }
    migrate(&migrated).await;
    let shown = printed.psql(&schema::script());
    let line = "conversation_sessions|status|text|f|'active'::text|";
    assert!(shown.lines().any(|shown| shown == line), "{shown}");
    assert_eq!(problems(&printed).await, [""; 0]);
    assert_eq!(ours(&printed).await, ours(&migrated).await);
    let twice = everything(&printed);
    // An SQL editor sends the script in one piece.
    open_client(&printed.url()).await.batch_execute(&schema::script()).await.unwrap();
    assert_eq!(everything(&printed), twice);
    assert!(schema::script().lines().all(|line| !line.starts_with('\\')), "no commands of psql");
}

#[tokio::test]
async fn the_mending_statements_of_the_doctor_alone_make_every_database_right() {
    for start in &STARTS {
        let database = Postgres::plain().database();
        start.make(&database);
        for difference in differences(&database).await {
            let fix = &difference.fix;
            database.psql(fix);
        }
        assert_eq!(problems(&database).await, [""; 0], "{}", start.name);
    }
    let empty = Postgres::plain().database();
    let mends: Vec<_> = differences(&empty).await.into_iter().map(|difference| difference.fix).collect();
    empty.psql(&mends.join("\n"));
    assert_eq!(problems(&empty).await, [""; 0]);
}
