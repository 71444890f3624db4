//! Conflicting records: what a start, an update or an end may still change on a session's row that records of other nodes, or
//! later records of the same node, have changed already. PostgreSQL decides by the same rules in its statements.

use uuid::Uuid;

use crate::clock::{Seq, Timestamp};
use crate::json::{JsonObject, MAX_SESSION_METADATA};
use crate::record::{Attempt, SessionEnd};
use crate::stored::Stored;

/// The node and the `seq` of the last start, update or end that was applied to a session's row.
pub(crate) type Origin = (Uuid, Seq);

/// The longest metadata that a remote store takes. What this node knows of a session is bounded before it is acknowledged; more can
/// come of other nodes, and some stores spell JSON with spaces.
pub(crate) const MAX_STORED_METADATA: usize = 2 * MAX_SESSION_METADATA;

/// What is said of an update that would make a session's metadata longer than that.
pub(crate) const METADATA_TOO_LARGE: &str = "the session's metadata would be longer than 128 KiB";

/// The object to which a record's keys are added. As in RFC 7396 (JSON Merge Patch), metadata that are no object, which another
/// program wrote, count as an empty one.
pub(crate) fn merge_base(stored: Option<&Stored<JsonObject>>) -> JsonObject {
    stored.and_then(Stored::as_object).unwrap_or_default()
}

/// How much of a record applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// All of it: nothing of another node came between.
    Apply,
    /// All of it, unless the row shows that it comes late: another node came between, and the record is delivered the first
    /// time.
    ApplyIfInTime,
    /// Only what the row does not have yet: the record may have been applied before, and newer ones since.
    FillIn,
    /// Nothing: it was applied already.
    Ignore,
}

impl Rule {
    /// The rule for a record of this node, on a row to which `last` was applied last.
    pub(crate) fn of(last: Option<Origin>, node: Uuid, seq: Seq, attempt: Attempt) -> Self {
        match (attempt, last) {
            (Attempt::Replay, _) => Self::FillIn,
            (_, Some((last_node, last_seq))) if last_node == node => match attempt {
                _ if last_seq < seq => Self::Apply,
                // The writer held it back while later records were stored.
                Attempt::First => Self::FillIn,
                Attempt::Retry | Attempt::Replay => Self::Ignore,
            },
            (Attempt::Retry, _) => Self::FillIn,
            (Attempt::First, _) => Self::ApplyIfInTime,
        }
    }

    /// A session's metadata with the keys of a record; each replaces the one of its name, unless the record only fills in. `None`
    /// if nothing changes. Metadata that are no object are replaced by one ([`merge_base`]).
    ///
    /// # Errors
    /// The length, if that is more than `limit`, and more than the stored metadata have.
    pub(crate) fn merge(
        self,
        stored: Option<&Stored<JsonObject>>,
        added: &JsonObject,
        limit: usize,
    ) -> Result<Option<JsonObject>, usize> {
        if added.members().is_empty() {
            return Ok(None);
        }
        let stored = merge_base(stored);
        let merged = match self {
            Self::Ignore | Self::FillIn => added.merged(&stored),
            Self::Apply | Self::ApplyIfInTime => stored.merged(added),
        };
        let length = merged.as_str().len();
        if length > limit && length > stored.as_str().len() { Err(length) } else { Ok(Some(merged)) }
    }

    /// Whether the row names the record as the last that was applied.
    pub(crate) fn is_applied(self) -> bool {
        matches!(self, Self::Apply | Self::ApplyIfInTime)
    }

    /// Whether a start with this `seq` reopens a session that ended at this moment.
    pub(crate) fn reopens(self, seq: Seq, ended_at: Timestamp) -> bool {
        match self {
            Self::Apply => true,
            Self::ApplyIfInTime => seq >= ended_at.as_micros(),
            Self::FillIn | Self::Ignore => false,
        }
    }
}

/// What a row knows that decides about an end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    /// The row has an end.
    pub(crate) is_ended: bool,
    /// And nobody spoke it.
    pub(crate) is_inferred: bool,
    pub(crate) last_event_at: Option<Timestamp>,
}

/// What an end does to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is the end of the session from now on.
    Closes,
    /// The end that the row has stands.
    Stands,
    /// The session goes on elsewhere.
    GoesOn,
}

impl Ending {
    /// What this end, accepted with this `seq`, does to a row.
    pub(crate) fn of(rule: Rule, end: &SessionEnd, seq: Seq, row: Open) -> Self {
        let later_than = |moment: Timestamp| row.last_event_at.is_some_and(|last| last > moment);
        let accepted = Timestamp::from_micros(seq).unwrap_or(end.ended_at);
        let goes_on = match rule {
            _ if end.is_outdated(row.last_event_at) => true,
            Rule::Apply => false,
            Rule::ApplyIfInTime => later_than(accepted),
            Rule::FillIn => later_than(accepted.min(end.ended_at)),
            Rule::Ignore => !row.is_ended,
        };
        let is_open = !row.is_ended || (row.is_inferred && !end.is_inferred());
        match (is_open, goes_on) {
            (_, true) if !row.is_ended => Self::GoesOn,
            (true, false) if rule != Rule::Ignore => Self::Closes,
            _ => Self::Stands,
        }
    }
}
