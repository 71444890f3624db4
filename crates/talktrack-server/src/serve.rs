//! The lifecycle of the server: start, accept, shut down. The shutdown is graceful: everything accepted becomes
//! durable, and all callers get their answers. A second signal ends the process immediately.

mod accept;
mod control;
mod lingering_close;

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use control::ControlSocket;
use metrics_exporter_prometheus::PrometheusHandle;
use talktrack::Tracker;
use talktrack::store::sqlite::SqliteReader;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout};

use crate::audio::Audio;
use crate::audit::{Actor, Entry};
use crate::auth::KeyFile;
use crate::config::Config;
use crate::error::Failure;
use crate::events::Events;
use crate::router::build_router;
use crate::state::AppState;
use crate::telemetry::Telemetry;
use crate::{deletion, letter_quota, retention, store};

/// The file in the data directory that contains the address that the server is bound to.
const LISTEN_FILE: &str = "listen";

/// The exit code that shells report for a process ended by SIGINT.
const INTERRUPTED: i32 = 130;

/// How long the shutdown waits for the last answers to be sent.
const FAREWELL: Duration = Duration::from_secs(1);

/// File descriptors in addition to those of connections: database, log, listener and others.
const OTHER_DESCRIPTORS: u64 = 64;

/// Runs the server until a signal stops it.
///
/// # Errors
/// Fails if the server cannot start: a setting is invalid, the data directory is in use, or the address is taken.
pub(crate) async fn serve(config: Config) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    let telemetry = Telemetry::start(&config)?;
    config.warnings().for_each(|warning| tracing::warn!("{warning}"));
    raise_descriptor_limit(&config);
    check_keys(&config)?;
    let tracker = store::open_tracker(&config, config.options())?;
    let listen_file = ListenFile::new(&config.data_dir);
    let (listener, address) = bind_listener(config.listen).await?;
    let state = new_state(tracker, config, telemetry.metrics())?;
    let accepting = tokio::spawn(accept::accept_connections(
        listener,
        build_router(state.clone()),
        state.config().clone(),
    ));
    tokio::spawn(state.events().clone().run());
    tokio::spawn(state.authenticator().clone().keep_keys_fresh());
    tokio::spawn(state.authenticator().clone().watch_key_file());
    tokio::spawn(state.authenticator().clone().keep_uses());
    tokio::spawn(state.limits().clone().sweep_idle());
    tokio::spawn(state.refusals().clone().run());
    tokio::spawn(state.turns().clone().sweep_idle(state.tracker().clone()));
    tokio::spawn(state.turns().clone().follow_heavy_records(state.tracker().clone()));
    tokio::spawn({
        let audio = state.audio().clone();
        async move {
            audio.remove_drafts().await;
            audio.measure_usage().await;
        }
    });
    tokio::spawn(deletion::recordings::catch_up(state.clone()));
    if state.is_remote() {
        tokio::spawn(deletion::due_users::run(state.clone()));
    }
    tokio::spawn(retention::run(state.clone()));
    tokio::spawn(letter_quota::run(state.clone()));
    let control = ControlSocket::start(&state);
    listen_file.write(address)?;
    state.record_start();
    let version = env!("CARGO_PKG_VERSION");
    let data_dir = state.config().data_dir.display();
    tracing::info!("talktrack {version} listening on http://{address} (data in {data_dir})");

    let name = signals.next().await;
    tracing::info!("{name}: stopping");
    tokio::spawn(async move {
        signals.next().await;
        std::process::exit(INTERRUPTED);
    });
    // The control socket is removed before the data directory is unlocked, because the socket of the next server has
    // the same name.
    drop(control);
    drop(listen_file);
    let stopped = shut_down(&state).await;
    state.authenticator().save_uses().await;
    state.audit().record(Entry::new(Actor::Server, "server.stopped", None));
    state.audit().finish().await;
    accepting.abort();
    Ok(stopped)
}

/// Checks the file of API keys. An invalid line stops the start, as an invalid setting does.
fn check_keys(config: &Config) -> Result<(), Failure> {
    let Some(path) = &config.identity.api_keys_file else { return Ok(()) };
    let keys = KeyFile::new(path.clone()).read()?;
    if keys.is_empty() && config.identity.api_keys.is_empty() {
        tracing::warn!("api_keys_file: {} has no key yet (run: talktrack keys new)", path.display());
    }
    Ok(())
}

/// Lets connections say goodbye, then makes everything accepted durable.
async fn shut_down(state: &AppState) -> ExitCode {
    let deadline = state.config().shutdown_deadline;
    let began = Instant::now();
    state.stop();
    // Connections get at most half of the deadline: what clients have sent is safe even if they do not disconnect.
    if timeout(deadline / 2, state.wait_until_all_left()).await.is_err() {
        tracing::warn!("some connections did not close in time");
    }
    let stopped = state.tracker().shutdown(deadline.saturating_sub(began.elapsed())).await;
    // Clients that are still connected have waited for an answer, which is ready now.
    let _ = timeout(FAREWELL, async {
        tokio::join!(state.wait_until_all_left(), state.events().wait_until_all_left())
    })
    .await;
    match stopped {
        Ok(()) => {
            tracing::info!("stopped; everything accepted is durable");
            ExitCode::SUCCESS
        }
        Err(_) => {
            tracing::error!(
                "stopped at the deadline ({deadline:?}): messages accepted but not acknowledged are lost"
            );
            ExitCode::FAILURE
        }
    }
}

/// Makes the state around an open tracker.
///
/// # Errors
/// Fails if the local file or the store of recordings cannot be opened.
pub(crate) fn new_state(
    tracker: Tracker,
    config: Config,
    metrics: PrometheusHandle,
) -> Result<AppState, Failure> {
    let local = store::open_file(&config.local_file())?;
    let events = open_events(&tracker, &config)?;
    let audio = Audio::open(&config)?;
    Ok(AppState::new(tracker, local, events, audio, config, metrics))
}

/// Opens the live events.
fn open_events(tracker: &Tracker, config: &Config) -> Result<Events, Failure> {
    let file = config.local_file();
    let is_remote = tracker.is_outbox();
    let events = Events::new(tracker, || SqliteReader::open(&file), is_remote, config.max_listeners)?;
    Ok(events)
}

async fn bind_listener(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |error| Failure::new(format!("listen: cannot listen on {address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Raises the limit of open files. Each connection needs a descriptor, and the usual soft limit of 1,024 is far below
/// what the system allows.
fn raise_descriptor_limit(config: &Config) {
    let others = config.max_http_connections.saturating_add(config.max_listeners);
    let wanted = config.max_connections.saturating_add(others);
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_add(OTHER_DESCRIPTORS);
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < wanted => {
            tracing::warn!(
                "only {limit} files may be open at once: max_connections, max_http_connections and max_listeners cannot all be reached \
                 (raise ulimit -n)"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
}

/// Returns the address at which this machine reaches the server that uses the data directory, if one has left its address
/// there.
pub(crate) fn read_listen_address(data_dir: &Path) -> Option<SocketAddr> {
    let mut address: SocketAddr = fs::read_to_string(data_dir.join(LISTEN_FILE)).ok()?.trim().parse().ok()?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Some(address)
}

/// The file that tells other programs the address. It exists while the server runs.
struct ListenFile(PathBuf);

impl ListenFile {
    fn new(data_dir: &Path) -> Self {
        let file = Self(data_dir.join(LISTEN_FILE));
        // A leftover of a killed process contains a wrong address. It is renamed rather than deleted, so that its disk
        // space can be reused when the disk is full.
        let _ = fs::rename(&file.0, file.draft());
        file
    }

    fn draft(&self) -> PathBuf {
        self.0.with_extension("tmp")
    }

    /// Writes the file atomically.
    fn write(&self, address: SocketAddr) -> Result<(), Failure> {
        let write = || {
            let address = address.to_string();
            let mut draft = File::options().create(true).truncate(false).write(true).open(self.draft())?;
            draft.write_all(address.as_bytes())?;
            draft.set_len(address.len() as u64)?;
            fs::rename(self.draft(), &self.0)
        };
        write().map_err(|error| Failure::new(format!("cannot write {}: {error}", self.0.display())))
    }
}

impl Drop for ListenFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The signals that stop the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
