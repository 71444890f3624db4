//! A PostgreSQL cluster of the tests' own.

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

/// The password of the users who are asked for one: `keyed` by SCRAM, `asked_in_the_clear` for the password itself.
pub const KEYED_PASSWORD: &str = "sesame";

/// Who may come in how, first match first.
const ACCESS: &str = "\
local all all               trust
host  replication all 127.0.0.1/32 trust
host  all keyed 127.0.0.1/32 scram-sha-256
host  all asked_in_the_clear 127.0.0.1/32 password
host  all all   127.0.0.1/32 trust
";

const PID_FILE: &str = "data/postmaster.pid";
/// Read after postgresql.conf, in which initdb has put what suits this machine.
const SETTINGS: &str = "data/postgresql.auto.conf";
const LOG: &str = "log";

/// What the server logs when somebody else listens on its port.
const PORT_TAKEN: &str = "Address already in use";

/// How often a start may find its port taken by somebody else meanwhile.
const STARTS: usize = 5;

/// A running cluster in a temporary directory, on a port of 127.0.0.1, durable as in production. Everybody is let in,
/// `talktrack` as a superuser; only `keyed` (SCRAM) and `asked_in_the_clear` must give [`KEYED_PASSWORD`]. It speaks TLS as localhost and as
/// 127.0.0.1 with those who want it. Dropped, it is stopped and removed.
pub struct Postgres {
    programs: PathBuf,
    port: u16,
    ca_file: PathBuf,
    other_ca_file: PathBuf,
    scratch: Scratch,
}

impl Postgres {
    /// The cluster that the tests of this process share. Started by the first who asks.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A second shared cluster, on which nobody may call [`like_supabase`](crate::like_supabase) or make roles in any
    /// other way: roles belong to the whole cluster.
    pub fn plain() -> &'static Self {
        static PLAIN: OnceLock<Postgres> = OnceLock::new();
        PLAIN.get_or_init(Self::start)
    }

    /// A cluster of the caller's own, for a test that stops it.
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

    /// The port of 127.0.0.1 it listens on, the same after [`Postgres::start_again`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority that vouches for the server, for `sslrootcert`.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The certificate of an authority that has nothing to do with the server.
    pub fn other_ca_file(&self) -> &Path {
        &self.other_ca_file
    }

    /// Runs these statements as `talktrack` on this database, each by itself, and answers with what they select: a line
    /// a row, the columns between `|`. For the database's name psql takes any connection string. Panics where the first
    /// statement fails.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.client().run(database, sql)
    }

    /// The same, for statements that may fail.
    ///
    /// # Errors
    /// What psql complained of.
    pub fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        self.client().try_run(database, sql)
    }

    /// A fresh, empty database.
    pub fn database(&self) -> Database {
        self.database_from("template1")
    }

    /// A fresh copy of a database to which nobody is connected.
    pub fn database_from(&self, template: &str) -> Database {
        Database::create(&self.client(), template)
    }

    /// Ends the server at once, as a crash would: whoever is connected loses the connection, and the next start recovers
    /// from the log.
    pub fn stop(&mut self) {
        let output = self.pg_ctl(&["stop", "-m", "immediate"]).output().expect("pg_ctl can be started");
        assert!(output.status.success(), "pg_ctl stop: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts the stopped server again: the same port, the same data. Returns when it answers.
    pub fn start_again(&mut self) {
        self.try_start().unwrap_or_else(|log| panic!("PostgreSQL did not start again:\n{log}"));
    }

    /// Starts the stopped server again as a standby whose primary does not send anything: it takes connections and refuses
    /// every write. Returns when it answers.
    pub fn start_as_standby(&mut self) {
        self.scratch.write("data/standby.signal", "");
        self.start_again();
    }

    /// A standby that this server streams everything to, asynchronously: it answers no later than its primary does. Returns when
    /// it takes connections.
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

    /// Whether the standby has everything that this server has written so far.
    pub fn is_followed_by(&self, standby: &Self) -> bool {
        let written = self.psql("postgres", "SELECT pg_current_wal_lsn()");
        standby.psql("postgres", &format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{written}', false)"))
            == "t"
    }

    /// From now on the standby hears nothing of its primary: it lags behind.
    pub fn lag(&self) {
        self.follow("");
    }

    fn follow(&self, primary: &str) {
        self.psql("postgres", &format!("ALTER SYSTEM SET primary_conninfo = '{primary}'"));
        self.psql("postgres", "SELECT pg_reload_conf()");
    }

    /// Makes a primary of the standby. Connections stay open.
    pub fn promote(&self) {
        assert_eq!(self.psql("postgres", "SELECT pg_promote()"), "t", "it is promoted within a minute");
    }

    /// Stops every process of the server where it stands, as a host does that swaps itself to death: it neither answers nor
    /// refuses, and connections stay open. It goes on when what is returned is dropped.
    pub fn freeze(&self) -> Frozen {
        Frozen::of(&self.scratch.path().join(PID_FILE))
    }

    /// Takes every connection that the server has left, until what is returned is dropped.
    pub fn occupy(&self) -> Occupied {
        Occupied::all_of(&self.client())
    }

    /// Starts the stopped server again with this line of postgresql.conf on top of what it has.
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

    /// Returns when the server answers, or with what it logged.
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

/// Gives the server a certificate, and tells the file of the authority that signed it.
fn certify(scratch: &Scratch) -> PathBuf {
    let authority = Authority::new("talktrack testbed");
    let identity = authority.identity();
    scratch.write("server.pem", &identity.certificate);
    scratch.write("server.key", &identity.key);
    scratch.write("ca.pem", &authority.certificate)
}
