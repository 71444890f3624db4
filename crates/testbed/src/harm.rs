//! What can be done to a running PostgreSQL, each undone when its value is dropped.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::psql::Psql;

/// What PostgreSQL says when all its connections are taken.
const ALL_TAKEN: &str = "too many clients already";

const PATIENCE: Duration = Duration::from_secs(120);

/// A server all of whose processes stand still.
pub struct Frozen {
    /// The postmaster first.
    processes: Vec<String>,
}

impl Frozen {
    /// Freezes the server whose number stands first in this file.
    pub(crate) fn of(pid_file: &Path) -> Self {
        let text = fs::read_to_string(pid_file).expect("a running server has its number in a file");
        let postmaster = text.lines().next().expect("the number is the first line").to_owned();
        let mut frozen = Self { processes: vec![postmaster] };
        // The postmaster first: it makes no more of them then.
        frozen.signal("STOP");
        let children = Command::new("pgrep").args(["-P", &frozen.processes[0]]).output();
        let children = String::from_utf8(children.expect("pgrep can be started").stdout);
        frozen.processes.extend(children.expect("numbers are text").lines().map(str::to_owned));
        frozen.signal("STOP");
        frozen
    }

    fn signal(&self, signal: &str) {
        // A process that has ended meanwhile needs none.
        let _ = Command::new("kill").args(["-s", signal]).args(&self.processes).output();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal("CONT");
    }
}

/// Every connection that a server had left.
pub struct Occupied {
    clients: Vec<Child>,
}

impl Occupied {
    pub(crate) fn all_of(psql: &Psql) -> Self {
        let mut occupied = Self { clients: Vec::new() };
        let deadline = Instant::now() + PATIENCE;
        while !psql.try_run("postgres", "SELECT 1").is_err_and(|said| said.contains(ALL_TAKEN)) {
            assert!(Instant::now() < deadline, "not all connections were taken within {PATIENCE:?}");
            // One that is idle goes with its client.
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
