//! The error codes that the library, the WebSocket protocol and the HTTP API share.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)+) => {
        /// Why something was refused or could not be done. The words on the wire never change their meaning; later versions
        /// may add some.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $name,)+
        }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns the word on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }

        impl FromStr for ErrorCode {
            type Err = UnknownErrorCode;

            fn from_str(word: &str) -> Result<Self, UnknownErrorCode> {
                match word {
                    $($word => Ok(Self::$name),)+
                    _ => Err(UnknownErrorCode),
                }
            }
        }
    };
}

error_codes! {
    /// The text is not JSON. Correct it.
    InvalidJson = "invalid_json",
    /// A field or a parameter violates the contract. Correct it.
    InvalidMessage = "invalid_message",
    /// The id exists with other content. Use a new id, or a higher revision.
    IdConflict = "id_conflict",
    /// It is larger than a limit. Send less at once.
    TooLarge = "too_large",
    /// There is no room in memory at the moment. Retry a little later.
    QueueFull = "queue_full",
    /// There is no room on the disk. Retry when there is.
    JournalFull = "journal_full",
    /// The caller did not prove who it is. Get a token, or a new one.
    Unauthorized = "unauthorized",
    /// The caller may not do this. Do not retry.
    Forbidden = "forbidden",
    /// There is nothing at this address. Do not retry.
    NotFound = "not_found",
    /// The session does not exist, or the caller may not know of it. Do not retry.
    SessionNotFound = "session_not_found",
    /// The server does not support this method or this kind of content. Do not retry.
    Unsupported = "unsupported",
    /// The store refused the durable record, which is a dead letter now. Do not retry.
    Rejected = "rejected",
    /// The session, the message or the user was deleted. Do not retry.
    Deleted = "deleted",
    /// A limit of the settings is reached. Retry after the time that the answer names.
    RateLimited = "rate_limited",
    /// The server is stopping. Retry after its restart, or on another node.
    ShuttingDown = "shutting_down",
    /// The store is needed and cannot answer now. Retry.
    StoreUnavailable = "store_unavailable",
    /// The request or its answer took too long. Retry.
    Timeout = "timeout",
    /// Something failed inside talktrack. Retry; the log has the cause.
    Internal = "internal",
}

impl ErrorCode {
    /// True if the same request may succeed later, unchanged.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::QueueFull
            | Self::JournalFull
            | Self::RateLimited
            | Self::ShuttingDown
            | Self::StoreUnavailable
            | Self::Timeout
            | Self::Internal => true,
            Self::InvalidJson
            | Self::InvalidMessage
            | Self::IdConflict
            | Self::TooLarge
            | Self::Unauthorized
            | Self::Forbidden
            | Self::NotFound
            | Self::SessionNotFound
            | Self::Unsupported
            | Self::Rejected
            | Self::Deleted => false,
        }
    }
}

/// The word is none of the error codes of this version. A later version may have sent it: handle it as a permanent error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownErrorCode;

impl fmt::Display for UnknownErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown error code")
    }
}

impl std::error::Error for UnknownErrorCode {}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq<&str> for ErrorCode {
    fn eq(&self, word: &&str) -> bool {
        self.as_str() == *word
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_back_from_its_word() {
        for code in ErrorCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
        }
        assert_eq!("QUEUE_FULL".parse::<ErrorCode>(), Err(UnknownErrorCode));
    }
}
