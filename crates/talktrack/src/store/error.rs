//! How a write to a store fails.

/// A write that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// What happens next.
    pub class: Class,
    /// The store's words, fit for the log.
    pub message: String,
    /// True if records may have been written all the same: the answer was lost, or only some of them failed.
    pub is_outcome_unknown: bool,
}

impl StoreError {
    /// A write of which nothing was written.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), is_outcome_unknown: false }
    }
}

/// What a failed write means for what was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The store is away or busy: try again for as long as it takes.
    Transient,
    /// The store takes no row as it stands: wait until somebody mends it. Unknown errors are of this class too:
    /// nothing is dropped for want of a rule.
    Systemic,
    /// A row among these will never be taken: find it.
    Data,
}

impl Class {
    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Systemic => "systemic",
            Self::Data => "data",
        }
    }
}
