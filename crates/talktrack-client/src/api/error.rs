//! Why a request to the HTTP API failed.

use http::StatusCode;

/// An error of another crate.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No server accepts connections at this URL. Start the server, or correct the URL.
    #[error("no server answers at {url}")]
    Unreachable {
        /// The URL of the server.
        url: String,
        /// The cause.
        source: Cause,
    },
    /// The server did not answer. It may have carried out the request nevertheless.
    #[error("{url} did not answer")]
    NoAnswer {
        /// The URL of the server.
        url: String,
        /// The cause.
        source: Cause,
    },
    /// The server asked at each attempt to try again later. Try again when it has less to do.
    #[error("{url} still has no room after {attempts} attempts")]
    RetriesExhausted {
        /// The URL of the server.
        url: String,
        /// The number of attempts.
        attempts: usize,
    },
    /// The server carried out the request, and its answer is not one of this request. Check the URL.
    #[error("{url} sent an invalid answer: {problem}")]
    InvalidAnswer {
        /// The URL of the server.
        url: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The server refused the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A response that is an error. The words of the server may contain any character: make them visible before you show
/// them on a terminal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server refused the request ({}): {}", status.as_u16(), detail.as_deref().unwrap_or("check the URL"))]
#[non_exhaustive]
pub struct Refusal {
    /// The status of the response. 207 means that some of several messages were refused.
    pub status: StatusCode,
    /// The first error of the messages, or the detail of the problem document. `None` if the response has neither.
    pub detail: Option<String>,
}

/// Why a server does not stream its events.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenEventsError {
    /// It cannot be reached, or has no room now. A later attempt may succeed.
    #[error(transparent)]
    Unavailable(RequestError),
    /// It refuses this caller. A later attempt would be refused, too.
    #[error(transparent)]
    Refused(Refusal),
}
