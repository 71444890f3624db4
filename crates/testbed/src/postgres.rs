//! A PostgreSQL cluster that belongs to the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::certificates::Authority;
use crate::database::Database;
use crate::harm::{Frozen, Occupied};
use crate::ports;
use crate::programs;
use crate::psql::Psql;
use crate::scratch::Scratch;

/// The password of the users who need one: `keyed` authenticates by SCRAM, `asked_in_the_clear` by
/// cleartext password.
pub const KEYED_PASSWORD: &str = "sesame";

/// Who may connect and how; the first match applies.
const ACCESS: &str = "\
local all all               trust
host  replication all 127.0.0.1/32 trust
host  all keyed 127.0.0.1/32 scram-sha-256
host  all asked_in_the_clear 127.0.0.1/32 password
host  all all   127.0.0.1/32 trust
";

const PID_FILE: &str = "data/postmaster.pid";
/// The file for the tests' settings. PostgreSQL reads it after postgresql.conf, which initdb has adapted to
/// the machine.
const SETTINGS: &str = "data/postgresql.auto.conf";
const LOG: &str = "log";

/// The server's log message if another process listens on its port.
const PORT_TAKEN: &str = "Address already in use";

/// The most attempts to start. Another process may take the port before PostgreSQL does.
const STARTS: usize = 5;

/// A running cluster in a temporary directory, on a port of 127.0.0.1, with the durability of production.
/// All users may connect, `talktrack` as a superuser; only `keyed` (SCRAM) and `asked_in_the_clear` need
/// [`KEYED_PASSWORD`]. It offers TLS as localhost and as 127.0.0.1. It is stopped and removed when dropped.
pub struct Postgres {
    programs: PathBuf,
    port: u16,
    ca_file: PathBuf,
    other_ca_file: PathBuf,
    scratch: Scratch,
}

impl Postgres {
    /// Returns the cluster that the tests of this process share. The first call starts it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Returns a second shared cluster. Tests must not call [`like_supabase`](crate::like_supabase) on it
    /// or create roles in any other way, because roles belong to the whole cluster.
    pub fn plain() -> &'static Self {
        static PLAIN: OnceLock<Postgres> = OnceLock::new();
        PLAIN.get_or_init(Self::start)
    }

    /// Starts a separate cluster, for a test that stops it.
    pub fn start() -> Self {
        let scratch = Scratch::new(PID_FILE, "QUIT");
        let programs = programs::postgres();
        initialise(&scratch, &programs);
        let ca_file = certify(&scratch);
        let other_ca_file = scratch.write("other-ca.pem", &Authority::new("somebody else").certificate);
        let mut cluster = Self { programs, port: 0, ca_file, other_ca_file, scratch };
        cluster.listen_on_a_free_port();
        for role in ["keyed", "asked_in_the_clear"] {
            cluster.psql("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD '{KEYED_PASSWORD}'"));
        }
        cluster
    }

    /// Returns its port on 127.0.0.1. [`Postgres::start_again`] keeps the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the directory of its Unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.scratch.path()
    }

    /// Returns the certificate of the authority that signed the server's certificate, for `sslrootcert`.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Returns the certificate of an unrelated authority.
    pub fn other_ca_file(&self) -> &Path {
        &self.other_ca_file
    }

    /// Runs these statements as `talktrack` on this database, each in its own transaction, and returns the
    /// selected rows: one line per row, with columns separated by `|`. psql also accepts a connection
    /// string in place of the database's name. Panics at the first statement that fails.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.client().run(database, sql)
    }

    /// Runs statements that may fail.
    ///
    /// # Errors
    /// The error message of psql.
    pub fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        self.client().try_run(database, sql)
    }

    /// Creates a fresh, empty database.
    pub fn database(&self) -> Database {
        self.database_from("template1")
    }

    /// Creates a copy of a database that has no connections.
    pub fn database_from(&self, template: &str) -> Database {
        Database::create(&self.client(), template)
    }

    /// Stops the server at once, as a crash would: clients lose their connections, and the next start
    /// recovers from the WAL.
    pub fn stop(&mut self) {
        let output = self.pg_ctl(&["stop", "-m", "immediate"]).output().expect("pg_ctl can be started");
        assert!(output.status.success(), "pg_ctl stop: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts the stopped server again, with the same port and data. Returns when it answers.
    pub fn start_again(&mut self) {
        self.try_start().unwrap_or_else(|log| panic!("PostgreSQL did not start again:\n{log}"));
    }

    /// Starts the stopped server again as a standby whose primary sends nothing: it accepts connections and
    /// refuses every write. Returns when it answers.
    pub fn start_as_standby(&mut self) {
        self.scratch.write("data/standby.signal", "");
        self.start_again();
    }

    /// Starts a standby with asynchronous streaming replication: commits on the primary do not wait for it.
    /// Returns when it accepts connections.
    pub fn standby(&self) -> Self {
        let scratch = Scratch::new(PID_FILE, "QUIT");
        let port = self.port.to_string();
        let output = scratch
            .command(&self.programs.join("pg_basebackup"))
            .args([
                "-D",
                "data",
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "talktrack",
                "-c",
                "fast",
                "-X",
                "stream",
            ])
            .output()
            .expect("pg_basebackup can be started");
        assert!(output.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&output.stderr));
        let ca_file = certify(&scratch);
        let other_ca_file = scratch.write("other-ca.pem", &Authority::new("somebody else").certificate);
        scratch.write("data/standby.signal", "");
        let programs = self.programs.clone();
        let mut standby = Self { programs, port: 0, ca_file, other_ca_file, scratch };
        standby.listen_on_a_free_port();
        standby.follow(&format!("host=127.0.0.1 port={port} user=talktrack"));
        standby
    }

    /// True if the standby has replayed everything that this server has written so far.
    pub fn is_followed_by(&self, standby: &Self) -> bool {
        let written = self.psql("postgres", "SELECT pg_current_wal_lsn()");
        standby.psql("postgres", &format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{written}', false)"))
            == "t"
    }

    /// From now on the standby receives nothing from its primary, so it lags behind.
    pub fn lag(&self) {
        self.follow("");
    }

    fn follow(&self, primary: &str) {
        self.psql("postgres", &format!("ALTER SYSTEM SET primary_conninfo = '{primary}'"));
        self.psql("postgres", "SELECT pg_reload_conf()");
    }

    /// Promotes the standby to a primary. Connections stay open.
    pub fn promote(&self) {
        assert_eq!(self.psql("postgres", "SELECT pg_promote()"), "t", "it is promoted within a minute");
    }

    /// Stops every process of the server, as on a host that is swapping heavily: the server neither answers
    /// nor refuses, and connections stay open. It continues when the returned value is dropped.
    pub fn freeze(&self) -> Frozen {
        Frozen::of(&self.scratch.path().join(PID_FILE))
    }

    /// Takes every connection that the server has left, until the returned value is dropped.
    pub fn occupy(&self) -> Occupied {
        Occupied::all_of(&self.client())
    }

    /// Starts the stopped server again with this additional line of postgresql.conf.
    pub fn start_with(&mut self, setting: &str) {
        let settings = format!("{}{setting}\n", self.settings());
        self.scratch.write(SETTINGS, &settings);
        self.start_again();
    }

    fn client(&self) -> Psql {
        Psql::new(&self.programs, self.port)
    }

    fn listen_on_a_free_port(&mut self) {
        for _ in 0..STARTS {
            self.port = ports::free();
            self.scratch.write(SETTINGS, &self.settings());
            match self.try_start() {
                Ok(()) => return,
                Err(log) => assert!(log.contains(PORT_TAKEN), "PostgreSQL did not start:\n{log}"),
            }
        }
        panic!("PostgreSQL found {STARTS} free ports taken");
    }

    fn settings(&self) -> String {
        let Self { port, scratch, .. } = self;
        let dir = scratch.path().display();
        format!(
            "\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{dir}'
max_connections = 300
shared_buffers = 128MB
ssl = on
ssl_cert_file = '{dir}/server.pem'
ssl_key_file = '{dir}/server.key'
"
        )
    }

    /// Returns when the server answers, or with its log if it does not start.
    fn try_start(&self) -> Result<(), String> {
        let log = self.scratch.write(LOG, "");
        let status = self
            .pg_ctl(&["start", "-w", "-t", "60", "-l", LOG])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if status.expect("pg_ctl can be started").success() {
            return Ok(());
        }
        Err(fs::read_to_string(log).expect("the log can be read"))
    }

    fn pg_ctl(&self, arguments: &[&str]) -> Command {
        let mut command = self.scratch.command(&self.programs.join("pg_ctl"));
        command.args(arguments).args(["-D", "data", "-s"]);
        command
    }
}

fn initialise(scratch: &Scratch, programs: &Path) {
    let output = scratch
        .command(&programs.join("initdb"))
        .args(["-D", "data", "-U", "talktrack", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
        .output()
        .expect("initdb can be started");
    assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    scratch.write("data/pg_hba.conf", ACCESS);
}

/// Gives the server a certificate, and returns the file with the certificate of the authority that signed
/// it.
fn certify(scratch: &Scratch) -> PathBuf {
    let authority = Authority::new("talktrack testbed");
    let identity = authority.identity();
    scratch.write("server.pem", &identity.certificate);
    scratch.write("server.key", &identity.key);
    scratch.write("ca.pem", &authority.certificate)
}
