//! Errors for people and programs: one line on stderr with an exit code, or a problem document over HTTP.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;

use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use talktrack::{ErrorCode, NotDurable, ReadError, ReadErrorKind, Reason, Refused};
use utoipa::openapi::{Content, Ref, RefOr, Response as Described, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

/// Why a command ends early. `Display` gives one line, which never contains secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    line: String,
    code: u8,
}

impl Failure {
    /// Makes a failure with exit code 1: something went wrong.
    pub(crate) fn new(line: impl fmt::Display) -> Self {
        Self::with_code(&line, 1)
    }

    /// Makes a failure with exit code 2: the command cannot be carried out as given, because of an invalid setting or
    /// argument.
    pub(crate) fn usage(line: impl fmt::Display) -> Self {
        Self::with_code(&line, 2)
    }

    fn with_code(line: &dyn fmt::Display, code: u8) -> Self {
        let line = line.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
        Self { line, code }
    }

    /// Returns the exit code of the process.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

macro_rules! fails_with {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error)
            }
        })+
    };
}

fails_with!(std::io::Error, talktrack::OpenError, ReadError, NotDurable);

/// After how many seconds a client should retry while the store is unavailable.
const STORE_RETRY_AFTER: u32 = 5;

const PROBLEM_JSON: &str = "application/problem+json";

/// An error over HTTP: a problem document (RFC 9457) with an error code of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    status: StatusCode,
    code: ErrorCode,
    detail: String,
    /// After how many seconds the client should retry.
    retry_after: Option<u32>,
    /// The outcome of each part of the request, if it had parts.
    acks: Option<Value>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None, acks: None }
    }

    /// Makes the problem for a missing or invalid field.
    pub(crate) fn invalid(detail: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::InvalidMessage, detail.to_string())
    }

    /// Creates the problem of a query that the endpoint does not accept.
    pub(crate) fn invalid_query(rejection: &QueryRejection) -> Self {
        Self::invalid(rejection.body_text().replace("Failed to deserialize query string: ", ""))
    }

    /// Converts the problem to that of a request with several parts, none of which was accepted.
    pub(crate) fn with_acks(self, acks: Value) -> Self {
        Self {
            detail: format!("no message was accepted; the first error: {}", self.detail),
            acks: Some(acks),
            ..self
        }
    }

    /// Names the message of an array that has this problem.
    pub(crate) fn about_message(self, place: usize) -> Self {
        Self { detail: format!("message {}: {}", place + 1, self.detail), ..self }
    }

    /// Makes the problem for a path without an endpoint.
    pub(crate) fn nothing_at(path: &str) -> Self {
        Self::not_found(format!("there is nothing at {path}"))
    }

    /// Makes the problem for something that does not exist.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorCode::NotFound, detail)
    }

    /// Makes the problem for a message that the session does not have.
    pub(crate) fn message_not_found() -> Self {
        Self::not_found("the session has no such message")
    }

    /// Makes the problem for a store that cannot be asked now. The client should retry soon.
    pub(crate) fn store_unavailable(detail: &str) -> Self {
        Self::store_away(detail, STORE_RETRY_AFTER)
    }

    /// Makes the problem for a session that does not exist or that the caller may not know of. It is the same for an
    /// absent session and for one of another user.
    pub(crate) fn session_not_found() -> Self {
        NotDurable::UnknownSession.into()
    }

    /// If the problem is that something was not found, adds what to do about it.
    pub(crate) fn with_advice(self, advice: &str) -> Self {
        match self.status {
            StatusCode::NOT_FOUND => Self { detail: format!("{}; {advice}", self.detail), ..self },
            _ => self,
        }
    }

    /// Makes the problem for a query that failed: 503 if the store cannot answer now, 500 if a retry cannot help. The
    /// store's error may reveal internals, so it goes only to the log.
    pub(crate) fn read_failed(error: &ReadError) -> Self {
        if error.kind == ReadErrorKind::Unavailable {
            tracing::warn!("{error}");
            return Self::store_unavailable("the store cannot be read now; try again later");
        }
        tracing::error!("{error}");
        let detail = "the store has data that the server cannot read; the server's log has the cause";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal, detail)
    }

    /// Makes the problem for an unavailable store, of conversations or of recordings. The client should retry after
    /// `retry_after` seconds.
    pub(crate) fn store_away(detail: &str, retry_after: u32) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::StoreUnavailable, detail);
        Self { retry_after: Some(retry_after), ..problem }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns after how many seconds the client should retry.
    pub(crate) fn retry_after(&self) -> Option<u32> {
        self.retry_after
    }

    /// Returns the error code.
    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    /// Returns the description in words.
    pub(crate) fn into_detail(self) -> String {
        self.detail
    }

    /// Makes the problem for an unauthenticated caller.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, detail)
    }

    /// Makes the problem for a caller without permission.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorCode::Forbidden, detail)
    }

    /// Makes the problem for a temporarily missing resource. The client should retry after `retry_after` seconds.
    pub(crate) fn unavailable(detail: impl Into<String>, retry_after: u32) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Internal, detail);
        Self { retry_after: Some(retry_after), ..problem }
    }

    /// Makes the problem for an exceeded limit. The client should retry after `retry_after` seconds.
    pub(crate) fn busy(status: StatusCode, detail: impl Into<String>, retry_after: u32) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(status, ErrorCode::RateLimited, detail) }
    }

    /// Makes the problem for a server that is shutting down.
    pub(crate) fn shutting_down() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::ShuttingDown, "the server is shutting down")
    }
}

/// Converts a refusal before acceptance to its HTTP response.
impl From<Reason> for Problem {
    fn from(reason: Reason) -> Self {
        let status = match reason {
            Reason::Invalid(_) => StatusCode::BAD_REQUEST,
            Reason::TooLarge { .. } | Reason::MetadataTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Reason::QueueFull => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, reason.code(), reason.to_string())
    }
}

impl<T> From<Refused<T>> for Problem {
    fn from(refused: Refused<T>) -> Self {
        refused.reason.into()
    }
}

/// Converts a refusal after acceptance to its HTTP response.
impl From<NotDurable> for Problem {
    fn from(why: NotDurable) -> Self {
        let status = match why {
            NotDurable::IdConflict => StatusCode::CONFLICT,
            NotDurable::OtherUser | NotDurable::NotTheirs => StatusCode::FORBIDDEN,
            NotDurable::UnknownSession => StatusCode::NOT_FOUND,
            NotDurable::MetadataTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            NotDurable::Deleted => StatusCode::GONE,
            NotDurable::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, why.code(), why.to_string())
    }
}

/// A problem document (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Document)]
pub(crate) struct ProblemDocument {
    #[schema(value_type = String, example = "about:blank")]
    r#type: &'static str,
    #[schema(value_type = String, example = "Bad Request")]
    title: &'static str,
    #[schema(example = 400)]
    status: u16,
    /// One of the error codes of the protocol.
    #[schema(value_type = String, example = "invalid_message")]
    code: ErrorCode,
    /// A description for people. The wording may change.
    #[schema(example = "content: missing")]
    detail: String,
    /// If an array was sent and all of its messages were refused: the error of each message.
    #[serde(skip_serializing_if = "Option::is_none")]
    acks: Option<Value>,
}

/// The error responses that every endpoint may return, for the OpenAPI description.
impl IntoResponses for Problem {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        let kinds = [
            (
                "4XX",
                "The request was refused. Nothing is kept, except with 422: that message is a dead letter.",
            ),
            ("5XX", "The server cannot do this now."),
        ];
        kinds
            .into_iter()
            .map(|(status, meaning)| (status.to_owned(), describe_response(meaning).into()))
            .collect()
    }
}

fn describe_response(meaning: &str) -> Described {
    let document = Content::new(Some(Ref::from_schema_name(ProblemDocument::name())));
    ResponseBuilder::new().description(meaning).content(PROBLEM_JSON, document).build()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = ProblemDocument {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            code: self.code,
            detail: self.detail,
            acks: self.acks,
        };
        let body = serde_json::to_string(&document).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        // The middleware counts refusals by their codes.
        response.extensions_mut().insert(self.code);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
