//! How much one caller that sends as fast as the server accepts slows down the others. The benchmark measures the
//! others' time to durable while that caller sends arrays of 500 messages, large messages, updates of large metadata,
//! and exports of a conversation of large messages. As in the flood, the threads that send the load run at the lowest
//! priority, and the control sends the same requests to a loop that answers each of them with a fixed text.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use talktrack_testbed::bench::{Outcome, TEXT, percentile};
use uuid::Uuid;

use crate::bed::{Connection, Server, request};
use crate::flood::{MEASURED, at_lowest_priority, fixed_answers, patiently};
use crate::signing::{SigningKey, claims};

/// Each round measures alone, with the control and in the crowd, one after the other.
const ROUNDS: usize = 5;
const SECONDS: u32 = 2;

/// The longest that other callers may wait, as a multiple of what they wait alone.
const LIMIT: f64 = 2.0;

const SECRET: &str = "super-secret-jwt-token-with-at-least-32-characters-long";
const JSON: &str = "Content-Type: application/json\r\n";

pub(crate) fn run() -> Outcome<()> {
    let token = SigningKey::secret(SECRET).token(&claims(Uuid::from_u128(8)));
    let of_user = format!("{JSON}Authorization: Bearer {token}\r\n");
    for (who, head, flags) in [
        ("a user at the limits", &*of_user, &["--supabase-jwt-secret", SECRET][..]),
        ("an unlimited caller", JSON, &[][..]),
    ] {
        let many: Value = (0..500).map(|_| json!({"role": "user", "content": TEXT})).collect();
        let large = json!({"role": "user", "content": "x".repeat(900 << 10)}).to_string();
        let note = json!({"metadata": {"note": "x".repeat(60 << 10)}}).to_string();
        let crowd = Crowd { who, head, flags, said_before: 0, large: &large };
        crowd.measure("arrays of 500 messages", 1, "POST", "/messages", &many.to_string())?;
        crowd.measure(
            "arrays of 500 messages over 8 connections",
            8,
            "POST",
            "/messages",
            &many.to_string(),
        )?;
        crowd.measure("messages of 900 KiB over 4 connections", 4, "POST", "/messages", &large)?;
        crowd.measure("updates of 60 KiB of metadata over 8 connections", 8, "PATCH", "", &note)?;
        let exports = Crowd { said_before: 16, ..crowd };
        exports.measure(
            "exports of 14 MiB in messages of 900 KiB over 8 connections",
            8,
            "GET",
            "/export",
            "",
        )?;
    }
    Ok(())
}

/// The callers that send as fast as the server accepts.
struct Crowd<'c> {
    who: &'c str,
    head: &'c str,
    flags: &'c [&'c str],
    /// How many large messages their conversation has at the start.
    said_before: usize,
    large: &'c str,
}

impl Crowd<'_> {
    fn measure(&self, what: &str, connections: usize, method: &str, path: &str, body: &str) -> Outcome<()> {
        let dir = tempfile::tempdir()?;
        // The measured caller has a key if the server asks for authentication.
        let key = if self.flags.is_empty() { None } else { Some(new_key()?) };
        let flags: Vec<&str> = self
            .flags
            .iter()
            .copied()
            .chain(key.iter().flat_map(|(_, entry)| ["--api-keys", entry]))
            .collect();
        let server = Server::start(dir.path(), &flags)?;
        let own =
            key.map_or_else(|| JSON.to_owned(), |(key, _)| format!("{JSON}Authorization: Bearer {key}\r\n"));
        let control = fixed_answers()?;
        let session = Uuid::new_v4();
        let start = json!({"session_id": session, "user_id": Uuid::from_u128(7)}).to_string();
        Connection::to(&server)?.ask(&request("POST", "/v1/sessions", &own, &start), 201)?;
        let start = if self.flags.is_empty() { json!({"user_id": Uuid::from_u128(8)}) } else { json!({}) };
        let mut connection = Connection::to(&server)?;
        let begun = connection.ask(&request("POST", "/v1/sessions", self.head, &start.to_string()), 201)?;
        let begun: Value = serde_json::from_slice(begun)?;
        let heavy = begun["session_id"].as_str().ok_or("no session")?;
        let say_before = request("POST", &format!("/v1/sessions/{heavy}/messages"), self.head, self.large);
        for _ in 0..self.said_before {
            connection.ask(&say_before, 202)?;
        }
        let sent = request(method, &format!("/v1/sessions/{heavy}{path}"), self.head, body);
        let say = json!({"role": "user", "content": TEXT}).to_string();
        let say = request("POST", &format!("/v1/sessions/{session}/messages"), &own, &say);
        patiently(&server, &say, MEASURED)?;
        let mut times = [const { Vec::new() }; 3];
        let requests = AtomicUsize::new(0);
        for _ in 0..ROUNDS {
            times[0].extend(patiently(&server, &say, SECONDS * MEASURED)?);
            times[1].extend(crowded(&server, &say, &control, connections, &sent, &AtomicUsize::new(0))?);
            times[2].extend(crowded(&server, &say, &server.address, connections, &sent, &requests)?);
        }
        self.report(what, &mut times, requests.load(Ordering::Relaxed));
        Ok(())
    }

    fn report(&self, what: &str, times: &mut [Vec<f64>; 3], requests: usize) {
        times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
        let rate = requests as f64 / (f64::from(SECONDS) * ROUNDS as f64);
        for (percent, name) in [(50, "p50"), (99, "p99")] {
            let [alone, control, crowd] = [0, 1, 2].map(|of| percentile(&times[of], percent));
            println!(
                "beside {what} of {} ({rate:.0} requests/s, refused ones included), {MEASURED} messages/s of another caller to durable, \
                 {name}: alone {alone:.2} ms, beside the same elsewhere {control:.2} ms, in the crowd {crowd:.2} ms (limit {LIMIT:.1} \
                 times alone, ratio {:.2}; {:.2} times the control)",
                self.who,
                crowd / alone,
                crowd / control
            );
        }
    }
}

/// Makes an API key and returns it with its entry for the settings.
fn new_key() -> Outcome<(String, String)> {
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_talktrack"))
        .args(["keys", "new", "--name", "agent", "--scopes", "read,write", "--json"])
        .output()?;
    let made: Value = serde_json::from_slice(&made.stdout)?;
    let text = |field: &str| made[field].as_str().map(str::to_owned).ok_or("no key");
    Ok((text("key")?, text("api_keys")?))
}

/// Measures the latencies of a paced caller while the crowd sends to this address as fast as it is accepted.
fn crowded(
    server: &Server,
    say: &[u8],
    address: &str,
    connections: usize,
    sent: &[u8],
    requests: &AtomicUsize,
) -> Outcome<Vec<f64>> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..connections)
            .map(|_| {
                let is_over = &is_over;
                scope.spawn(move || -> Outcome<()> {
                    at_lowest_priority()?;
                    let mut connection = Connection::at(address)?;
                    while !is_over.load(Ordering::Relaxed) {
                        // A caller that the server refuses before it has read the body must connect again.
                        if connection.answer(sent).is_err() {
                            connection = Connection::at(address)?;
                        }
                        requests.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        let times = patiently(server, say, SECONDS * MEASURED);
        is_over.store(true, Ordering::Relaxed);
        crowd.into_iter().try_for_each(|one| one.join().map_err(|_| "the crowd broke off")?)?;
        times
    })
}
