//! The commands with PostgreSQL as the store give the same results as with SQLite.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use talktrack_testbed::{Database, Postgres, Proxy};
use uuid::Uuid;

use crate::harness::remote::{arrives, migrated, select};
use crate::harness::{Client, Home, Output, Server, Tail, until};

/// Longer than a command that reads may wait for an unavailable database.
const PATIENCE: Duration = Duration::from_secs(15);

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).to_str().unwrap().to_owned()
}

/// Two homes with the same imported files: one in SQLite, one in PostgreSQL.
struct Both {
    local: Home,
    remote: Home,
    database: Database,
}

impl Both {
    async fn with_fixtures() -> Self {
        let local = Home::new();
        let remote = Home::new();
        let both = Self { local, remote, database: migrated(Postgres::shared()).await };
        let files = [fixture("conversations.jsonl"), fixture("unicode.jsonl")];
        both.run(&["import", &files[0], &files[1]]).await;
        both
    }

    /// Runs a command in both homes; both must succeed.
    async fn run(&self, arguments: &[&str]) -> [Output; 2] {
        let local = self.local.look(arguments).await.succeeded();
        [local, self.remote.look_at(&self.database.url(), arguments).await.succeeded()]
    }
}

/// Removes the order of acceptance, which follows the clock and differs between two imports.
fn without_seq(mut rows: Vec<Value>) -> Vec<Value> {
    for row in &mut rows {
        let _ = row.as_object_mut().unwrap().remove("seq");
    }
    rows
}

/// Rewrites JSON in a uniform spelling, because PostgreSQL sorts the keys.
fn normalised(shown: &str) -> String {
    let line = |line: &str| {
        let (before, rest) = line.split_at(line.find(['{', '[']).unwrap_or(line.len()));
        let json = serde_json::from_str::<Value>(rest).map_or(rest.to_owned(), |json| json.to_string());
        format!("{before}{json}\n")
    };
    shown.lines().map(line).collect()
}

#[tokio::test]
async fn what_is_looked_at_is_the_same_as_with_sqlite() {
    let both = Both::with_fixtures().await;
    let listed = both.local.look(&["sessions", "--json"]).await.json_lines();
    let [ann, _] = [&listed[0], &listed[1]].map(|row| row["user_id"].as_str().unwrap().to_owned());
    let ids: Vec<_> = listed.iter().map(|row| row["session_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 9);
    let mut questions = vec![
        vec!["sessions"],
        vec!["sessions", "--limit", "3"],
        vec!["sessions", "--user", &ann],
        vec!["sessions", "--json"],
        vec!["show", &ids[3][..18]],
    ];
    questions.extend(ids.iter().map(|id| vec!["show", id.as_str()]));
    for question in &questions {
        let [local, remote] = both.run(question).await;
        assert_eq!(remote.stderr, local.stderr, "{question:?}");
        if question.contains(&"--json") {
            assert_eq!(remote.json_lines(), local.json_lines(), "{question:?}");
        } else {
            assert_eq!(normalised(&remote.stdout), normalised(&local.stdout), "{question:?}");
        }
    }
    let [local, remote] = both.run(&["show", &ids[0], "--json"]).await;
    assert_eq!(without_seq(remote.json_lines()), without_seq(local.json_lines()));
    let [local, remote] = both.run(&["export"]).await;
    assert_eq!(remote.json_lines(), local.json_lines());
    let [local, remote] = both.run(&["verify", "--json"]).await.map(|output| output.json());
    for figure in ["balanced", "pending", "sessions", "messages", "dead_letters", "journal", "problems"] {
        assert_eq!(remote[figure], local[figure], "{figure}: {remote}");
    }
    let count = usize::try_from(local["messages"].as_u64().unwrap()).unwrap();
    let by_id = |rows: Vec<Value>| {
        let mut rows = without_seq(rows);
        rows.sort_by_key(|row| row["id"].to_string());
        rows
    };
    let local = Tail::start(&both.local, &["--json", "--since-start"]).take(count).await;
    let url = both.database.url();
    let arguments = ["--json", "--since-start", "--database-url", &url];
    let remote = Tail::start(&both.remote, &arguments).take(count).await;
    assert_eq!(by_id(remote), by_id(local));
}

#[tokio::test]
async fn an_import_again_changes_nothing_and_what_is_exported_can_go_back_and_forth() {
    let both = Both::with_fixtures().await;
    let url = both.database.url();
    let everything = || {
        let sessions = select(&both.database, "SELECT * FROM conversation_sessions ORDER BY session_id");
        (sessions, select(&both.database, "SELECT * FROM conversation_messages ORDER BY id"))
    };
    let before = everything();
    let file = fixture("conversations.jsonl");
    both.remote.look_at(&url, &["import", &file]).await.succeeded();
    assert!(everything() == before, "an import again changes something");
    both.remote.look_at(&url, &["verify"]).await.succeeded();

    // Export and import from SQLite to PostgreSQL and back to SQLite: the exported files must be equal.
    let first = both.local.path("first.jsonl");
    let second = both.local.path("second.jsonl");
    let [first, second] = [first, second].map(|path| path.to_str().unwrap().to_owned());
    both.local.look(&["export", "--output", &first]).await.succeeded();
    let there = migrated(Postgres::shared()).await;
    let back = Home::new();
    let through = Home::new();
    through.look_at(&there.url(), &["import", &first]).await.succeeded();
    through.look_at(&there.url(), &["export", "--output", &second]).await.succeeded();
    back.look(&["import", &second]).await.succeeded();
    let exported = |output: Output| output.succeeded().json_lines();
    let original = exported(both.local.look(&["export"]).await);
    assert_eq!(exported(through.look_at(&there.url(), &["export"]).await), original);
    assert_eq!(exported(back.look(&["export"]).await), original);
    back.verify().await;
}

#[tokio::test]
async fn an_import_that_the_database_does_not_take_says_so_and_the_next_one_brings_it_there() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let url = database.url();
    let file = fixture("unicode.jsonl");
    database.psql("ALTER TABLE conversation_messages DROP audio_url");
    let output = home.look_at(&url, &["import", &file, "--json"]).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("Could not find the 'audio_url' column"), "{}", output.stderr);
    assert_eq!((&output.json()["messages"], &output.json()["pending"]), (&json!(16), &json!(16)));
    home.look_at(&url, &["migrate"]).await.succeeded();
    let summary = home.look_at(&url, &["import", &file, "--json"]).await.succeeded().json();
    assert_eq!((&summary["messages"], &summary["pending"]), (&json!(16), &json!(0)), "{summary}");
    let report = home.look_at(&url, &["verify", "--json"]).await.succeeded().json();
    assert_eq!((&report["balanced"], &report["messages"]), (&json!(true), &json!(16)), "{report}");
}

#[tokio::test]
async fn a_database_that_is_down_or_does_not_answer_is_told_in_one_line_and_soon() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let proxy = Proxy::to(Postgres::shared().port());
    let url = database.url_at(proxy.port());
    let id = Uuid::new_v4().to_string();
    let commands = [&["sessions"][..], &["show", &id], &["export"], &["verify"], &["doctor"]];
    for break_it in [Proxy::cut, Proxy::hang] {
        break_it(&proxy);
        let began = Instant::now();
        let told = commands.map(|command| home.look_at(&url, command));
        for line in futures_util::future::join_all(told).await {
            let line = line.failed(1);
            assert!(line.starts_with("talktrack: ") || line.contains("database"), "{line}");
        }
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    }
}

/// Starts a server whose database refuses messages that begin with `poison` by a constraint, and sends one of them.
async fn with_a_letter(home: &Home, database: &Database) -> (Server, Client) {
    database.psql(
        "ALTER TABLE conversation_messages ADD CONSTRAINT no_poison CHECK (content NOT LIKE 'poison%')",
    );
    let server = home.serve_on(&database.url()).await;
    let mut client = Client::new(&server).await;
    for content in ["first", "poison SECRET", "last"] {
        client.say(content).await;
    }
    arrives(database, client.session, &["first", "last"]).await;
    server.drained().await;
    (server, client)
}

#[tokio::test]
async fn a_row_refused_by_a_rule_of_the_users_own_is_a_dead_letter_until_the_rule_is_gone() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let (server, client) = with_a_letter(&home, &database).await;
    assert!(!server.log().contains("SECRET"), "what was said must never be logged");
    server.readiness(200).await;
    let url = database.url();
    let letters =
        async |arguments: &[&str]| home.look_at(&url, &[&["dead-letters"], arguments].concat()).await;
    let listed = letters(&["list", "--json"]).await.succeeded().json_lines();
    assert_eq!(listed.len(), 1);
    let seq = listed[0]["seq"].to_string();
    let shown = letters(&["show", &seq]).await.succeeded().stdout;
    for told in [listed[0]["detail"].as_str().unwrap(), &shown, &server.log()] {
        assert!(told.contains("no_poison") && told.contains("conversation_messages"), "{told}");
    }
    home.look_at(&url, &["verify"]).await.succeeded();

    // The constraint still exists. The command may report success, but the message becomes a new dead letter as soon as
    // the database accepts another row.
    let output = letters(&["replay", &seq]).await;
    assert!(matches!(output.code, Some(0 | 1)), "{output:?}");
    Client::new(&server).await.say("elsewhere").await;
    server.drained().await;
    let listed = letters(&["list", "--json"]).await.succeeded().json_lines();
    assert_eq!(listed.len(), 1);
    assert_ne!(listed[0]["seq"].to_string(), seq);

    database.psql("ALTER TABLE conversation_messages DROP CONSTRAINT no_poison");
    letters(&["replay", "--all"]).await.succeeded();
    // The replayed message has the place in the order of its original time.
    arrives(&database, client.session, &["first", "poison SECRET", "last"]).await;
    server.drained().await;
    assert_eq!(letters(&["list", "--json"]).await.succeeded().stdout, "");
    let report = home.look_at(&url, &["verify", "--json"]).await.succeeded().json();
    assert_eq!(
        (&report["balanced"], &report["messages"], &report["dead_letters"]),
        (&json!(true), &json!(4), &json!(0))
    );
    until("the count is right", || {
        let row = crate::harness::remote::session(&database, client.session)?;
        (row["message_count"] == 3).then_some(())
    })
    .await;
}
