//! Whether the store may have seen a record before.

use serde::{Deserialize, Serialize};

/// Whether the store may have seen a record before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempt {
    /// The store has not seen the record.
    #[default]
    First,
    /// The store may have applied the record: its answer was lost, or a later process read the record from the journal.
    Retry,
    /// An operator replayed a dead letter. Newer records of the session may have been applied since.
    Replay,
}

impl Attempt {
    /// Returns the word for this value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry => "retry",
            Self::Replay => "replay",
        }
    }

    /// True if the record has not been delivered before.
    pub fn is_first(&self) -> bool {
        *self == Self::First
    }
}
