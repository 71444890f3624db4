//! What the server does, seen from outside: the real binary, real sockets, a client on the same machine. Each figure stands
//! beside its limit from the same run.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::Value;
use tokio_tungstenite::connect_async;
use uuid::Uuid;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const BINARY: &str = env!("CARGO_BIN_EXE_talktrack");
const TEXT: &str = "I would like to change the delivery address of my last order, please. It should go to the office on \
                    Harbour Street instead, second floor, and somebody must sign for it before noon if possible.  Thanks!";

fn main() -> Outcome<()> {
    start()?;
    idle_sockets()?;
    throughput()?;
    paced()
}

/// From spawning the process to its first 200 on /readyz.
fn start() -> Outcome<()> {
    let mut times = Vec::new();
    for _ in 0..11 {
        let dir = tempfile::tempdir()?;
        times.push(Server::start(dir.path(), &[])?.ready_after.as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
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

/// Sixty-four sockets as fast as they can, the client on the same cores, every message acknowledged.
fn throughput() -> Outcome<()> {
    const MESSAGES: usize = 400_000;
    let mut best = Vec::new();
    for _ in 0..3 {
        let dir = tempfile::tempdir()?;
        let server = Server::start(&dir.path().join("data"), &[])?;
        let file = conversations(dir.path(), 640, MESSAGES / 640)?;
        let summary = server.replay(&file, &["--sockets", "64"])?;
        best.push(number(&summary, "messages_per_second")?);
    }
    best.sort_by(f64::total_cmp);
    println!(
        "socket to durable row, 64 sockets, client on the same cores, {MESSAGES} messages of {} bytes: {:.0} messages/s, median \
         of 3 (limit 40,000, ratio {:.2})",
        TEXT.len(),
        best[1],
        best[1] / 40e3
    );
    Ok(())
}

/// A thousand messages a second, as many agents at once would send them.
fn paced() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let server = Server::start(&dir.path().join("data"), &[])?;
    let file = conversations(dir.path(), 64, 300)?;
    let summary = server.replay(&file, &["--sockets", "64", "--rate", "1000"])?;
    let (p50, p99) = (number(&summary, "ack_p50_ms")?, number(&summary, "ack_p99_ms")?);
    println!(
        "paced at 1,000 messages/s: ack p50 {p50:.2} ms (limit 3, ratio {:.2})   p99 {p99:.2} ms (limit 15, ratio {:.2})",
        p50 / 3.0,
        p99 / 15.0
    );
    Ok(())
}

fn number(summary: &Value, key: &str) -> Outcome<f64> {
    Ok(summary[key].as_f64().ok_or_else(|| format!("no {key} in {summary}"))?)
}

/// A file of conversations in the replay format.
fn conversations(dir: &Path, sessions: usize, messages: usize) -> Outcome<PathBuf> {
    let path = dir.join("conversations.jsonl");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
    let user = Uuid::from_u128(7);
    for session in 0..sessions {
        let session = Uuid::new_v5(&user, &session.to_be_bytes());
        let mut lines =
            format!("{{\"type\":\"session.start\",\"session_id\":\"{session}\",\"user_id\":\"{user}\"}}\n");
        for n in 0..messages {
            let role = if n % 2 == 0 { "user" } else { "assistant" };
            writeln!(
                lines,
                "{{\"type\":\"message\",\"session_id\":\"{session}\",\"role\":\"{role}\",\"content\":\"{TEXT}\"}}"
            )?;
        }
        file.write_all(lines.as_bytes())?;
    }
    file.flush()?;
    Ok(path)
}

struct Server {
    child: Child,
    address: String,
    ready_after: Duration,
}

impl Server {
    fn start(data_dir: &Path, args: &[&str]) -> Outcome<Self> {
        let started = Instant::now();
        let mut child = Command::new(BINARY)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(args)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut log = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let address = loop {
            let mut line = String::new();
            if log.read_line(&mut line)? == 0 {
                return Err("the server did not start".into());
            }
            if let Some((_, rest)) = line.split_once("http://") {
                break rest.split_whitespace().next().unwrap_or_default().to_owned();
            }
        };
        // The log is read on, as `tee` would: a full pipe is not what is measured here.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let mut server = Self { child, address, ready_after: Duration::ZERO };
        while !server.get("/readyz")?.starts_with("HTTP/1.1 200") {
            std::thread::yield_now();
        }
        server.ready_after = started.elapsed();
        Ok(server)
    }

    fn get(&self, path: &str) -> Outcome<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn wait_for_metric(&self, name: &str, value: f64) -> Outcome<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let metrics = self.get("/metrics")?;
            let found = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            if found == Some(value) {
                return Ok(());
            }
        }
        Err(format!("{name} did not become {value}").into())
    }

    fn socket_url(&self) -> String {
        format!("ws://{}/v1/ws?user_id={}", self.address, Uuid::from_u128(7))
    }

    fn replay(&self, file: &Path, args: &[&str]) -> Outcome<Value> {
        let url = format!("ws://{}/v1/ws", self.address);
        let output = Command::new(BINARY)
            .args(["client", "--url", &url, "--json", "--file"])
            .arg(file)
            .args(args)
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("the replay failed: {}", String::from_utf8_lossy(&output.stdout)).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn resident(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).ok_or("no size")?.parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
