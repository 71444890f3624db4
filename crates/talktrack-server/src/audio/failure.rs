//! Why recordings cannot be read or stored at present.

use std::io;

use crate::error::Problem;

/// After how many seconds a client should retry.
const RETRY_AFTER: u32 = 10;

/// The maximum length of a message, because a store may return long ones.
const MAX_CHARS: usize = 300;

/// The store cannot be used now. Contains the reason, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unavailable(String);

impl Unavailable {
    pub(super) fn new(why: &str) -> Self {
        Self(why.to_owned())
    }

    pub(crate) fn log(&self, what: &str) {
        tracing::error!("audio: {what}: {}", self.0);
    }
}

impl From<object_store::Error> for Unavailable {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error::{PermissionDenied, Unauthenticated};
        match error {
            PermissionDenied { .. } | Unauthenticated { .. } => {
                Self::new("the object store refuses the credentials")
            }
            error => Self(first_line(&error.to_string())),
        }
    }
}

/// The writer of a recording wraps errors of the store in I/O errors.
impl From<io::Error> for Unavailable {
    fn from(error: io::Error) -> Self {
        let kind = error.kind();
        match error.into_inner().map(|inner| inner.downcast::<object_store::Error>()) {
            Some(Ok(inner)) => Self::from(*inner),
            Some(Err(other)) => Self(first_line(&other.to_string())),
            None => Self(kind.to_string()),
        }
    }
}

/// Returns the first line, up to where the store begins to quote: its response may repeat the request, which contains a
/// session token.
fn first_line(text: &str) -> String {
    let own = text.split(['<', '\n']).next().unwrap_or_default();
    own.trim_end_matches([' ', ':']).chars().take(MAX_CHARS).collect()
}

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Self {
        error.log("the store of the recordings cannot be used");
        Self::store_away("recordings cannot be stored or read now; try again later", RETRY_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_quotes_is_not_repeated() {
        let told = "Generic S3 error: Server returned non-2xx status code: 403 Forbidden: <?xml ?><StringToSign>token";
        let expected = "Generic S3 error: Server returned non-2xx status code: 403 Forbidden";
        assert_eq!(first_line(told), expected);
        assert_eq!(first_line(&"x".repeat(1_000)).len(), MAX_CHARS);
    }
}
