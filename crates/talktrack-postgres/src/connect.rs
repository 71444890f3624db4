//! Connects to a database: the connection string, TLS, and the limits of a connection.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::prefer;
use crate::tls::{self, Trust};

/// The longest time that a server may take to accept a connection, if the connection string gives none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time until a new connection is ready for queries.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The longest time that sent data may stay unacknowledged, and the time after which a silent peer is sent
/// a keepalive probe.
const SILENT_PEER: Duration = Duration::from_secs(30);

/// The default port.
const DEFAULT_PORT: u16 = 5432;

/// The form that the connection string should have.
const EXAMPLE: &str = "postgres://USER:PASSWORD@HOST:5432/DATABASE";

/// Parameters that hosting services and other clients add to connection strings and that talktrack ignores.
const IGNORED_PARAMETERS: [&str; 6] =
    ["pgbouncer", "connection_limit", "pool_timeout", "supa", "statement_cache_size", "workaround"];

/// The address of a database and the user who connects, from a connection string as Supabase prints it.
/// `Display` omits the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    config: Config,
    trust: Trust,
    /// The file of root certificates that `sslrootcert` names.
    root_cert: Option<PathBuf>,
}

/// A connection string that cannot be used. The error never contains the string, because that holds a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAddress(String);

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(url: &str) -> Result<Self, InvalidAddress> {
        let (base, query) = split_query(url);
        if base.contains("[YOUR-PASSWORD]") {
            let problem = "still holds the placeholder [YOUR-PASSWORD]; put the database password there";
            return Err(InvalidAddress(problem.into()));
        }
        let mut ssl = SslParameters::default();
        let rest: Vec<&str> =
            query.split('&').filter(|pair| !pair.is_empty() && !ssl.take_parameter(pair)).collect();
        let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        let mut config: Config = url.parse().map_err(|error| invalid_address(&reason_of(&error)))?;
        check_hosts(&config)?;
        let (mode, trust) = ssl.resolve_mode()?;
        config.ssl_mode(mode);
        set_default_timeouts(&mut config);
        if config.get_application_name().is_none() {
            config.application_name("talktrack");
        }
        Ok(Self { config, trust, root_cert: ssl.root_cert })
    }
}

/// Sets timeouts for an unresponsive peer, unless the connection string gives its own.
fn set_default_timeouts(config: &mut Config) {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENT_PEER);
    }
    if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
        config.keepalives_idle(SILENT_PEER);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(SILENT_PEER / 3);
    }
}

/// The parameters that are handled here and not by the PostgreSQL driver.
#[derive(Default)]
struct SslParameters {
    mode: Option<String>,
    root_cert: Option<PathBuf>,
}

impl SslParameters {
    /// Takes the parameter if it is one of these, or one to ignore. Returns false for all others.
    fn take_parameter(&mut self, pair: &str) -> bool {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "sslmode" => self.mode = Some(value.to_owned()),
            "sslrootcert" => {
                self.root_cert = Some(percent_decode_str(value).decode_utf8_lossy().into_owned().into())
            }
            _ => return IGNORED_PARAMETERS.contains(&key),
        }
        true
    }

    /// Interprets the mode as libpq does: with a root certificate, `require` verifies the chain.
    fn resolve_mode(&self) -> Result<(SslMode, Trust), InvalidAddress> {
        let given = self.root_cert.is_some();
        Ok(match self.mode.as_deref() {
            Some("disable") => (SslMode::Disable, Trust::Anyone),
            None | Some("prefer" | "allow") => (SslMode::Prefer, Trust::Anyone),
            Some("require") if !given => (SslMode::Require, Trust::Anyone),
            Some("require" | "verify-ca") => (SslMode::Require, Trust::Chain),
            Some("verify-full") => (SslMode::Require, Trust::ChainAndName),
            // The mode is not shown: if the password contains a question mark, this may be a part of it.
            Some(_) => {
                let modes = "disable, prefer, require, verify-ca and verify-full";
                return Err(InvalidAddress(format!("has an sslmode that is none of {modes}")));
            }
        })
    }
}

/// Splits the string into the part before its parameters, and the parameters. The password may contain a
/// question mark.
fn split_query(url: &str) -> (&str, &str) {
    let host = url.find('@').unwrap_or(0);
    match url[host..].find('?') {
        Some(place) => (&url[..host + place], &url[host + place + 1..]),
        None => (url, ""),
    }
}

/// Refuses hosts that can never be found. One of them may be a part of the password.
fn check_hosts(config: &Config) -> Result<(), InvalidAddress> {
    let splits_password = |host: &Host| matches!(host, Host::Tcp(name) if name.contains('@'));
    if config.get_hosts().iter().any(splits_password) {
        Err(invalid_address("there is more than one @ in it"))
    } else if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        Err(invalid_address("it names no host"))
    } else {
        Ok(())
    }
}

fn reason_of(error: &tokio_postgres::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Describes the problem without the string itself.
fn invalid_address(reason: &str) -> InvalidAddress {
    InvalidAddress(format!(
        "cannot be used as a connection string ({reason}); it should look like {EXAMPLE}, with special characters of the \
         password percent-encoded"
    ))
}

impl Address {
    /// Opens one connection. A task on the current runtime drives it until it is dropped.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses this client.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let connecting = tokio::time::timeout(CONNECT_DEADLINE, prefer::connect(&self.config, self.tls()?));
        let connected = connecting.await.map_err(|_| ConnectError::Timeout)?;
        let (client, _driver) = connected.map_err(|error| ConnectError::Postgres(error.into()))?;
        Ok(Connection { client })
    }

    /// The settings of a connection.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the TLS settings. Reads the root certificates each time, because an operator may have
    /// replaced them.
    pub(super) fn tls(&self) -> Result<MakeRustlsConnect, ConnectError> {
        tls::build_connector(self.trust, self.root_cert.as_deref()).map_err(ConnectError::Tls)
    }

    /// The database user.
    pub fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgres://")?;
        let ports = self.config.get_ports();
        for (place, host) in self.config.get_hosts().iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}")?,
                Host::Unix(path) => write!(f, "{comma}{}", Path::display(path))?,
            }
            // A single port is used for all hosts.
            match ports.get(place).or_else(|| ports.first()) {
                Some(port) if *port != DEFAULT_PORT => write!(f, ":{port}")?,
                _ => {}
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_else(|| self.user()))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An open connection to a database, for the functions of [`schema`](crate::schema). Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    client: Client,
}

impl Connection {
    /// The driver's client.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}

/// A connection that could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The trusted certificates cannot be read.
    #[error("{0}")]
    Tls(String),
    /// The server accepted the connection but did not become ready in time.
    #[error("the database has not answered for {} s", CONNECT_DEADLINE.as_secs())]
    Timeout,
    /// The server is unreachable, or refused this client. The error is the driver's.
    #[error(transparent)]
    Postgres(Box<dyn Error + Send + Sync>),
}
