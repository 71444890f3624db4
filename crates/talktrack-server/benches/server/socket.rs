//! Start-up, idle connections, and conversations over sockets.

use futures_util::future::try_join_all;
use talktrack_testbed::bench::{Outcome, TEXT, median};
use tokio_tungstenite::connect_async;

use crate::bed::{Server, conversations, number};

pub(crate) fn run() -> Outcome<()> {
    start()?;
    idle_sockets()?;
    throughput()?;
    paced()
}

/// Measures the time from spawning the process to the first 200 of /readyz.
fn start() -> Outcome<()> {
    let mut times = Vec::new();
    for _ in 0..11 {
        let dir = tempfile::tempdir()?;
        times.push(Server::start(dir.path(), &[])?.ready_after.as_secs_f64() * 1e3);
    }
    let median = median(times);
    println!("start to ready: {median:.0} ms, median of 11 (limit 100, ratio {:.2})", median / 100.0);
    Ok(())
}

fn idle_sockets() -> Outcome<()> {
    const SOCKETS: usize = 5_000;
    let dir = tempfile::tempdir()?;
    let server = Server::start(dir.path(), &["--ping-interval", "10m", "--peer-timeout", "30m"])?;
    let idle = server.resident()?;
    println!("idle: {:.1} MB resident (limit 20, ratio {:.2})", idle as f64 / 1e6, idle as f64 / 20e6);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sockets = runtime.block_on(async {
        let mut sockets = Vec::new();
        for _ in 0..SOCKETS / 50 {
            let opened =
                (0..50).map(|_| async { connect_async(server.socket_url()).await.map(|(socket, _)| socket) });
            sockets.extend(try_join_all(opened).await?);
        }
        Outcome::Ok(sockets)
    })?;
    server.wait_for_metric("talktrack_ws_connections", SOCKETS as f64)?;
    let each = server.resident()?.saturating_sub(idle) as f64 / SOCKETS as f64;
    println!("{SOCKETS} idle sockets: {:.1} KB each (limit 20, ratio {:.2})", each / 1e3, each / 20e3);
    drop(sockets);
    Ok(())
}

/// Measures 64 sockets at full speed, with the client on the same cores and every message acknowledged.
fn throughput() -> Outcome<()> {
    const MESSAGES: usize = 400_000;
    let mut rates = Vec::new();
    for _ in 0..3 {
        let dir = tempfile::tempdir()?;
        let server = Server::start(&dir.path().join("data"), &[])?;
        let file = conversations(dir.path(), 640, MESSAGES / 640)?;
        let summary = server.replay(&file, &["--sockets", "64"])?;
        rates.push(number(&summary, "messages_per_second")?);
    }
    let rate = median(rates);
    println!(
        "socket to durable row, 64 sockets, client on the same cores, {MESSAGES} messages of {} bytes: {rate:.0} messages/s, median \
         of 3 (limit 40,000, ratio {:.2})",
        TEXT.len(),
        rate / 40e3
    );
    Ok(())
}

/// Measures the latency at 1,000 messages a second, spread over 64 sockets.
fn paced() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let server = Server::start(&dir.path().join("data"), &[])?;
    let file = conversations(dir.path(), 64, 300)?;
    let summary = server.replay(&file, &["--sockets", "64", "--rate", "1000"])?;
    let p50 = number(&summary, "ack_p50_ms")?;
    let p99 = number(&summary, "ack_p99_ms")?;
    println!(
        "paced at 1,000 messages/s: ack p50 {p50:.2} ms (limit 3, ratio {:.2})   p99 {p99:.2} ms (limit 15, ratio {:.2})",
        p50 / 3.0,
        p99 / 15.0
    );
    Ok(())
}
