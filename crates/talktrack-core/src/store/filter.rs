//! Who reads, and which sessions.

use crate::clock::Timestamp;
use crate::ids::UserId;
use crate::json::JsonObject;
use crate::record::Status;
use crate::search::Query;
use crate::store::SessionRow;

/// A user who reads. Users see their own sessions and every message in them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Viewer {
    /// The user.
    pub user_id: UserId,
    /// The claims of the user's token, for row-level policies of the database.
    pub claims: JsonObject,
}

impl Viewer {
    /// Creates a viewer: the user, and the claims of the user's token.
    pub fn new(user_id: UserId, claims: JsonObject) -> Self {
        Self { user_id, claims }
    }
}

/// Selects the sessions of a list. A field that is `None` does not restrict the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionFilter {
    /// Only sessions of this user.
    pub user_id: Option<UserId>,
    /// Only sessions to which a caller gave this id.
    pub external_id: Option<String>,
    /// Only sessions with this status.
    pub status: Option<Status>,
    /// Only sessions that started at this moment or later.
    pub since: Option<Timestamp>,
    /// Only sessions that started before this moment.
    pub until: Option<Timestamp>,
    /// Only sessions with at least one message that matches this query.
    pub matching: Option<Query>,
}

impl SessionFilter {
    /// True if the filter selects this row. Does not look at what was said in the session.
    pub fn selects(&self, row: &SessionRow) -> bool {
        let started = row.started_at.known();
        self.user_id.as_ref().is_none_or(|user_id| row.user_id.as_ref() == Some(user_id))
            && self.external_id.as_ref().is_none_or(|id| row.external_id.as_ref() == Some(id))
            && self.status.is_none_or(|status| row.status == status)
            && self.since.is_none_or(|since| started.is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| started.is_some_and(|at| at < until))
    }

    /// Selects only sessions of this user.
    #[must_use]
    pub fn with_user_id(self, user_id: impl Into<Option<UserId>>) -> Self {
        Self { user_id: user_id.into(), ..self }
    }

    /// Selects only sessions to which a caller gave this id.
    #[must_use]
    pub fn with_external_id(self, external_id: impl Into<Option<String>>) -> Self {
        Self { external_id: external_id.into(), ..self }
    }

    /// Selects only sessions with this status.
    #[must_use]
    pub fn with_status(self, status: impl Into<Option<Status>>) -> Self {
        Self { status: status.into(), ..self }
    }

    /// Selects only sessions that started at this moment or later.
    #[must_use]
    pub fn with_since(self, since: impl Into<Option<Timestamp>>) -> Self {
        Self { since: since.into(), ..self }
    }

    /// Selects only sessions that started before this moment.
    #[must_use]
    pub fn with_until(self, until: impl Into<Option<Timestamp>>) -> Self {
        Self { until: until.into(), ..self }
    }

    /// Selects only sessions with at least one message that matches this query.
    #[must_use]
    pub fn with_matching(self, matching: impl Into<Option<Query>>) -> Self {
        Self { matching: matching.into(), ..self }
    }
}
