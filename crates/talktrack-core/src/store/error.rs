//! The error of a failed write to a store.

/// A write that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// Decides what the writer does next.
    pub class: ErrorClass,
    /// The store's own message. It contains no secret and no text of a conversation, so it may be logged.
    pub message: String,
    /// True if some records may have been written despite the error: the answer was lost, or only some of
    /// the records failed.
    pub is_outcome_unknown: bool,
}

impl StoreError {
    /// Creates an error for a write that wrote nothing.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), is_outcome_unknown: false }
    }
}

/// What a failed write means for the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The store is unavailable or busy. The writer retries without a limit.
    Transient,
    /// The store accepts no row in its present state: the writer waits until an operator repairs it.
    /// Unknown errors belong to this class too, so that no record is dropped because a rule is missing.
    Systemic,
    /// At least one of these records is a poison record, which the store will never accept. The writer must
    /// find it.
    Data,
}

impl ErrorClass {
    /// Returns the word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Systemic => "systemic",
            Self::Data => "data",
        }
    }
}
