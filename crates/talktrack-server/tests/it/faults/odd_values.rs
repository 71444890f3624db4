//! Case 18: other programs write values that talktrack does not know, while it runs. Every reader of the server still
//! works and shows everything else, and clients can still send messages.

use std::time::Duration;

use uuid::Uuid;

use super::cut;
use super::judge::judge;
use super::rows;
use super::stand::Stand;
use super::talkers::Manner;
use crate::harness::{Client, Server, until_within};

/// The text of messages in the changed sessions. The judge knows that this text comes from no talker.
const FRESH: &str = "fresh";

/// A column of a session and the SQL value that it is set to, in PostgreSQL and in SQLite.
const SESSIONS: [(&str, &str, &str); 9] = [
    ("status", "'hacked'", "'hacked'"),
    ("status", "'completed'", "''"),
    ("started_at", "'infinity'", "'yesterday'"),
    ("started_at", "'0044-03-15 00:00:00+00 BC'", "'10000-01-01T00:00:00.000000Z'"),
    ("ended_at", "'-infinity'", "x'ff00'"),
    ("duration_seconds", "'NaN'", "9e999"),
    ("last_event_at", "'294276-12-31 23:59:59+00'", "'never'"),
    ("metadata", "'[1, \"x\"]'", "'{'"),
    ("external_id", "E'\\u202e\\x07'", "x'ff'"),
];

/// The same for a message.
const MESSAGES: [(&str, &str, &str); 7] = [
    ("role", "'agent'", "'agent'"),
    ("kind", "'evil'", "'evil'"),
    ("created_at", "'infinity'", "'soon'"),
    ("created_at", "'4714-11-24 00:00:00+00 BC'", "'0001-01-01T00:00:00.000000Z'"),
    ("parts", "'7'", "'[{\"type\":1}, 7]'"),
    ("metrics", "'[]'", "'{\"e2e_ms\":\"fast\"}'"),
    ("seq", "-9223372036854775808", "-9223372036854775808"),
];

/// Drops the constraints that talktrack's own migration adds, because a project may not have them.
const NO_CHECKS: &str = "DO $$ DECLARE it record; BEGIN
  FOR it IN SELECT conrelid::regclass AS t, conname AS c FROM pg_constraint WHERE contype = 'c'
    AND conrelid IN ('conversation_sessions'::regclass, 'conversation_messages'::regclass) LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', it.t, it.c);
  END LOOP;
END $$";

fn run(stand: &Stand, sql: &str) {
    match stand.remote() {
        Some(remote) => drop(remote.database.psql(sql)),
        None => stand.home.database().execute(&format!("PRAGMA ignore_check_constraints = 1; {sql}")),
    }
}

/// Creates conversations of other users, each with one odd value that another program writes into it.
async fn meddled_with(stand: &Stand, server: &Server) -> Vec<Uuid> {
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS.len() + MESSAGES.len() {
        let mut client = Client::join(server, Uuid::new_v4(), Uuid::new_v4()).await;
        client.say(FRESH).await;
        client.end("over").await;
        sessions.push(client.session);
        client.close().await;
    }
    let count = format!("SELECT count(*) AS n FROM conversation_messages WHERE content = '{FRESH}'");
    let stored = async || (rows::number(stand, &count) == sessions.len() as u64).then_some(());
    until_within(super::PATIENCE, "they are stored", stored).await;
    if stand.remote().is_some() {
        run(stand, NO_CHECKS);
    }
    let all = SESSIONS
        .iter()
        .map(|odd| ("conversation_sessions", odd))
        .chain(MESSAGES.iter().map(|odd| ("conversation_messages", odd)));
    for (session, (table, (column, in_postgres, in_sqlite))) in sessions.iter().zip(all) {
        let value = if stand.remote().is_some() { in_postgres } else { in_sqlite };
        run(stand, &format!("UPDATE {table} SET {column} = {value} WHERE session_id = '{session}'"));
    }
    sessions
}

/// Asserts that every list can be read to its end, and that every page and command succeeds.
async fn every_reader_goes_on(stand: &Stand, server: &Server, sessions: &[Uuid]) {
    let mut listed = Vec::new();
    let mut path = "/v1/sessions?limit=5".to_owned();
    loop {
        let page = server.get(&path).await;
        assert_eq!(page.status, 200, "{path}: {page:?}");
        let page = page.json();
        let rows = page["sessions"].as_array().unwrap().iter();
        listed.extend(rows.map(|row| row["session_id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/sessions?limit=5&cursor={cursor}");
    }
    for session in sessions {
        assert!(listed.contains(&session.to_string()), "{session} is listed");
        let exports = ["json", "jsonl", "text", "vtt", "openai", "csv"]
            .map(|format| format!("/export?format={format}"));
        for part in ["", "/messages"].into_iter().chain(exports.iter().map(String::as_str)) {
            let path = format!("/v1/sessions/{session}{part}");
            let answer = server.get(&path).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            assert!(part != "/messages" || answer.body.contains(FRESH), "{path}: {answer:?}");
        }
        for page in ["", "/head", "/said"] {
            let path = format!("/sessions/{session}{page}");
            assert_eq!(server.get(&path).await.status, 200, "{path}");
        }
    }
    for path in ["/v1/stats", "/", "/?q=fresh", "/stats", "/health", "/metrics"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    // The search index lags behind the other tables.
    let found = async || {
        let answer = server.get("/v1/search?q=fresh").await;
        (answer.status == 200 && answer.body.contains(FRESH)).then_some(())
    };
    until_within(super::PATIENCE, "their words are found", found).await;
    server.readiness(200).await;
    let look = async |command: &[&str]| match stand.remote() {
        Some(remote) => stand.home.look_at(&remote.database.url(), command).await.succeeded(),
        None => stand.home.look(command).await.succeeded(),
    };
    look(&["sessions"]).await;
    look(&["export"]).await;
    look(&["show", &sessions[0].to_string()]).await;
    look(&["verify"]).await;
}

async fn odd_values(stand: &Stand) {
    // Retention reads every session too. No session is that old, except by a value that does not give its age.
    let server = stand.serve(&["--retention-days", "3650"]).await;
    // The search index has the lowest priority. It would fall behind talkers who keep every core busy.
    let pause = Duration::from_millis(10);
    let talkers = stand.talk(Manner { talkers: 2, ahead: 10, pause, per_session: 100 });
    stand.oracle.hears(50).await;
    for _ in 0..cut::rounds(1, 10) {
        let sessions = meddled_with(stand, &server).await;
        every_reader_goes_on(stand, &server, &sessions).await;
        stand.oracle.hears(50).await;
        for session in &sessions {
            let answer = server.request("DELETE", format!("/v1/sessions/{session}")).send().await;
            // 202: the deletion waits behind the talkers' messages for longer than the server waits with its answer.
            assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        }
    }
    talkers.fall_silent().await;
    stand.drained(&server).await;
    let left = format!("SELECT count(*) AS n FROM conversation_messages WHERE content = '{FRESH}'");
    assert_eq!(rows::number(stand, &left), 0, "all of these sessions are deleted");
    judge(stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_values_in_the_file_stop_no_reader_and_nobody_who_talks() {
    odd_values(&Stand::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_values_in_postgresql_stop_no_reader_and_nobody_who_talks() {
    odd_values(&Stand::on_postgres().await).await;
}
