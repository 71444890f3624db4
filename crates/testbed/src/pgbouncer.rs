//! A pgbouncer, as hosting services run it in front of PostgreSQL.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::database::Database;
use crate::ports;
use crate::postgres::Postgres;
use crate::programs;
use crate::scratch::Scratch;

const PID_FILE: &str = "pid";

/// The users who may connect through it, without a password.
const USERS: &str = r#"
"talktrack" ""
"postgres" ""
"authenticator" ""
"#;

/// The longest time until it listens, and the pause between attempts to connect.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(10);

/// The most attempts to start. Another process may take the port before pgbouncer does.
const STARTS: usize = 5;

/// A pgbouncer in transaction mode, with 10 server connections for each user and database. It is stopped
/// and removed when dropped.
pub struct PgBouncer {
    port: u16,
    process: Child,
    /// Its files, which are removed when this is dropped.
    _scratch: Scratch,
}

impl PgBouncer {
    /// Returns the pgbouncer in front of [`Postgres::shared`]. The first call starts it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PgBouncer> = OnceLock::new();
        SHARED.get_or_init(|| Self::in_front_of(Postgres::shared()))
    }

    /// Starts a separate pgbouncer in front of this cluster.
    pub fn in_front_of(postgres: &Postgres) -> Self {
        let program = programs::pgbouncer();
        let scratch = Scratch::new(PID_FILE, "KILL");
        scratch.write("users.txt", USERS);
        for _ in 0..STARTS {
            let port = ports::free();
            scratch.write("pgbouncer.ini", &settings(port, postgres.port()));
            let mut command = scratch.command(&program);
            command.args(["-q", "pgbouncer.ini"]).stdout(Stdio::null()).stderr(Stdio::null());
            let mut process = command.spawn().expect("pgbouncer can be started");
            if listens(&mut process, port) {
                return Self { port, process, _scratch: scratch };
            }
        }
        let log = fs::read_to_string(scratch.path().join("log")).unwrap_or_default();
        panic!("pgbouncer did not start:\n{log}");
    }

    /// Returns its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL of the database through it, as the superuser `talktrack`.
    pub fn url(&self, database: &Database) -> String {
        database.url_at(self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // The watchdog kills the process too, but cannot wait for another process's child.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the settings of a hosted pooler, except that it retries an unavailable server after 1 s instead
/// of 15 s.
fn settings(port: u16, server: u16) -> String {
    format!(
        "\
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = users.txt
pool_mode = transaction
default_pool_size = 10
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
server_login_retry = 1
logfile = log
pidfile = {PID_FILE}
"
    )
}

/// Waits until a client can connect (true) or the process has ended (false).
fn listens(process: &mut Child, port: u16) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while process.try_wait().expect("our child can be waited for").is_none() {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return true;
        }
        assert!(Instant::now() < deadline, "pgbouncer did not listen within {PATIENCE:?}");
        thread::sleep(PAUSE);
    }
    false
}
