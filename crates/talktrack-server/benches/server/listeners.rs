//! Throughput of messages over HTTP while clients listen to the events.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use talktrack_testbed::bench::{Outcome, median};

use crate::bed::Server;
use crate::http;

const LISTENERS: [usize; 3] = [0, 1, 10];
const ROUNDS: usize = 3;

/// Requests of each caller: enough to overrun the ring buffer of events if listeners are slower than the callers.
const REQUESTS: usize = 100;

pub(crate) fn run() -> Outcome<()> {
    let mut rates = [const { Vec::new() }; LISTENERS.len()];
    let mut told = [const { Vec::new() }; LISTENERS.len()];
    for _ in 0..ROUNDS {
        for (of, listeners) in LISTENERS.into_iter().enumerate() {
            let dir = tempfile::tempdir()?;
            let server = Server::start(dir.path(), &[])?;
            let heard: Vec<_> = (0..listeners).map(|_| listen(&server)).collect::<Outcome<_>>()?;
            let began = Instant::now();
            rates[of].push(http::ingest(&server, REQUESTS)?);
            let all = http::messages(REQUESTS);
            let count = || heard.iter().map(|heard| heard.load(Ordering::Relaxed)).min();
            let at_the_end = count().unwrap_or(all) as f64 / all as f64;
            while count().is_some_and(|count| count < all) && began.elapsed().as_secs() < 60 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            told[of].push((at_the_end, all as f64 / began.elapsed().as_secs_f64()));
        }
    }
    for (of, listeners) in LISTENERS.into_iter().enumerate() {
        let [none, these] = [0, of].map(|of| median(rates[of].clone()));
        let share = told[of].iter().map(|(share, _)| share).sum::<f64>() / ROUNDS as f64;
        let pace = told[of].iter().map(|(_, pace)| pace).sum::<f64>() / ROUNDS as f64;
        print!(
            "HTTP to durable row with {listeners} listeners to /v1/events: {these:.0} messages/s, median of {ROUNDS}"
        );
        match listeners {
            0 => println!(),
            _ => println!(
                " ({:.2} of what it is without; {:.0} % of it told by then, {pace:.0} events/s to each until all was told)",
                these / none,
                share * 100.0
            ),
        }
    }
    Ok(())
}

/// Reads all events as fast as they arrive. The returned counter holds the number of messages among them.
fn listen(server: &Server) -> Outcome<Arc<AtomicUsize>> {
    let stream = TcpStream::connect(&server.address)?;
    write!(&stream, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let heard = Arc::new(AtomicUsize::new(0));
    let mut lines = BufReader::with_capacity(1 << 18, stream);
    let mut line = Vec::new();
    // The server sends the head after the listener has its position in the stream, so no event after it is missed.
    while line != b"\r\n" {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Err("the events ended".into());
        }
    }
    let count = Arc::clone(&heard);
    std::thread::spawn(move || {
        loop {
            line.clear();
            match lines.read_until(b'\n', &mut line) {
                Ok(read) if read > 0 => {}
                _ => return,
            }
            if line.starts_with(b"event: message") || line.starts_with(b"event:message") {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    Ok(heard)
}
