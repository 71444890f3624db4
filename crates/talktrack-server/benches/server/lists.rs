//! Lists and transcripts on a large database: one million messages, or `BENCH_MILLIONS` millions.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection as Database, params};
use talktrack_testbed::bench::{Outcome, TEXT, percentile};
use uuid::Uuid;

use crate::bed::{Connection, Server, request};

const TURNS: u64 = 50;
const USERS: u64 = 1_000;
const REQUESTS: u64 = 2_000;

pub(crate) fn run() -> Outcome<()> {
    let millions: u64 = std::env::var("BENCH_MILLIONS").map_or(Ok(1), |text| text.parse())?;
    let sessions = millions * 1_000_000 / TURNS;
    let dir = tempfile::tempdir()?;
    drop(Server::start(dir.path(), &[])?);
    fill(&dir.path().join("talktrack.db"), Filling { sessions, turns: TURNS, users: USERS })?;
    let server = Server::start(dir.path(), &[])?;
    let user = |number: u64| Uuid::from_u128(u128::from(number % USERS));
    let session = |number: u64| session_id(number * 7_919 % sessions);
    let list = |number: u64| format!("/v1/sessions?limit=50&user_id={}", user(number));
    let all = |_: u64| "/v1/sessions?limit=50".to_owned();
    let transcript = |number: u64| format!("/v1/sessions/{}/messages?limit=50", session(number));
    for (what, path) in [
        ("the newest 50 sessions", &all as &dyn Fn(u64) -> String),
        ("a user's newest 50 sessions", &list),
        ("a transcript of 50 messages", &transcript),
    ] {
        let [p50, p99] = latencies(&server, path, REQUESTS)?;
        println!(
            "{what} over HTTP, among {millions},000,000 messages in SQLite: p50 {p50:.2} ms, p99 {p99:.2} ms (limit 10, ratio {:.2})",
            p99 / 10.0
        );
    }
    pages(&server, millions, &transcript_page(&dir.path().join("talktrack.db"))?)
}

/// Measures pages of the dashboard as the server renders and compresses them.
fn pages(server: &Server, millions: u64, long: &str) -> Outcome<()> {
    for (what, path) in
        [("the page of 50 conversations", "/"), ("the page of a transcript of 1,000 messages", long)]
    {
        let [p50, p99] = latencies(server, &|_| path.to_owned(), 100)?;
        println!(
            "{what}, among {millions},000,000 messages in SQLite: p50 {p50:.2} ms, p99 {p99:.2} ms (limit 20, ratio {:.2})",
            p99 / 20.0
        );
    }
    Ok(())
}

/// Moves a thousand messages into one conversation and returns the path of its page.
fn transcript_page(database: &Path) -> Outcome<String> {
    let database = Database::open(database)?;
    let id = session_id(0).to_string();
    let taken = "UPDATE conversation_messages SET session_id = ?1, metrics = ?2 WHERE rowid <= 1000";
    let metrics = r#"{"eou_ms":310,"stt_ms":190,"llm_ttft_ms":420,"tts_ttfb_ms":150,"e2e_ms":1070}"#;
    database.execute(taken, params![id, metrics])?;
    Ok(format!("/sessions/{id}"))
}

pub(crate) fn session_id(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) << 64 | u128::from(number))
}

fn latencies(server: &Server, path: &dyn Fn(u64) -> String, requests: u64) -> Outcome<[f64; 2]> {
    let mut connection = Connection::to(server)?;
    let mut times = Vec::new();
    // The first half of the requests warms the caches up and is not measured.
    for number in 0..2 * requests {
        let request = request("GET", &path(number % requests), "Accept-Encoding: gzip\r\n", "");
        let started = Instant::now();
        connection.ask(&request, 200)?;
        if number >= requests {
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok([percentile(&times, 50), percentile(&times, 99)])
}

/// What a database is filled with.
#[derive(Clone, Copy)]
pub(crate) struct Filling {
    pub(crate) sessions: u64,
    /// The number of messages of each session.
    pub(crate) turns: u64,
    pub(crate) users: u64,
}

/// Writes the sessions, as if their messages had arrived one after the other.
pub(crate) fn fill(path: &Path, Filling { sessions, turns, users }: Filling) -> Outcome<()> {
    let mut database = Database::open(path)?;
    database.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000;")?;
    let tx = database.transaction()?;
    {
        let mut session = tx.prepare(
            "INSERT INTO conversation_sessions (id, session_id, user_id, started_at, ended_at, duration_seconds, status, message_count) \
             VALUES (?1, ?1, ?2, ?3, ?3, 50.0, 'ended', ?4)",
        )?;
        let mut message = tx.prepare(
            "INSERT INTO conversation_messages (id, session_id, user_id, role, content, created_at, seq) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        for number in 0..sessions {
            let id = session_id(number).to_string();
            let user = Uuid::from_u128(u128::from(number % users)).to_string();
            let second = |turn: u64| {
                let at = number * turns + turn;
                let day = 1 + at / 86_400 % 28;
                let rest = at % 86_400;
                format!(
                    "{}-{:02}-{day:02}T{:02}:{:02}:{:02}.000000Z",
                    2025 + at / 29_030_400,
                    1 + at / 2_419_200 % 12,
                    rest / 3_600,
                    rest / 60 % 60,
                    rest % 60
                )
            };
            session.execute(params![id, user, second(0), turns])?;
            for turn in 0..turns {
                let role = if turn.is_multiple_of(2) { "user" } else { "assistant" };
                let seq = i64::try_from(number * turns + turn)?;
                message.execute(params![
                    Uuid::new_v4().to_string(),
                    id,
                    user,
                    role,
                    TEXT,
                    second(turn),
                    seq
                ])?;
            }
        }
    }
    let rows = i64::try_from(sessions * turns)?;
    tx.execute("UPDATE books SET durable = ?1, stored = ?1, inserted = ?1, last_seq = ?1", [rows])?;
    tx.commit()?;
    database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(())
}
