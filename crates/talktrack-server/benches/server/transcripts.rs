//! The last messages of a long conversation, and reads that are merged with a backlog.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use talktrack_testbed::bench::{Outcome, TEXT, percentile};
use uuid::Uuid;

use crate::bed::{Connection, Server, request};
use crate::lists::{Filling, fill, session_id};

const LONG: u64 = 10_000;
const PAGE: u64 = 20;
const READS: usize = 500;

/// The messages that wait for a database that is away, in arrays of [`AT_ONCE`], each in a session of its own.
const BACKLOG: usize = 100_000;
const AT_ONCE: usize = 1_000;

/// The longest that a read may take, as a multiple of the read that it is compared with.
const LIMIT: f64 = 2.0;

pub(crate) fn run() -> Outcome<()> {
    last_messages()?;
    beside_a_backlog()
}

fn last_messages() -> Outcome<()> {
    let [short, long] = [PAGE, LONG].map(read_last);
    let [short, long] = [short?, long?];
    println!(
        "the last {PAGE} messages of {LONG} over HTTP, in SQLite: p50 {long:.2} ms, of {PAGE} {short:.2} ms (limit {LIMIT:.1} times, \
         ratio {:.2})",
        long / short
    );
    Ok(())
}

/// Returns the median time in milliseconds to read the last messages of a session with this many.
fn read_last(turns: u64) -> Outcome<f64> {
    let dir = tempfile::tempdir()?;
    drop(Server::start(dir.path(), &[])?);
    fill(&dir.path().join("talktrack.db"), Filling { sessions: 10, turns, users: 1 })?;
    let server = Server::start(dir.path(), &[])?;
    median(&server, &format!("/v1/sessions/{}/messages?order=desc&limit={PAGE}", session_id(3)))
}

fn beside_a_backlog() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let server = away(dir.path())?;
    let session = Uuid::from_u128(7);
    add(&server, session, 50)?;
    let path = format!("/v1/sessions/{session}/messages");
    let alone = median(&server, &path)?;
    for number in 0..BACKLOG / AT_ONCE {
        add(&server, Uuid::from_u128(1_000 + number as u128), AT_ONCE)?;
    }
    let crowded = median(&server, &path)?;
    println!(
        "50 messages that wait for a database, over HTTP: alone p50 {alone:.2} ms, beside {BACKLOG} others that wait {crowded:.2} ms \
         (limit {LIMIT:.1} times alone, ratio {:.2})",
        crowded / alone
    );
    Ok(())
}

/// Starts a server whose database is away: nothing listens on this port.
fn away(data_dir: &Path) -> Outcome<Server> {
    Server::start_unready(data_dir, &["--database-url", "postgres://talktrack@127.0.0.1:9/talktrack"])
}

/// Starts a session and adds this many messages.
fn add(server: &Server, session: Uuid, count: usize) -> Outcome<()> {
    let mut connection = Connection::to(server)?;
    let json_body = "Content-Type: application/json\r\n";
    let start = json!({"session_id": session, "user_id": Uuid::nil()}).to_string();
    connection.ask(&request("POST", "/v1/sessions", json_body, &start), 201)?;
    let messages: Value = (0..count).map(|_| json!({"role": "user", "content": TEXT})).collect();
    let path = format!("/v1/sessions/{session}/messages");
    connection.ask(&request("POST", &path, json_body, &messages.to_string()), 202)?;
    Ok(())
}

fn median(server: &Server, path: &str) -> Outcome<f64> {
    let mut connection = Connection::to(server)?;
    let read = request("GET", path, "", "");
    let mut times = Vec::new();
    // The first half of the reads warms the caches up and is not measured.
    for number in 0..2 * READS {
        let started = Instant::now();
        connection.ask(&read, 200)?;
        if number >= READS {
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(percentile(&times, 50))
}
