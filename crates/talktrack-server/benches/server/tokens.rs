//! The cost of authentication.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Instant;

use serde_json::json;
use talktrack_testbed::bench::{Outcome, median};
use uuid::Uuid;

use crate::bed::{Connection, Server, request};
use crate::signing::{SigningKey, claims};

const REQUESTS: usize = 3_000;
const SECRET: &str = "super-secret-jwt-token-with-at-least-32-characters-long";

pub(crate) fn run() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let bare = median_us(&Server::start(&dir.path().join("bare"), &[])?, |_| String::new())?;
    let secret = SigningKey::secret(SECRET);
    let curve = SigningKey::ecdsa("curve");
    let rsa = SigningKey::rsa("rsa");
    let project = publish(&[&curve, &rsa])?;
    for (key, name) in [(&secret, "HS256"), (&curve, "ES256"), (&rsa, "RS256")] {
        let directory = dir.path().join(name);
        let flags = ["--supabase-url", &project, "--supabase-jwt-secret", SECRET, "--rate-per-user", "off"];
        let server = Server::start(&directory, &flags)?;
        let token = |number: u128| {
            let mut claims = claims(Uuid::from_u128(number));
            claims["iss"] = format!("{project}/auth/v1").into();
            format!("Authorization: Bearer {}\r\n", key.token(&claims))
        };
        let same = token(0);
        let again = median_us(&server, |_| same.clone())? - bare;
        let fresh = median_us(&server, |number| token(number as u128))? - bare;
        println!(
            "{name}: {fresh:.1} us more for a request with a token that is new, {again:.1} us with one that was seen before \
             (a request without: {bare:.1} us)"
        );
    }
    Ok(())
}

/// Returns the median latency of a small request in microseconds.
fn median_us(server: &Server, headers: impl Fn(usize) -> String) -> Outcome<f64> {
    let path = format!("/v1/sessions?limit=1&user_id={}", Uuid::nil());
    // The requests are made beforehand: signing takes long, and in the meantime the server's idle threads would fall
    // asleep.
    let requests: Vec<_> = (0..REQUESTS)
        .map(|number| {
            let headers = headers(number);
            let path = if headers.is_empty() { path.as_str() } else { "/v1/sessions?limit=1" };
            request("GET", path, &headers, "")
        })
        .collect();
    let mut connection = Connection::to(server)?;
    let mut times = Vec::with_capacity(REQUESTS);
    for request in requests {
        let started = Instant::now();
        connection.ask(&request, 200)?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(times))
}

/// Starts a server that publishes these keys, and returns its URL.
fn publish(keys: &[&SigningKey]) -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let body = json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4_096]);
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    Ok(url)
}
