//! The entries of the audit log.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;
use talktrack::clock::{Clock as _, SystemClock};
use talktrack::{SessionId, Timestamp, UserId};

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Actor {
    /// The holder of the API key with this name.
    Key(Arc<str>),
    User(UserId),
    /// No identity is checked.
    Anyone,
    /// An unauthenticated caller.
    Unknown,
    /// The user of the operating system who ran a command: the user's name, or the number if there is no name.
    CommandLine(String),
    /// The server on its own behalf.
    Server,
}

/// One entry, which is one line of the audit log.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    at: Timestamp,
    who: Actor,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<IpAddr>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// The template of the request's path, without ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Value>,
}

impl Actor {
    /// Returns the operating system user who runs this process.
    pub(crate) fn of_this_process() -> Self {
        Self::of_system_user(rustix::process::getuid().as_raw())
    }

    /// Returns the operating system user with this number.
    pub(crate) fn of_system_user(number: u32) -> Self {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(number)).then(|| name.to_owned())
        });
        Self::CommandLine(name.unwrap_or_else(|| number.to_string()))
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(name) => write!(f, "key:{name}"),
            Self::User(user) => write!(f, "user:{user}"),
            Self::Anyone => f.write_str("anyone"),
            Self::Unknown => f.write_str("unknown"),
            Self::CommandLine(name) => write!(f, "command-line:{name}"),
            Self::Server => f.write_str("server"),
        }
    }
}

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Entry {
    /// Makes an entry for an action at the current time, with the outcome `ok`.
    pub(crate) fn new(who: Actor, what: &'static str, from: Option<IpAddr>) -> Self {
        Self {
            at: SystemClock.now(),
            who,
            what,
            from,
            outcome: "ok",
            status: None,
            route: None,
            session_id: None,
            user_id: None,
            count: None,
            reason: None,
            detail: None,
        }
    }

    pub(crate) fn outcome(self, outcome: &'static str) -> Self {
        Self { outcome, ..self }
    }

    /// Sets the HTTP status and the outcome that follows from it.
    pub(crate) fn status(self, status: u16) -> Self {
        let outcome = match status {
            ..400 => "ok",
            400..500 => "refused",
            500.. => "failed",
        };
        Self { status: Some(status), outcome, ..self }
    }

    pub(crate) fn route(self, route: &str) -> Self {
        Self { route: Some(route.to_owned()), ..self }
    }

    pub(crate) fn session(self, session_id: Option<SessionId>) -> Self {
        Self { session_id, ..self }
    }

    pub(crate) fn user(self, user_id: Option<UserId>) -> Self {
        Self { user_id, ..self }
    }

    pub(crate) fn count(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }

    pub(crate) fn reason(self, reason: &str) -> Self {
        Self { reason: Some(reason.to_owned()), ..self }
    }

    pub(crate) fn detail(self, detail: Value) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// True if the action was refused or failed.
    pub(crate) fn is_refused(&self) -> bool {
        self.outcome != "ok"
    }

    /// Returns the fields that two entries must share to count as repetitions of each other.
    pub(super) fn sameness(&self) -> impl std::hash::Hash {
        let Self { who, what, from, outcome, route, session_id, user_id, .. } = self;
        (who.clone(), *what, *from, *outcome, route.clone(), *session_id, user_id.clone())
    }
}
