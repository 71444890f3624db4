//! Case 4: the schema changes while the server runs. All rows wait, `/readyz` names the difference, and the server
//! continues without a restart once the schema is repaired as `/readyz` says.

use talktrack_testbed::{Database, Postgres};

use super::cut;
use super::ordeal::Ordeal;
use super::stand::{Remote, Stand};

/// How the schema is repaired.
enum Mend<'a> {
    /// By `talktrack migrate`.
    Migrate,
    /// By the statements that `talktrack doctor` prints.
    Doctor,
    /// By statements that revert the change.
    Undo(&'a str),
}

/// Changes the schema with `harm`, checks that `/readyz` reports it in these words, and repairs it.
async fn drifts(ordeal: &Ordeal, harm: &str, words: &str, fix: Mend<'_>) {
    let database = &ordeal.remote().database;
    alter(database, harm);
    ordeal.goes_on_despite(words).await;
    match fix {
        Mend::Migrate => drop(ordeal.stand.home.look_at(&database.url(), &["migrate"]).await.succeeded()),
        Mend::Doctor => {
            let found = ordeal.stand.home.look_at(&database.url(), &["doctor", "--json"]).await.json_lines();
            found.iter().for_each(|difference| drop(alter(database, difference["fix"].as_str().unwrap())));
        }
        Mend::Undo(sql) => drop(alter(database, sql)),
    }
    ordeal.recovers().await;
}

/// Runs statements on tables in use. Repeats them after a deadlock with a transaction that locks the tables in another
/// order.
fn alter(database: &Database, sql: &str) -> String {
    loop {
        match database.try_psql(&format!("BEGIN; {sql}; COMMIT")) {
            Ok(answer) => return answer,
            Err(said) => assert!(said.contains("deadlock detected"), "{said}: {sql}"),
        }
    }
}

async fn ordeal() -> Ordeal {
    Ordeal::begin(Stand::on_postgres().await).await
}

/// Creates a role that can read and write the tables and has no other rights.
fn writer(database: &Database, attributes: &str) -> String {
    let role = format!("writer_of_{}", database.name());
    database.psql(&format!("CREATE ROLE {role} LOGIN {attributes}"));
    database.psql(&format!("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}"));
    database.psql(&format!("CREATE POLICY writer ON conversation_store TO {role} USING (true)"));
    database.psql(&format!(
        "CREATE POLICY writer ON conversation_nodes TO {role} USING (true) WITH CHECK (true)"
    ));
    role
}

/// Starts the same ordeal with a server that connects as such a role.
async fn ordeal_of_a_writer(attributes: &str, prepare: impl Fn(&Database, &str)) -> (Ordeal, String) {
    let remote = Remote::on(Postgres::shared()).await;
    let role = writer(&remote.database, attributes);
    prepare(&remote.database, &role);
    (Ordeal::begin(Stand::on_remote(remote.with_role(role.clone()))).await, role)
}

/// Ends the ordeal and drops the role, which belongs to the cluster and would outlive the database.
async fn ends_with_its_role(ordeal: Ordeal, role: &str) {
    ordeal.ends().await.without_dead_letters();
    Postgres::shared().psql("postgres", &format!("DROP ROLE {role}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_are_dropped_renamed_retyped_or_have_to_be_filled_are_named_and_cost_nothing() {
    let ordeal = ordeal().await;
    for _ in 0..cut::rounds(1, 5) {
        drifts(
            &ordeal,
            "ALTER TABLE conversation_messages DROP audio_url",
            "store: Could not find the 'audio_url' column of 'conversation_messages' (run: talktrack migrate)",
            Mend::Migrate,
        )
        .await;
        drifts(
            &ordeal,
            "ALTER TABLE conversation_messages RENAME content TO body",
            "Could not find the 'content' column of 'conversation_messages'",
            Mend::Undo("ALTER TABLE conversation_messages RENAME body TO content"),
        )
        .await;
        drifts(
            &ordeal,
            "ALTER TABLE conversation_sessions RENAME started_at TO session_start",
            "Could not find the 'started_at' column of 'conversation_sessions' (run: talktrack migrate)",
            Mend::Migrate,
        )
        .await;
        drifts(
            &ordeal,
            // PostgreSQL does not change the type of a column that the condition of an index uses.
            "DROP INDEX conversation_messages_interrupted; ALTER TABLE conversation_messages \
             ALTER interrupted DROP DEFAULT, ALTER interrupted TYPE integer USING interrupted::integer",
            "The 'interrupted' column of 'conversation_messages' is integer, not boolean (run: talktrack doctor)",
            Mend::Doctor,
        )
        .await;
        drifts(
            &ordeal,
            "ALTER TABLE conversation_messages ADD tenant text NOT NULL DEFAULT 'acme'; \
             ALTER TABLE conversation_messages ALTER tenant DROP DEFAULT",
            "The 'tenant' column of 'conversation_messages' is your own, allows no null and has no default",
            Mend::Doctor,
        )
        .await;
        ordeal.remote().database.psql("ALTER TABLE conversation_messages DROP tenant");
    }
    ordeal.ends().await.without_dead_letters();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_dropped_are_named_and_nothing_is_doubled_meanwhile() {
    let ordeal = ordeal().await;
    for _ in 0..cut::rounds(1, 5) {
        drifts(
            &ordeal,
            "ALTER TABLE conversation_messages DROP CONSTRAINT conversation_messages_pkey",
            "The 'id' column of 'conversation_messages' is not unique (run: talktrack migrate)",
            Mend::Migrate,
        )
        .await;
        let key = ordeal.remote().database.psql(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'conversation_sessions'::regclass AND contype = 'u'",
        );
        drifts(
            &ordeal,
            &format!("ALTER TABLE conversation_sessions DROP CONSTRAINT {key} CASCADE"),
            "The 'session_id' column of 'conversation_sessions' is not unique",
            Mend::Migrate,
        )
        .await;
    }
    ordeal.ends().await.without_dead_letters();
}

/// Drops both tables and tells the oracle which rows they held at that moment.
fn drop_tables(ordeal: &Ordeal) {
    let rows = alter(
        &ordeal.remote().database,
        "LOCK TABLE conversation_sessions, conversation_messages; \
         SELECT id, revision FROM conversation_messages; SELECT session_id, 'session' FROM conversation_sessions; \
         DROP TABLE conversation_messages, conversation_sessions",
    );
    let mut notes = ordeal.stand.oracle.notes();
    for (id, what) in rows.lines().filter_map(|row| row.split_once('|')) {
        let id = id.parse().unwrap();
        match what {
            "session" => drop(notes.sessions_taken_away.insert(id)),
            revision => drop(notes.taken_away.insert(id, revision.parse().unwrap())),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_are_dropped_take_with_them_what_was_in_them_and_nothing_else() {
    let ordeal = ordeal().await;
    for _ in 0..cut::rounds(1, 10) {
        drop_tables(&ordeal);
        ordeal.goes_on_despite("Could not find the table 'public.conversation_").await;
        ordeal.complains_of("(run: talktrack migrate)").await;
        ordeal.stand.home.look_at(&ordeal.remote().database.url(), &["migrate"]).await.succeeded();
        ordeal.recovers().await;
    }
    ordeal.ends().await.without_dead_letters();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_are_revoked_are_named_and_cost_nothing() {
    let (ordeal, role) = ordeal_of_a_writer("BYPASSRLS", |_, _| {}).await;
    for _ in 0..cut::rounds(1, 5) {
        for (right, table) in
            [("INSERT", "conversation_messages"), ("UPDATE, INSERT", "conversation_sessions")]
        {
            drifts(
                &ordeal,
                &format!("REVOKE {right} ON {table} FROM {role}"),
                &format!(
                    "permission denied for table {table} (SQLSTATE 42501); grant the rights to the user"
                ),
                Mend::Undo(&format!("GRANT {right} ON {table} TO {role}")),
            )
            .await;
        }
    }
    ends_with_its_role(ordeal, &role).await;
}

/// Returns the policies that let a role read and write all rows.
fn let_in(role: &str) -> String {
    ["conversation_sessions", "conversation_messages"]
        .map(|table| format!("CREATE POLICY writer ON {table} TO {role} USING (true) WITH CHECK (true)"))
        .join("; ")
}

const SHUT_OUT: &str =
    "DROP POLICY writer ON conversation_sessions; DROP POLICY writer ON conversation_messages";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_level_security_without_a_policy_is_named_and_costs_nothing() {
    let (ordeal, role) = ordeal_of_a_writer("", |database, role| drop(database.psql(&let_in(role)))).await;
    for _ in 0..cut::rounds(1, 10) {
        let words = "needs a policy of its own, or to own the tables (docs/supabase.md)";
        drifts(&ordeal, SHUT_OUT, words, Mend::Undo(&let_in(&role))).await;
    }
    ends_with_its_role(ordeal, &role).await;
}

/// Returns a user's own trigger that runs before each insert into a table.
fn trigger(table: &str, name: &str, does: &str) -> String {
    format!(
        "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {does}; END $$; \
         CREATE TRIGGER {name} BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn triggers_that_raise_or_swallow_are_named_and_cost_nothing() {
    let ordeal = ordeal().await;
    let undo = |name: &str| format!("DROP FUNCTION {name} CASCADE");
    for _ in 0..cut::rounds(1, 5) {
        for table in ["conversation_messages", "conversation_sessions"] {
            drifts(
                &ordeal,
                &trigger(table, "grumble", "RAISE EXCEPTION 'not today'"),
                "refused by PL/pgSQL function grumble() line 1 at RAISE (SQLSTATE P0001)",
                Mend::Undo(&undo("grumble")),
            )
            .await;
            drifts(
                &ordeal,
                &trigger(table, "swallow", "RETURN NULL"),
                &format!(
                    "The trigger 'swallow' of '{table}' discards rows without an error: fix it or drop it"
                ),
                Mend::Undo(&undo("swallow")),
            )
            .await;
        }
    }
    ordeal.ends().await.without_dead_letters();
}
