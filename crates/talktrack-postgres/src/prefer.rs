//! Connections with `sslmode=prefer`, the default: encrypted if the server supports TLS, otherwise
//! unencrypted. The password itself is never sent unencrypted to another machine, even if the server there
//! asks for it: SCRAM proves it without sending it.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, Connection, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::cleartext::NoCleartext;

/// The driver's message for a server without TLS if encryption is required.
const WITHOUT_TLS: &str = "server does not support TLS";

/// Fails if the server allows writes.
const EXPECT_READ_ONLY: &str = "DO $$ BEGIN IF current_setting('transaction_read_only') = 'off' THEN \
    RAISE 'target_session_attrs: the database is not read-only' USING ERRCODE = '55000'; END IF; END $$";

/// The driver's message if `channel_binding=require` is not met. It counts it as a failed authentication.
const UNBOUND: &str = "server did not use channel binding";

/// What to do about a server without channel binding.
pub(super) const NO_CHANNEL_BINDING: &str = "the server did not use channel binding, which channel_binding=require in \
    database_url asks for: let the server ask for the password by scram-sha-256 over TLS, or remove the parameter";

/// True if the server did not use channel binding although the connection string requires it.
pub(super) fn lacks_channel_binding(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.to_string() == UNBOUND)
}

/// Opens a connection, and drives it in a task of its own.
///
/// # Errors
/// If the server cannot be reached, refuses this client, or asks for a cleartext password.
pub(super) async fn connect(
    config: &Config,
    tls: MakeRustlsConnect,
) -> Result<(Client, JoinHandle<()>), Error> {
    if config.get_ssl_mode() != SslMode::Prefer
        || config.get_password().is_none()
        || is_on_this_machine(config)
    {
        let (client, connection) = config.connect(tls).await?;
        return Ok((client, tokio::spawn(drive(connection))));
    }
    let mut encrypted = config.clone();
    encrypted.ssl_mode(SslMode::Require);
    match encrypted.connect(tls).await {
        Ok((client, connection)) => Ok((client, tokio::spawn(drive(connection)))),
        Err(error) if may_lack_tls(&error, config) => connect_unencrypted(config).await.unwrap_or(Err(error)),
        Err(error) => Err(error),
    }
}

async fn drive<C: Future<Output = Result<(), Error>>>(connection: C) {
    if let Err(error) = connection.await {
        // The writer reports each lost connection itself, with the cause.
        tracing::debug!(%error, "a connection to the database ended");
    }
}

/// True if a host may lack TLS. With several hosts, the error of the last one may hide the errors of the
/// others.
fn may_lack_tls(error: &Error, config: &Config) -> bool {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    cause.is_some_and(|cause| cause == WITHOUT_TLS)
        || config.get_hosts().len() > 1 && error.as_db_error().is_none()
}

/// True if all hosts are on this machine, so that no password leaves it.
fn is_on_this_machine(config: &Config) -> bool {
    let is_local = |host: &Host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    };
    config.get_hosts().iter().all(is_local) && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

/// Tries each host in turn without encryption. `None` if no host could be reached.
async fn connect_unencrypted(config: &Config) -> Option<Result<(Client, JoinHandle<()>), Error>> {
    let mut failed = None;
    for (place, host) in config.get_hosts().iter().enumerate() {
        let Host::Tcp(name) = host else { continue };
        let ports = config.get_ports();
        let port = ports.get(place).or_else(|| ports.first()).copied().unwrap_or(5432);
        let address = config.get_hostaddrs().get(place).map(ToString::to_string);
        let Ok(stream) = open_stream(address.as_deref().unwrap_or(name), port, config).await else {
            continue;
        };
        match start_connection(stream, config).await {
            Ok(connected) => return Some(Ok(connected)),
            Err(error) => failed = Some(Err(error)),
        }
    }
    failed
}

async fn start_connection(stream: TcpStream, config: &Config) -> Result<(Client, JoinHandle<()>), Error> {
    let mut plain = config.clone();
    plain.ssl_mode(SslMode::Disable);
    let stream = NoCleartext::new(stream);
    let (client, connection): (Client, Connection<_, NoTlsStream>) = plain.connect_raw(stream, NoTls).await?;
    let driver = tokio::spawn(drive(connection));
    match config.get_target_session_attrs() {
        // Fails on a standby, with PostgreSQL's own message.
        TargetSessionAttrs::ReadWrite => {
            client.batch_execute("BEGIN; SET TRANSACTION READ WRITE; COMMIT").await?;
        }
        TargetSessionAttrs::ReadOnly => client.batch_execute(EXPECT_READ_ONLY).await?,
        _ => {}
    }
    Ok((client, driver))
}

/// Connects as the driver does: to the first address that answers, with the timeouts of the connection
/// string.
async fn open_stream(host: &str, port: u16, config: &Config) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in tokio::net::lookup_host((host, port)).await? {
        let limit = config.get_connect_timeout().copied().unwrap_or(Duration::from_secs(10));
        match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                watch_peer(&stream, config)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed)
}

/// Sets the timeouts for an unresponsive peer.
fn watch_peer(stream: &TcpStream, config: &Config) -> io::Result<()> {
    let socket = SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(config.get_tcp_user_timeout().copied())?;
    if config.get_keepalives() {
        let mut keepalive = TcpKeepalive::new().with_time(config.get_keepalives_idle());
        if let Some(interval) = config.get_keepalives_interval() {
            keepalive = keepalive.with_interval(interval);
        }
        if let Some(retries) = config.get_keepalives_retries() {
            keepalive = keepalive.with_retries(retries);
        }
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}
