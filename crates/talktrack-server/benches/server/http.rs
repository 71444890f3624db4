//! Throughput of messages over HTTP, in arrays.

use std::time::Instant;

use serde_json::{Value, json};
use talktrack_testbed::bench::{Outcome, TEXT, median};
use uuid::Uuid;

use crate::bed::{Connection, Server, request};

const JSON: &str = "Content-Type: application/json\r\n";

/// Number of callers, each with one request in flight.
const CALLERS: usize = 16;
const REQUESTS: usize = 250;
const MESSAGES: usize = 100;

pub(crate) fn run() -> Outcome<()> {
    let mut rates = Vec::new();
    for _ in 0..3 {
        let dir = tempfile::tempdir()?;
        rates.push(ingest(&Server::start(dir.path(), &[])?, REQUESTS)?);
    }
    let rate = median(rates);
    println!(
        "HTTP to durable row, arrays of {MESSAGES}, {CALLERS} callers, client on the same cores, {} messages of {} bytes: {rate:.0} \
         messages/s, median of 3 (limit 60,000, ratio {:.2})",
        messages(REQUESTS),
        TEXT.len(),
        rate / 60e3
    );
    Ok(())
}

/// Returns the number of messages in `requests` requests of each caller.
pub(crate) fn messages(requests: usize) -> usize {
    CALLERS * requests * MESSAGES
}

/// Returns the acknowledged messages per second while each caller sends `requests` requests.
pub(crate) fn ingest(server: &Server, requests: usize) -> Outcome<f64> {
    let message = |turn: usize| json!({"role": if turn.is_multiple_of(2) { "user" } else { "assistant" }, "content": TEXT});
    let body = (0..MESSAGES).map(message).collect::<Value>().to_string();
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let session = Uuid::new_v4();
        let mut connection = Connection::to(server)?;
        let start = json!({"session_id": session, "user_id": Uuid::from_u128(7)}).to_string();
        connection.ask(&request("POST", "/v1/sessions", JSON, &start), 201)?;
        let say = request("POST", &format!("/v1/sessions/{session}/messages"), JSON, &body);
        callers.push((connection, say));
    }
    let started = Instant::now();
    std::thread::scope(|scope| {
        let run = |(mut connection, say): (Connection, Vec<u8>)| {
            scope.spawn(move || (0..requests).try_for_each(|_| connection.ask(&say, 202).map(drop)))
        };
        let running: Vec<_> = callers.into_iter().map(run).collect();
        running.into_iter().try_for_each(|caller| caller.join().map_err(|_| "a caller died")?)
    })?;
    let seconds = started.elapsed().as_secs_f64();
    server.wait_for_metric("talktrack_messages_durable_total", messages(requests) as f64)?;
    Ok(messages(requests) as f64 / seconds)
}
