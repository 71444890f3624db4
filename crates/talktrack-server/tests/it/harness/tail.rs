//! A `talktrack tail` process.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout};

use super::{Home, within};

/// A `talktrack tail` process. Dropping it ends the process.
pub(crate) struct Tail {
    pub(crate) process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    warnings: Lines<BufReader<ChildStderr>>,
}

impl Tail {
    /// Starts `talktrack tail` on the data directory with these arguments.
    pub(crate) fn start(home: &Home, arguments: &[&str]) -> Self {
        let data_dir = home.data_dir();
        Self::run(home, &[&["--data-dir", data_dir.to_str().unwrap()], arguments].concat())
    }

    /// Starts `talktrack tail` with these arguments.
    pub(crate) fn run(home: &Home, arguments: &[&str]) -> Self {
        let mut command = home.command(&[&["tail"], arguments].concat());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let warnings = BufReader::new(process.stderr.take().unwrap()).lines();
        Self { process, lines, warnings }
    }

    /// Waits for the next line.
    pub(crate) async fn line(&mut self) -> String {
        within("a line of the tail", self.lines.next_line()).await.unwrap().unwrap()
    }

    /// Waits for the next line on stderr.
    pub(crate) async fn warning(&mut self) -> String {
        within("a line of the tail on stderr", self.warnings.next_line()).await.unwrap().unwrap()
    }

    /// Waits for the next row.
    pub(crate) async fn next(&mut self) -> Value {
        serde_json::from_str(&self.line().await).unwrap()
    }

    /// Waits for the next row and returns its content and revision.
    pub(crate) async fn said(&mut self) -> (String, i64) {
        let row = self.next().await;
        (row["content"].as_str().unwrap().to_owned(), row["revision"].as_i64().unwrap())
    }

    /// Waits for this many rows.
    pub(crate) async fn take(mut self, count: usize) -> Vec<Value> {
        let mut rows = Vec::new();
        while rows.len() < count {
            rows.push(self.next().await);
        }
        rows
    }
}
