//! How much slow lists delay the look-ups that a write waits for. A write to a session that is not in memory reads the
//! session's row first. The benchmark measures such writes alone, and while readers ask for a list whose filter matches
//! none of one user's 80,000 sessions. As in the flood, the threads that ask run at the lowest priority.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use talktrack_testbed::bench::{Outcome, TEXT, percentile};
use uuid::Uuid;

use crate::bed::{Connection, Server, request};
use crate::flood::at_lowest_priority;
use crate::lists::{Filling, fill, session_id};

const SESSIONS: u64 = 80_000;
const READERS: usize = 4;

/// Each round measures alone and with the readers, one after the other.
const ROUNDS: u64 = 5;
/// Writes in each part of a round.
const WRITES: u64 = 400;
/// The pause after a write, so that the writes alone leave the machine idle.
const PAUSE: Duration = Duration::from_millis(2);

/// The longest that a look-up may take with the readers, as a multiple of what it takes alone.
const LIMIT: f64 = 2.0;

pub(crate) fn run() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    drop(Server::start(dir.path(), &[])?);
    fill(&dir.path().join("talktrack.db"), Filling { sessions: SESSIONS, turns: 1, users: 1 })?;
    let server = Server::start(dir.path(), &[])?;
    let say = json!({"role": "user", "content": TEXT}).to_string();
    let write = |number: u64| {
        let path = format!("/v1/sessions/{}/messages", session_id(number));
        (request("POST", &path, "Content-Type: application/json\r\n", &say), 202)
    };
    let look_up =
        |number: u64| (request("GET", &format!("/v1/sessions/{}", session_id(number)), "", ""), 200);
    measure(&server, "a message to a session that is not in memory, over HTTP to durable", &write)?;
    measure(&server, "the row of a session over HTTP", &look_up)
}

fn measure(server: &Server, what: &str, ask: &dyn Fn(u64) -> (Vec<u8>, u16)) -> Outcome<()> {
    let user = Uuid::from_u128(0);
    let slow = request("GET", &format!("/v1/sessions?user_id={user}&status=abandoned"), "", "");
    let mut alone = Vec::new();
    let mut crowded = Vec::new();
    let lists = AtomicUsize::new(0);
    let mut seconds = 0.0;
    for round in 0..ROUNDS {
        // Each session is used once, so that none is in memory.
        let first = round * 2 * WRITES;
        alone.extend(latencies(server, first, ask)?);
        let began = Instant::now();
        crowded.extend(beside_readers(server, first + WRITES, ask, &slow, &lists)?);
        seconds += began.elapsed().as_secs_f64();
    }
    alone.sort_by(f64::total_cmp);
    crowded.sort_by(f64::total_cmp);
    let rate = lists.load(Ordering::Relaxed) as f64 / seconds;
    for (percent, name) in [(50, "p50"), (99, "p99")] {
        let [alone, crowded] = [&alone, &crowded].map(|times| percentile(times, percent));
        println!(
            "{what}, {name}: alone {alone:.2} ms, beside {READERS} readers of a slow list ({rate:.0}/s) {crowded:.2} ms \
             (limit {LIMIT:.1} times alone, ratio {:.2})",
            crowded / alone
        );
    }
    Ok(())
}

fn latencies(server: &Server, first: u64, ask: &dyn Fn(u64) -> (Vec<u8>, u16)) -> Outcome<Vec<f64>> {
    let mut connection = Connection::to(server)?;
    let mut times = Vec::new();
    for number in first..first + WRITES {
        let (request, status) = ask(number);
        let started = Instant::now();
        connection.ask(&request, status)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(PAUSE);
    }
    Ok(times)
}

fn beside_readers(
    server: &Server,
    first: u64,
    ask: &dyn Fn(u64) -> (Vec<u8>, u16),
    slow: &[u8],
    lists: &AtomicUsize,
) -> Outcome<Vec<f64>> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let read = || -> Outcome<()> {
            at_lowest_priority()?;
            let mut connection = Connection::to(server)?;
            while !is_over.load(Ordering::Relaxed) {
                connection.ask(slow, 200)?;
                lists.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
        let times = latencies(server, first, ask);
        is_over.store(true, Ordering::Relaxed);
        readers.into_iter().try_for_each(|reader| reader.join().map_err(|_| "a reader broke off")?)?;
        times
    })
}
