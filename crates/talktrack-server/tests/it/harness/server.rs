//! A server process: tests start, signal, stop and kill it, send requests to it, and read its log.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::{Home, HttpAnswer, request, until, until_told, within};

/// A running server. Dropping it kills the process; if the test has failed, its log is printed.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts the server and waits for the `listen` file, which holds its address.
    pub(crate) async fn start(home: &Home, command: Command) -> Self {
        let listen = home.data_dir().join("listen");
        // An earlier server that was killed has left its own `listen` file, so the file must be newer than before.
        let written = || std::fs::metadata(&listen).and_then(|file| file.modified()).ok();
        let earlier = written();
        let mut server = Self::launch(home, command);
        let log = server.log.clone();
        let address = until("the server says where it listens", || {
            let ended = server.process.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", std::fs::read_to_string(&log).unwrap());
            written().filter(|_| written() != earlier)?;
            std::fs::read_to_string(&listen).ok()?.trim().parse().ok()
        });
        let address = address.await;
        server.address = address;
        server
    }

    fn launch(home: &Home, mut command: Command) -> Self {
        let log = home.log_path();
        let file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let process = command.spawn().unwrap();
        Self { process, address: SocketAddr::from(([127, 0, 0, 1], 0)), log }
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id().expect("the server has ended")
    }

    /// Sends a signal to the server.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).unwrap();
    }

    /// Waits for the end of the server. Returns the exit code, or `None` if a signal ended it.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        within("the server ends", self.process.wait()).await.unwrap().code()
    }

    /// Sends SIGTERM and waits for a clean exit.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.ended().await, Some(0));
    }

    /// Kills the server with SIGKILL, which it cannot handle.
    pub(crate) async fn kill(mut self) {
        within("the server is killed", self.process.kill()).await.unwrap();
    }

    /// Sends a GET request without a token.
    pub(crate) async fn get(&self, path: &str) -> HttpAnswer {
        request(self.address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
            .await
    }

    /// Sends a GET request with a token.
    pub(crate) async fn get_with(&self, path: &str, token: &str) -> HttpAnswer {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        request(self.address, &format!("{head}Authorization: Bearer {token}\r\n\r\n")).await
    }

    /// Returns the value of a metric, named with its labels as `/metrics` prints them; 0 if the metric is missing.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").await.body;
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        page.lines().find_map(value).unwrap_or(0.0)
    }

    /// Waits until a metric has this value.
    pub(crate) async fn shows(&self, name: &str, value: f64) {
        let shows = async || (self.metric(name).await == value).then_some(());
        until_told(&format!("{name} is {value}"), shows).await;
    }

    /// Waits until the journal is empty: everything accepted has reached the store.
    pub(crate) async fn drained(&self) {
        self.shows("talktrack_journal_bytes", 0.0).await;
    }

    /// Waits until `/readyz` answers with this status, and returns its body.
    pub(crate) async fn readiness(&self, status: u16) -> String {
        let told = async || Some(self.get("/readyz").await).filter(|answer| answer.status == status);
        until_told(&format!("/readyz answers {status}"), told).await.body
    }

    /// Returns the whole log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for a log line that contains this text, and returns the line.
    pub(crate) async fn logged(&self, part: &str) -> String {
        let find = || self.log().lines().find(|line| line.contains(part)).map(str::to_owned);
        until(&format!("the log says {part:?}"), find).await
    }

    /// Returns the resident memory of the server in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    /// Returns the peak of the resident memory in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    /// Returns by how many MiB the peak exceeds `before`, which is in KiB.
    pub(crate) fn grown_mib(&self, before: u64) -> u64 {
        self.peak_kib().saturating_sub(before) >> 10
    }

    fn memory_kib(&self, figure: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(figure)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("--- the server's log\n{log}--- end of the server's log");
        }
    }
}
