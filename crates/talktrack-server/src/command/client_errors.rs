//! The errors of `talktrack-client` as one line of a command, which names the option to change. The words of a server are
//! made visible, so that they cannot control the terminal.

use std::fmt::Display;

use talktrack_client::address::InvalidServer;
use talktrack_client::api::{OpenEventsError, Refusal, RequestError};
use talktrack_client::socket::{ConnectError, Disconnected};

use crate::error::Failure;
use crate::terminal;

/// Returns the error on one line that is safe for a terminal.
pub(super) fn to_line(error: &impl Display) -> String {
    terminal::escape_line(&error.to_string()).into_owned()
}

impl From<InvalidServer> for Failure {
    fn from(error: InvalidServer) -> Self {
        match error {
            InvalidServer::Scheme { expected, url } => {
                Self::usage(format_args!("--url: must begin with {expected}, not {url:?}"))
            }
            InvalidServer::Token => Self::usage("--token: contains characters that a token cannot have"),
            error => Self::new(error),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::new(to_line(&error))
    }
}

impl From<Disconnected> for Failure {
    fn from(error: Disconnected) -> Self {
        Self::new(to_line(&error))
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Unreachable { .. } => Self::new(format_args!(
                "{error}; start the server with `talktrack serve`, or name another one with --url"
            )),
            RequestError::NoAnswer { ref source, .. } => {
                Self::new(to_line(&format_args!("{error}: {source}")))
            }
            RequestError::Refused(refusal) => refusal.into(),
            error => Self::new(to_line(&error)),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(error: Refusal) -> Self {
        let line = to_line(&error);
        match error.status.as_u16() {
            401 => {
                Self::new(format_args!("{line}; give an API key or a token with --token or TALKTRACK_TOKEN"))
            }
            _ => Self::new(line),
        }
    }
}

impl From<OpenEventsError> for Failure {
    fn from(error: OpenEventsError) -> Self {
        match error {
            OpenEventsError::Unavailable(error) => error.into(),
            OpenEventsError::Refused(refusal) => refusal.into(),
            error => Self::new(to_line(&error)),
        }
    }
}
