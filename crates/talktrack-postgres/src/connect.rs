//! Connects to a database: the connection string, TLS, and the limits of a connection.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::connection_string::{self, InvalidAddress};
use crate::hosts::DEFAULT_PORT;
use crate::parameters::{self, Settings};
use crate::prefer::{self, NO_CHANNEL_BINDING};
use crate::tls::{self, TlsOptions};

/// The longest time that a server may take to accept a connection, if the connection string gives none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time from the acceptance of a connection until it is ready for queries.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time that sent data may stay unacknowledged, and the time after which a silent peer is sent
/// a keepalive probe.
const SILENT_PEER: Duration = Duration::from_secs(30);

/// The address of a database and the user who connects, from a connection string as hosting services print it
/// and libpq reads it: a URL, or pairs `key=value`. `str::parse` fails with an [`InvalidAddress`] that names the
/// parameter which is invalid, or which affects security and cannot be honoured. `Display` omits the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    config: Config,
    tls: TlsOptions,
    /// A line for each parameter that has no effect.
    warnings: Vec<String>,
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let Settings { mut config, tls, warnings } = parameters::interpret(connection_string::split(text)?)?;
        set_default_timeouts(&mut config);
        Ok(Self { config, tls, warnings })
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

impl Address {
    /// True if the text is meant as an address: a URL of PostgreSQL (`postgres://`, `postgresql://`, also with
    /// the name of a driver, such as `postgresql+asyncpg://`), or pairs `key=value` of libpq.
    pub fn is_meant_by(text: &str) -> bool {
        connection_string::is_connection_string(text)
    }

    /// Parameters that the connection string gives but that have no effect: a line for each, which names the
    /// parameter and the reason, and shows no value.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Opens one connection. A task on the current runtime drives it until it is dropped.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses this client.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let deadline = self.connect_deadline();
        let connecting = tokio::time::timeout(deadline, prefer::connect(&self.config, self.tls()?));
        let connected = connecting.await.map_err(|_| ConnectError::Timeout(deadline))?;
        match connected {
            Ok((client, _driver)) => Ok(Connection { client }),
            Err(error) if prefer::lacks_channel_binding(&error) => Err(ConnectError::ChannelBinding),
            Err(error) => Err(ConnectError::Postgres(error.into())),
        }
    }

    /// The longest time until a new connection is ready for queries: each host may take its time to accept the
    /// connection.
    pub(super) fn connect_deadline(&self) -> Duration {
        let hosts = u32::try_from(self.config.get_hosts().len()).unwrap_or(u32::MAX);
        let accepting = self.config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        READY_TIMEOUT.saturating_add(accepting.saturating_mul(hosts)).max(READY_TIMEOUT + CONNECT_TIMEOUT)
    }

    /// The settings of a connection.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the TLS settings. Reads the root certificates each time, because an operator may have
    /// replaced them.
    pub(super) fn tls(&self) -> Result<MakeRustlsConnect, ConnectError> {
        tls::build_connector(&self.tls).map_err(ConnectError::Tls)
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
                Host::Tcp(name) if name.contains(':') => write!(f, "{comma}[{name}]")?,
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
    #[error("the database has not answered for {} s", .0.as_secs())]
    Timeout(Duration),
    /// `channel_binding=require` asks for channel binding, which the server did not use.
    #[error("{NO_CHANNEL_BINDING}")]
    ChannelBinding,
    /// The server is unreachable, or refused this client. The error is the driver's.
    #[error(transparent)]
    Postgres(Box<dyn Error + Send + Sync>),
}
