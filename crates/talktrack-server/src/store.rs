//! Opens the store that the settings name: for writing through a tracker, or for reading.

mod changed_messages;

use std::path::Path;
use std::sync::Arc;

use talktrack::store::postgres::PostgresStore;
use talktrack::store::sqlite::SqliteReader;
use talktrack::store::{Read, Store};
use talktrack::{NotedStore, OpenError, Options, Redirect, Tracker};

pub(crate) use changed_messages::read_changed_messages;

use crate::config::{Config, Database};
use crate::error::Failure;
use crate::visible;

/// The number of rows that are read at once: enough to be fast, and few enough to keep memory use constant.
pub(crate) const PAGE: usize = 500;

/// Opens the data directory with the store behind it.
///
/// # Errors
/// As [`Tracker::open`]; also fails if the certificates that `database_url` names cannot be read.
pub(crate) fn open_tracker(config: &Config, options: Options) -> Result<Tracker, OpenError> {
    match &config.database {
        Database::File(_) => Tracker::open(options),
        Database::Postgres(address) => {
            let store = PostgresStore::new(address).map_err(|error| OpenError::Io {
                path: "database_url".into(),
                source: std::io::Error::other(error),
            })?;
            let store: Arc<dyn Store> = Arc::new(store);
            Tracker::open_with_store(options, store)
        }
    }
}

/// Opens the data directory for a command that writes while no server uses it. The outbox keeps the store that it has
/// recorded.
///
/// # Errors
/// As [`open_tracker`]; also fails if the settings name another store.
pub(crate) async fn open_tracker_for_command(
    config: &Config,
    options: Options,
) -> Result<Tracker, NotOpened> {
    let tracker = open_tracker(config, options.with_redirect(Redirect::Never))?;
    match refuse_other_store(config).await {
        Ok(()) => Ok(tracker),
        Err(refusal) => {
            // Dropping the tracker waits for its threads.
            let _ = tokio::task::spawn_blocking(move || drop(tracker)).await;
            Err(NotOpened::OtherStore(refusal))
        }
    }
}

/// Why a command could not open a tracker.
pub(crate) enum NotOpened {
    Tracker(OpenError),
    OtherStore(Failure),
}

impl From<OpenError> for NotOpened {
    fn from(error: OpenError) -> Self {
        Self::Tracker(error)
    }
}

impl From<NotOpened> for Failure {
    fn from(why: NotOpened) -> Self {
        match why {
            NotOpened::Tracker(error) => error.into(),
            NotOpened::OtherStore(failure) => failure,
        }
    }
}

/// Fails if the settings name a store other than the one whose outbox the data directory is. If the database is
/// unavailable, this succeeds, and the writer checks later.
///
/// # Errors
/// Names the store and the setting.
pub(crate) async fn refuse_other_store(config: &Config) -> Result<(), Failure> {
    let Some(noted) = talktrack::read_noted_store(&config.local_file())? else { return Ok(()) };
    match other_store(config, &noted).await {
        Some(problem) => {
            let waiting = noted.waiting;
            Err(Failure::new(format_args!(
                "nothing was changed, and {waiting} records stay where they are: {problem}"
            )))
        }
        None => Ok(()),
    }
}

/// Returns how the settings name a store other than the recorded one, in words; `None` if they do not or the database
/// is unavailable.
pub(crate) async fn other_store(config: &Config, noted: &NotedStore) -> Option<String> {
    let Database::Postgres(address) = &config.database else { return Some(noted.missing_address_message()) };
    let id = noted.id?;
    let found = PostgresStore::new(address).ok()?.identity().await.ok()??;
    (found != id).then(|| noted.mismatch_message(&address.to_string()))
}

/// The store, for reading.
pub(crate) enum StoreReader {
    File(SqliteReader),
    Postgres(PostgresStore),
}

impl StoreReader {
    /// Opens the store that the settings name.
    ///
    /// # Errors
    /// Fails if the file does not exist. A database is connected to later.
    pub(crate) fn open(config: &Config) -> Result<Self, Failure> {
        match &config.database {
            Database::File(_) => {
                let reader = open_file(&config.local_file())?;
                if let Some(noted) = talktrack::read_noted_store(&config.local_file())? {
                    let words = noted.missing_address_message();
                    eprintln!(
                        "talktrack: this command reads only this file: {}",
                        visible::escape_line(&words)
                    );
                }
                Ok(Self::File(reader))
            }
            Database::Postgres(address) => PostgresStore::new(address)
                .map(Self::Postgres)
                .map_err(|error| Failure::new(error.to_string())),
        }
    }

    /// Returns the reader of the store.
    pub(crate) fn rows(&self) -> &dyn Read {
        match self {
            Self::File(reader) => reader,
            Self::Postgres(store) => store,
        }
    }
}

/// Opens a local file of talktrack: the store, or the outbox of a remote one.
pub(crate) fn open_file(path: &Path) -> Result<SqliteReader, Failure> {
    expect_file(path)?;
    SqliteReader::open(path).map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))
}

/// Fails if the file does not exist, for callers that must not create it.
pub(crate) fn expect_file(path: &Path) -> Result<(), Failure> {
    if path.is_file() {
        return Ok(());
    }
    Err(Failure::new(format_args!(
        "{} does not exist; start the server with `talktrack serve`, or name another directory with --data-dir",
        path.display()
    )))
}
