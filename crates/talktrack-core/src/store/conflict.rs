//! Conflict rules: what a start, an update or an end may still change in a session's row after other nodes,
//! or later records of the same node, have changed it. PostgreSQL applies the same rules in its SQL
//! statements.

use uuid::Uuid;

use crate::clock::{Seq, Timestamp};
use crate::dimensions::Dimensions;
use crate::json::{JsonObject, MAX_SESSION_METADATA};
use crate::record::{Attempt, SessionEnd, SessionStart};
use crate::stored::Stored;

/// The node and the `seq` of the start, update or end that was last applied to a session's row.
pub type Origin = (Uuid, Seq);

/// The longest metadata that a remote store accepts, in bytes. Each node checks a lower bound before it
/// acknowledges, but other nodes can add more, and some stores spell JSON with spaces.
pub const MAX_STORED_METADATA: usize = 2 * MAX_SESSION_METADATA;

/// The reason given for a record that would make a session's metadata longer than [`MAX_STORED_METADATA`].
pub const METADATA_TOO_LARGE: &str = "the session's metadata would be longer than 128 KiB";

/// Returns the object to which a record's keys are added. As in RFC 7396 (JSON Merge Patch), metadata that
/// are not an object (another program wrote them) count as an empty object.
pub fn merge_base(stored: Option<&Stored<JsonObject>>) -> JsonObject {
    stored.and_then(Stored::as_object).unwrap_or_default()
}

/// How much of a record applies to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// All of it: no record of another node was applied in between.
    Apply,
    /// All of it, unless the row shows that the record is late: another node's record was applied in
    /// between, and this record is delivered for the first time.
    ApplyIfInTime,
    /// Only what the row does not have yet: the record may have been applied before, and newer ones after
    /// it.
    FillIn,
    /// Nothing: the record has already been applied.
    Ignore,
}

impl Rule {
    /// Returns the rule for a record of this node on a row whose last applied record is `last`.
    pub fn for_record(last: Option<Origin>, node: Uuid, seq: Seq, attempt: Attempt) -> Self {
        match (attempt, last) {
            (Attempt::Replay, _) => Self::FillIn,
            (_, Some((last_node, last_seq))) if last_node == node => match attempt {
                _ if last_seq < seq => Self::Apply,
                // The writer held the record back while later records were stored.
                Attempt::First => Self::FillIn,
                Attempt::Retry | Attempt::Replay => Self::Ignore,
            },
            (Attempt::Retry, _) => Self::FillIn,
            (Attempt::First, _) => Self::ApplyIfInTime,
        }
    }

    /// Returns the session's metadata with the keys of a record added. A key replaces the existing key of
    /// the same name, and a key with the value `null` removes it, unless the rule only fills in. `None` if the record has no keys. Metadata that are
    /// not an object are replaced by one ([`merge_base`]).
    ///
    /// # Errors
    /// The length in bytes, if it exceeds both `limit` and the length of the stored metadata.
    pub fn merge_metadata(
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
            Self::Ignore | Self::FillIn => stored.filled_in(added),
            Self::Apply | Self::ApplyIfInTime => stored.patched(added),
        };
        let length = merged.as_str().len();
        if length > limit && length > stored.as_str().len() { Err(length) } else { Ok(Some(merged)) }
    }

    /// Returns the dimensions of the row after a record. Those of the record replace the stored ones, unless the rule only
    /// fills in.
    #[must_use]
    pub fn merge_dimensions(self, stored: Dimensions, added: &Dimensions) -> Dimensions {
        match self {
            Self::Ignore => stored,
            Self::FillIn => added.clone().replaced_by(stored),
            Self::Apply | Self::ApplyIfInTime => stored.replaced_by(added.clone()),
        }
    }

    /// Returns the rule for a start of a session that exists. A start that does not reopen the session only fills in.
    #[must_use]
    pub fn for_start(self, start: &SessionStart) -> Self {
        match self {
            Self::Apply | Self::ApplyIfInTime if !start.reopens => Self::FillIn,
            rule => rule,
        }
    }

    /// True if the row must name this record as the last applied one.
    pub fn is_applied(self) -> bool {
        matches!(self, Self::Apply | Self::ApplyIfInTime)
    }

    /// True if a start with this `seq` reopens a session that ended at this moment.
    pub fn reopens(self, seq: Seq, ended_at: Timestamp) -> bool {
        match self {
            Self::Apply => true,
            Self::ApplyIfInTime => seq >= Seq::from(ended_at),
            Self::FillIn | Self::Ignore => false,
        }
    }
}

/// The state of a row that decides what an end does.
#[derive(Debug, Clone, Copy)]
pub struct SessionEndState {
    /// The row has an end.
    pub is_ended: bool,
    /// The end was inferred: a node concluded it, no client sent it.
    pub is_inferred: bool,
    /// The time of the last event of the session, if the store knows one.
    pub last_event_at: Option<Timestamp>,
}

/// The effect of an end on a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// This end becomes the end of the session.
    Closes,
    /// The end that the row already has is kept.
    Kept,
    /// The session continues on another node.
    Continues,
}

impl Ending {
    /// Decides the effect of this end, accepted with this `seq`, on a row.
    pub fn decide(rule: Rule, end: &SessionEnd, seq: Seq, row: SessionEndState) -> Self {
        let later_than = |moment: Timestamp| row.last_event_at.is_some_and(|last| last > moment);
        let accepted = seq.accepted_at().unwrap_or(end.ended_at);
        let goes_on = match rule {
            _ if end.is_outdated(row.last_event_at) => true,
            Rule::Apply => false,
            Rule::ApplyIfInTime => later_than(accepted),
            Rule::FillIn => later_than(accepted.min(end.ended_at)),
            Rule::Ignore => !row.is_ended,
        };
        let is_open = !row.is_ended || (row.is_inferred && !end.is_inferred());
        match (is_open, goes_on) {
            (_, true) if !row.is_ended => Self::Continues,
            (true, false) if rule != Rule::Ignore => Self::Closes,
            _ => Self::Kept,
        }
    }
}
