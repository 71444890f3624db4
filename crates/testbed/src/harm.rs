//! Harm to a running PostgreSQL. Each kind is undone when its value is dropped.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::psql::Psql;

/// PostgreSQL's error when all its connections are in use.
const ALL_TAKEN: &str = "too many clients already";

const PATIENCE: Duration = Duration::from_secs(120);

/// A server whose processes are all stopped.
pub struct Frozen {
    /// The process ids, the postmaster's first.
    processes: Vec<String>,
}

impl Frozen {
    /// Freezes the server whose process id is on the first line of this file.
    pub(crate) fn of(pid_file: &Path) -> Self {
        let text = fs::read_to_string(pid_file).expect("a running server has its number in a file");
        let postmaster = text.lines().next().expect("the number is the first line").to_owned();
        let mut frozen = Self { processes: vec![postmaster] };
        // The postmaster first, so that it starts no more processes.
        frozen.signal("STOP");
        let children = Command::new("pgrep").args(["-P", &frozen.processes[0]]).output();
        let children = String::from_utf8(children.expect("pgrep can be started").stdout);
        frozen.processes.extend(children.expect("numbers are text").lines().map(str::to_owned));
        frozen.signal("STOP");
        frozen
    }

    fn signal(&self, signal: &str) {
        // A process may have ended in the meantime.
        let _ = Command::new("kill").args(["-s", signal]).args(&self.processes).output();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal("CONT");
    }
}

/// All connections that a server had left.
pub struct Occupied {
    clients: Vec<Child>,
}

impl Occupied {
    pub(crate) fn all_of(psql: &Psql) -> Self {
        let mut occupied = Self { clients: Vec::new() };
        let deadline = Instant::now() + PATIENCE;
        while !psql.try_run("postgres", "SELECT 1").is_err_and(|said| said.contains(ALL_TAKEN)) {
            assert!(Instant::now() < deadline, "not all connections were taken within {PATIENCE:?}");
            // `psql` waits for input, and its idle connection ends when the client does.
            occupied.clients.push(psql.spawn("postgres"));
        }
        occupied
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        for client in &mut self.clients {
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}
