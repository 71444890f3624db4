//! Ten times the admitted rate, and what a caller that keeps to the limits notices of it.
//!
//! All callers are paced. The flood and the control server run at the lowest priority: they stand for other machines
//! and must not take processor time from the server. The control measures what they take nevertheless: there the same
//! requests go to a loop that answers each of them with a fixed text.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use talktrack_testbed::bench::{Outcome, TEXT, percentile};
use uuid::Uuid;

use crate::bed::{Connection, Server, request};

/// Requests per second that an address may send. The measured caller sends half of that, the flood ten times as many.
const ADMITTED: u32 = 200;
pub(crate) const MEASURED: u32 = ADMITTED / 2;
const FLOOD: u32 = 10 * ADMITTED;

/// Number of connections of the flood.
const CONNECTIONS: u32 = 20;

/// Each round measures once alone, once with the control and once in the flood, one after the other, because the other
/// load of the machine changes over time.
const ROUNDS: usize = 5;
const SECONDS: u32 = 3;

/// How many requests of the flood were admitted and refused.
#[derive(Default)]
struct Sent {
    admitted: AtomicUsize,
    refused: AtomicUsize,
}

pub(crate) fn run() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let rate = format!("{ADMITTED}/s");
    let server = Server::start(dir.path(), &["--rate-per-address", &rate, "--trusted-proxies", "127.0.0.1"])?;
    let control = fixed_answers()?;
    let session = Uuid::new_v4();
    let start = json!({"session_id": session, "user_id": Uuid::from_u128(7)}).to_string();
    let headers = "Content-Type: application/json\r\n";
    Connection::to(&server)?.ask(&request("POST", "/v1/sessions", headers, &start), 201)?;
    let patient = say(session, "198.51.100.1");
    patiently(&server, &patient, MEASURED)?;
    let before = server.resident()?;
    let mut times = [const { Vec::new() }; 3];
    let mut server_seconds = [0.0; 2];
    let sent = Sent::default();
    for _ in 0..ROUNDS {
        let began = server.processor_seconds()?;
        times[0].extend(patiently(&server, &patient, SECONDS * MEASURED)?);
        server_seconds[0] += server.processor_seconds()? - began;
        times[1].extend(crowded(&server, session, &control, &Sent::default())?);
        let began = server.processor_seconds()?;
        times[2].extend(crowded(&server, session, &server.address, &sent)?);
        server_seconds[1] += server.processor_seconds()? - began;
    }
    let grown = server.resident()?.saturating_sub(before);
    report(&mut times, &sent, server_seconds[1] - server_seconds[0], grown);
    Ok(())
}

fn report(times: &mut [Vec<f64>; 3], sent: &Sent, server_seconds: f64, grown: u64) {
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    let [alone, control, flooded] =
        [0, 1, 2].map(|of| [50, 99].map(|percent| percentile(&times[of], percent)));
    let admitted = sent.admitted.load(Ordering::Relaxed);
    let refused = sent.refused.load(Ordering::Relaxed);
    let rate = (admitted + refused) as f64 / (f64::from(SECONDS) * ROUNDS as f64);
    println!(
        "flood of {rate:.0} requests/s where {ADMITTED}/s are admitted, generator on the same cores at the lowest priority: \
         {admitted} admitted, {refused} refused; {:.0} us of the server's time each; memory grew by {:.1} MB",
        server_seconds * 1e6 / (admitted + refused) as f64,
        grown as f64 / 1e6
    );
    for (n, percent) in [(0, "p50"), (1, "p99")] {
        println!(
            "admitted work, {MEASURED} messages/s to durable, {percent}: alone {:.2} ms, beside the same flood elsewhere {:.2} ms, in the \
             flood {:.2} ms (limit 2.0 times alone, ratio {:.2}; {:.2} times the control)",
            alone[n],
            control[n],
            flooded[n],
            flooded[n] / alone[n],
            flooded[n] / control[n]
        );
    }
}

/// Returns how long each of `requests` admitted requests took, in milliseconds.
pub(crate) fn patiently(server: &Server, say: &[u8], requests: u32) -> Outcome<Vec<f64>> {
    let mut connection = Connection::to(server)?;
    let started = Instant::now();
    let mut times = Vec::new();
    for number in 0..requests {
        let due = started + Duration::from_secs(1) * number / MEASURED;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // The previous request took so long that this one had to wait; the wait counts.
        let late = !times.is_empty() && times.last().is_some_and(|last| *last > 1e3 / f64::from(MEASURED));
        let began = if late { due } else { Instant::now() };
        connection.ask(say, 202)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// Measures as [`patiently`] does while a flood goes to this address.
fn crowded(server: &Server, session: Uuid, address: &str, sent: &Sent) -> Outcome<Vec<f64>> {
    let patient = say(session, "198.51.100.1");
    let is_over = AtomicBool::new(false);
    let say = say(session, "203.0.113.9");
    std::thread::scope(|scope| {
        let flood: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let say = &say;
                let is_over = &is_over;
                scope.spawn(move || pour(address, say, number, is_over, sent))
            })
            .collect();
        let times = patiently(server, &patient, SECONDS * MEASURED);
        is_over.store(true, Ordering::Relaxed);
        flood.into_iter().try_for_each(|one| one.join().map_err(|_| "the flood broke off")?)?;
        times
    })
}

/// Sends the share of one connection of the flood. A request that is late is sent as soon as possible.
fn pour(address: &str, say: &[u8], number: u32, is_over: &AtomicBool, sent: &Sent) -> Outcome<()> {
    at_lowest_priority()?;
    let mut connection = Connection::at(address)?;
    let period = Duration::from_secs(1) * CONNECTIONS / FLOOD;
    let mut due = Instant::now() + period * number / CONNECTIONS;
    while !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due += period;
        let count = match connection.answer(say)? {
            202 => &sent.admitted,
            429 => &sent.refused,
            status => return Err(format!("the flood was answered with {status}").into()),
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn say(session: Uuid, from: &str) -> Vec<u8> {
    let body = json!({"role": "user", "content": TEXT}).to_string();
    let headers = format!("Content-Type: application/json\r\nX-Forwarded-For: {from}\r\n");
    request("POST", &format!("/v1/sessions/{session}/messages"), &headers, &body)
}

/// Starts a server that answers every request with the same refusal, and returns its address.
pub(crate) fn fixed_answers() -> Outcome<String> {
    const ANSWER: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || -> Outcome<()> {
                at_lowest_priority()?;
                stream.set_nodelay(true)?;
                let mut requests = BufReader::new(stream);
                let mut line = String::new();
                let mut length = 0;
                let mut body = Vec::new();
                while requests.read_line(&mut line)? > 0 {
                    if let Some(told) = line.strip_prefix("Content-Length: ") {
                        length = told.trim_end().parse()?;
                    }
                    if line.trim_end().is_empty() {
                        body.resize(length, 0);
                        requests.read_exact(&mut body)?;
                        TcpStream::write_all(requests.get_mut(), ANSWER)?;
                    }
                    line.clear();
                }
                Ok(())
            });
        }
    });
    Ok(address)
}

/// Gives the current thread the lowest priority.
pub(crate) fn at_lowest_priority() -> Outcome<()> {
    let task = std::fs::read_link("/proc/thread-self")?;
    let task = task.file_name().ok_or("no thread")?;
    let status = Command::new("renice").args(["-n", "19", "-p"]).arg(task).output()?.status;
    if status.success() { Ok(()) } else { Err("renice failed".into()) }
}
