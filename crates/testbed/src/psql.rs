//! Runs SQL on one cluster through the program psql, so that the tests do not depend on the code under
//! test.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

/// A cluster's port, and the psql of its version.
#[derive(Clone)]
pub(crate) struct Psql {
    program: PathBuf,
    port: u16,
}

impl Psql {
    pub(crate) fn new(programs: &Path, port: u16) -> Self {
        Self { program: programs.join("psql"), port }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Runs these statements, each in its own transaction, up to the first that fails. Returns the rows,
    /// unaligned, or the error message of psql.
    pub(crate) fn try_run(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut child = self.spawn(database);
        let mut stdin = child.stdin.take().expect("standard input is piped");
        // In a separate thread: with long statements and long answers, writing and reading would block each
        // other.
        let output = thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(sql.as_bytes()));
            child.wait_with_output().expect("psql can be waited for")
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Runs statements that must succeed, as [`Psql::try_run`] does.
    pub(crate) fn run(&self, database: &str, sql: &str) -> String {
        self.try_run(database, sql)
            .unwrap_or_else(|complaint| panic!("psql on {database}: {complaint}\n{sql}"))
    }

    /// Starts a client that waits for statements.
    pub(crate) fn spawn(&self, database: &str) -> Child {
        Command::new(&self.program)
            .args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "talktrack"])
            .args(["-p", &self.port.to_string(), "-d", database])
            .env("PGCONNECT_TIMEOUT", "30")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql can be started")
    }
}
