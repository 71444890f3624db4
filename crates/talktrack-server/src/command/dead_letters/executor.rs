//! Who replays or drops dead letters: this process if no server uses the data directory, otherwise that server, through
//! its control socket.

use std::path::PathBuf;

use talktrack::OpenError;

use crate::config::Config;
use crate::control::ask_server;
use crate::dead_letters::{DeadLetters, LetterRequest, LetterResult};
use crate::error::Failure;
use crate::store::{self, NotOpened};

pub(super) enum Executor {
    Local(DeadLetters),
    ViaServer {
        data_dir: PathBuf,
        /// The error that names the process that holds the lock of the data directory.
        locked: String,
    },
}

impl Executor {
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        match store::open_tracker_for_command(config, config.options()).await {
            Ok(tracker) => Ok(Self::Local(DeadLetters::open(tracker, &config.local_file())?)),
            Err(NotOpened::Tracker(locked @ OpenError::Locked { .. })) => {
                Ok(Self::ViaServer { data_dir: config.data_dir.clone(), locked: locked.to_string() })
            }
            Err(other) => Err(other.into()),
        }
    }

    pub(super) async fn execute(&self, request: LetterRequest) -> Result<Vec<LetterResult>, Failure> {
        match self {
            Self::Local(letters) => letters.execute(request).await,
            Self::ViaServer { data_dir, locked } => {
                ask_server(data_dir, locked, &request.into()).await?.into_outcomes()
            }
        }
    }

    /// True if this process carries out the requests. A server writes its own audit entries.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Releases the data directory. Everything accepted is already durable; this waits for the tracker's threads.
    pub(super) async fn close(self) -> Result<(), Failure> {
        tokio::task::spawn_blocking(move || drop(self)).await.map_err(Failure::new)
    }
}
