//! A separate directory for each test: it holds the data of a server, and the binary runs in it.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Once};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::{Database, Server};

/// After this time a command counts as hanging.
const COMMAND_DEADLINE: Duration = Duration::from_secs(180);

static CATCH_SIGINT: Once = Once::new();

/// Lets the commands of the tests start with the default action of SIGINT, if this process was started with SIGINT
/// ignored (`nohup make test &`). A program inherits an ignored signal, but not a handler.
fn catch_sigint() {
    /// The bit of SIGINT (2) in the mask of ignored signals.
    const SIGINT_BIT: u64 = 1 << 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    if ignored & SIGINT_BIT != 0 {
        signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::default()).unwrap();
    }
}

/// The working directory of one test. Dropping it deletes the directory, so it must outlive the servers that run in it.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Returns the path of a file in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and returns its path.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Writes the settings file into the data directory of its servers.
    pub(crate) fn settings(&self, content: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.data_dir()).unwrap();
        self.write("data/talktrack.toml", content);
    }

    /// Returns the data directory of its servers.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    /// Returns the path of the file that collects the stdout and stderr of its servers.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.path("server.log")
    }

    /// Starts a server on its data and waits until the server listens.
    pub(crate) async fn serve(&self, flags: &[&str]) -> Server {
        Server::start(self, self.server_command(flags)).await
    }

    /// Builds the command `talktrack serve` on a free port, with these additional flags.
    pub(crate) fn server_command(&self, flags: &[&str]) -> Command {
        let data_dir = self.data_dir();
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(data_dir).args(flags);
        command
    }

    /// Builds a command that runs the binary in this directory with an empty environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        CATCH_SIGINT.call_once(catch_sigint);
        let mut command = Command::new(env!("CARGO_BIN_EXE_talktrack"));
        command.args(arguments).env_clear().current_dir(self.0.path());
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command and waits for its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        Output::of(self.command(arguments)).await
    }

    /// Runs a command on the data directory.
    pub(crate) async fn look(&self, arguments: &[&str]) -> Output {
        let data_dir = self.data_dir();
        self.run(&[arguments, &["--data-dir", data_dir.to_str().unwrap()]].concat()).await
    }

    /// Runs a command on the data directory, with the PostgreSQL at this URL as the store.
    pub(crate) async fn look_at(&self, url: &str, arguments: &[&str]) -> Output {
        self.look(&[arguments, &["--database-url", url]].concat()).await
    }

    /// Starts a server whose store is a PostgreSQL at this address.
    pub(crate) async fn serve_on(&self, url: &str) -> Server {
        self.serve(&["--database-url", url]).await
    }

    /// Opens the SQLite database that its servers write.
    pub(crate) fn database(&self) -> Database {
        Database::open(&self.data_dir().join("talktrack.db"))
    }

    /// Runs `talktrack verify`, which must find that the books balance.
    pub(crate) async fn verify(&self) {
        self.look(&["verify"]).await.succeeded();
    }
}

/// The output of a command and its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// `None` if a signal ended the command.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Runs the command and waits for its end.
    pub(crate) async fn of(mut command: Command) -> Self {
        let Ok(output) = tokio::time::timeout(COMMAND_DEADLINE, command.output()).await else {
            panic!("it did not end within {COMMAND_DEADLINE:?}: {command:?}");
        };
        let output = output.unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts that the command succeeded.
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Asserts that the command failed with this exit code and one line on stderr, and returns the line.
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "one line, not: {}", self.stderr);
        self.stderr.trim_end().to_owned()
    }

    /// Returns every line of stdout as JSON.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Returns the whole stdout as one JSON value.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no JSON: {}", self.stdout))
    }
}
