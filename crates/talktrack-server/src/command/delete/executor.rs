//! Who carries out deletions: a server at a URL, the server that uses the data directory, or else this process.

use std::path::PathBuf;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use talktrack::OpenError;
use talktrack_client::api::ApiClient;

use crate::audit::{self, Actor, Entry};
use crate::command::source::SourceArgs;
use crate::config::Config;
use crate::control::{ControlRequest, ask_server};
use crate::deletion::operator::{self, DeletionTarget};
use crate::error::Failure;
use crate::serve;
use crate::state::AppState;
use crate::store::{self, NotOpened};
use crate::telemetry;

pub(super) enum Executor {
    Url(ApiClient),
    ViaServer {
        data_dir: PathBuf,
        /// The error that names the process that holds the lock of the data directory.
        locked: String,
    },
    Local(AppState),
}

impl Executor {
    pub(super) async fn open(source: &SourceArgs) -> Result<Self, Failure> {
        if let Some(api) = source.server()? {
            return Ok(Self::Url(api));
        }
        let config: Config = source.location().load()?;
        store::expect_file(&config.local_file())?;
        match store::open_tracker_for_command(&config, config.options()).await {
            Ok(tracker) => Ok(Self::Local(serve::new_state(tracker, config, telemetry::unread_metrics())?)),
            Err(NotOpened::Tracker(locked @ OpenError::Locked { .. })) => {
                Ok(Self::ViaServer { data_dir: config.data_dir, locked: locked.to_string() })
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Deletes the target. Returns the answer of the HTTP API to such a request, or `None` if there is no such session.
    ///
    /// # Errors
    /// Fails if the deletion was refused, or cannot be accepted now.
    pub(super) async fn delete(&self, target: DeletionTarget) -> Result<Option<Value>, Failure> {
        match self {
            Self::Url(api) => {
                let path = match target {
                    DeletionTarget::Session(session_id) => format!("/v1/sessions/{session_id}"),
                    DeletionTarget::User(user_id) => format!("/v1/users/{user_id}"),
                };
                let answer = api.send_json(Method::DELETE, &path, &Value::Null).await?;
                if answer.status == StatusCode::NOT_FOUND && answer.body["code"] == "session_not_found" {
                    return Ok(None);
                }
                Ok(Some(answer.into_body()?))
            }
            Self::ViaServer { data_dir, locked } => {
                let request = match target {
                    DeletionTarget::Session(session_id) => ControlRequest::DeleteSession(session_id),
                    DeletionTarget::User(user_id) => ControlRequest::DeleteUser(user_id),
                };
                ask_server(data_dir, locked, &request).await?.into_deleted()
            }
            Self::Local(state) => {
                let deleted = operator::delete(state, target.clone()).await;
                let deleted = deleted.map_err(|problem| Failure::new(problem.into_detail()))?;
                record(state, &target, deleted.as_ref());
                Ok(deleted)
            }
        }
    }

    /// Releases the data directory.
    pub(super) async fn close(self) -> Result<(), Failure> {
        let Self::Local(state) = self else { return Ok(()) };
        state.audit().finish().await;
        // Dropping the tracker waits for its threads.
        tokio::task::spawn_blocking(move || drop(state)).await.map_err(Failure::new)
    }
}

fn record(state: &AppState, target: &DeletionTarget, deleted: Option<&Value>) {
    let entry = Entry::new(Actor::of_this_process(), "delete", None);
    let entry = match target {
        DeletionTarget::Session(session_id) => entry.session(Some(*session_id)),
        DeletionTarget::User(user_id) => entry.user(Some(user_id.clone())),
    };
    let entry = if deleted.is_none() { entry.outcome("not_found") } else { entry };
    audit::record_command(&state.config().data_dir, &entry.detail(json!(deleted)));
}
