//! The test bed of the benchmarks: the binary as a server process, and HTTP written by hand.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use talktrack_testbed::bench::{self, Outcome, TEXT};
use uuid::Uuid;

const BINARY: &str = env!("CARGO_BIN_EXE_talktrack");

pub(crate) fn number(summary: &Value, key: &str) -> Outcome<f64> {
    Ok(summary[key].as_f64().ok_or_else(|| format!("no {key} in {summary}"))?)
}

/// Writes a file of conversations in the replay format and returns its path.
pub(crate) fn conversations(dir: &Path, sessions: usize, messages: usize) -> Outcome<PathBuf> {
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

pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    pub(crate) ready_after: Duration,
}

impl Server {
    pub(crate) fn start(data_dir: &Path, args: &[&str]) -> Outcome<Self> {
        let started = Instant::now();
        let mut server = Self::start_unready(data_dir, args)?;
        while !server.get("/readyz")?.starts_with("HTTP/1.1 200") {
            std::thread::yield_now();
        }
        server.ready_after = started.elapsed();
        Ok(server)
    }

    /// Starts a server, and waits only until it listens.
    pub(crate) fn start_unready(data_dir: &Path, args: &[&str]) -> Outcome<Self> {
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
        // The log is read and discarded, because a full pipe would slow the server down.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok(Self { child, address, ready_after: Duration::ZERO })
    }

    pub(crate) fn get(&self, path: &str) -> Outcome<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    pub(crate) fn wait_for_metric(&self, name: &str, value: f64) -> Outcome<()> {
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

    pub(crate) fn socket_url(&self) -> String {
        format!("ws://{}/v1/ws?user_id={}", self.address, Uuid::from_u128(7))
    }

    pub(crate) fn replay(&self, file: &Path, args: &[&str]) -> Outcome<Value> {
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

    pub(crate) fn resident(&self) -> Outcome<u64> {
        bench::resident(self.child.id())
    }

    /// Returns the processor time of the server so far, in user and kernel mode, in seconds.
    pub(crate) fn processor_seconds(&self) -> Outcome<f64> {
        /// The tick rate of `/proc/PID/stat`, which Linux fixes at 100 per second on all machines.
        const TICKS: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(')').ok_or("no name in stat")?;
        let ticks: Vec<f64> =
            fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() / TICKS)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that stays open for consecutive requests.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl Connection {
    pub(crate) fn to(server: &Server) -> Outcome<Self> {
        Self::at(&server.address)
    }

    pub(crate) fn at(address: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), line: String::new(), body: Vec::new() })
    }

    /// Sends a request, checks the status of the response and returns the body.
    pub(crate) fn ask(&mut self, request: &[u8], status: u16) -> Outcome<&[u8]> {
        let answered = self.answer(request)?;
        if answered != status {
            return Err(format!("{answered}: {}", String::from_utf8_lossy(&self.body)).into());
        }
        Ok(&self.body)
    }

    /// Sends a request, reads the response and returns its status.
    pub(crate) fn answer(&mut self, request: &[u8]) -> Outcome<u16> {
        self.stream.get_mut().write_all(request)?;
        let mut length = 0;
        let mut is_chunked = false;
        self.read_line()?;
        let status = self.line.split(' ').nth(1).ok_or("no status")?.parse()?;
        loop {
            self.read_line()?;
            match self.line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse()?
                }
                Some((name, "chunked")) if name.eq_ignore_ascii_case("transfer-encoding") => {
                    is_chunked = true
                }
                None => break,
                Some(_) => {}
            }
        }
        self.body.clear();
        self.read_body(length)?;
        while is_chunked {
            self.read_line()?;
            let length = usize::from_str_radix(self.line.trim_end(), 16)?;
            is_chunked = length > 0;
            self.read_body(length)?;
            self.read_line()?;
        }
        Ok(status)
    }

    fn read_body(&mut self, length: usize) -> Outcome<()> {
        let there = self.body.len();
        self.body.resize(there + length, 0);
        Ok(self.stream.read_exact(&mut self.body[there..])?)
    }

    fn read_line(&mut self) -> Outcome<()> {
        self.line.clear();
        match self.stream.read_line(&mut self.line)? {
            0 => Err("the server has closed the connection".into()),
            _ => Ok(()),
        }
    }
}

/// Builds a request for a connection that stays open.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}
