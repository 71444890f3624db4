//! The control socket, for commands on a data directory that a server uses. The messages between the two are not a public
//! protocol: both must be of the same version. Whoever may enter the data directory may do everything that they ask for.

mod client;
mod dir;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use talktrack::clock::Seq;
use talktrack::{SessionId, UserId};

pub(crate) use client::ask_server;
pub(crate) use dir::ControlDir;

use crate::dead_letters::{LetterRequest, LetterResult};
use crate::error::Failure;

/// A request to the server that uses the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlRequest {
    /// Sends these dead letters to the store again.
    Replay(Vec<Seq>),
    /// Deletes these dead letters.
    Drop(Vec<Seq>),
    /// Redirects the outbox to the store that the server's settings name, even if the data directory has recorded
    /// another one.
    RedirectOutbox,
    /// Deletes a session with everything that was said in it.
    DeleteSession(SessionId),
    /// Deletes all data of a user.
    DeleteUser(UserId),
}

impl ControlRequest {
    /// Returns the name of the action in the audit log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Replay(_) => "dead_letters.replay",
            Self::Drop(_) => "dead_letters.drop",
            Self::RedirectOutbox => "outbox.redirect",
            Self::DeleteSession(_) | Self::DeleteUser(_) => "delete",
        }
    }
}

impl From<LetterRequest> for ControlRequest {
    fn from(request: LetterRequest) -> Self {
        match request {
            LetterRequest::Replay(letters) => Self::Replay(letters),
            LetterRequest::Drop(letters) => Self::Drop(letters),
        }
    }
}

/// The server's answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlReply {
    /// The outcome of each letter, in the order of the request.
    Outcomes(Vec<LetterResult>),
    /// The outbox now belongs to the store at this address.
    Redirected(String),
    /// What was removed, as `DELETE /v1/sessions/{session_id}` and `DELETE /v1/users/{user_id}` answer. `None`: there is no
    /// such session.
    Deleted(Option<Value>),
    /// Why the whole request failed.
    Error(String),
}

impl ControlReply {
    /// Returns the outcome of each letter.
    ///
    /// # Errors
    /// Fails if the request failed or the answer is of another kind.
    pub(crate) fn into_outcomes(self) -> Result<Vec<LetterResult>, Failure> {
        match self {
            Self::Outcomes(outcomes) => Ok(outcomes),
            other => Err(other.into_failure()),
        }
    }

    /// Returns what was removed.
    ///
    /// # Errors
    /// Fails if the request failed or the answer is of another kind.
    pub(crate) fn into_deleted(self) -> Result<Option<Value>, Failure> {
        match self {
            Self::Deleted(report) => Ok(report),
            other => Err(other.into_failure()),
        }
    }

    /// Returns the error of a caller who expected an answer of another kind.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Error(problem) => Failure::new(problem),
            _ => Failure::new("the server gave an unexpected answer; check that it has the same version"),
        }
    }
}
