//! Failures, as people and programs see them: one line on stderr with an exit code, or a problem document over HTTP.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use talktrack::{NotDurable, ReadError, Reason, Refused};
use utoipa::openapi::{Content, Ref, RefOr, Response as Described, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

/// Why a command ends early. Displays as one line; secrets never get into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    line: String,
    code: u8,
}

impl Failure {
    /// Something went wrong: exit code 1.
    pub(crate) fn new(line: impl fmt::Display) -> Self {
        Self::with_code(&line, 1)
    }

    /// The command cannot be carried out as it was given (a bad setting, a bad argument): exit code 2.
    pub(crate) fn usage(line: impl fmt::Display) -> Self {
        Self::with_code(&line, 2)
    }

    fn with_code(line: &dyn fmt::Display, code: u8) -> Self {
        let line = line.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
        Self { line, code }
    }

    /// What the process returns.
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

/// Seconds after which a store that could not be asked may be there again.
const STORE_RETRY_AFTER: u32 = 5;

const PROBLEM_JSON: &str = "application/problem+json";

/// An error over HTTP: a problem document (RFC 9457) with one of the protocol's codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    status: StatusCode,
    /// One of the protocol's codes, where one fits.
    code: Option<&'static str>,
    detail: String,
    /// Seconds after which it is worth to ask again.
    retry_after: Option<u32>,
    /// What became of each part of the request, where it had parts.
    acks: Option<Value>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code: Some(code), detail: detail.into(), retry_after: None, acks: None }
    }

    /// A request that names nothing the server has.
    pub(crate) fn without_code(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, code: None, detail: detail.into(), retry_after: None, acks: None }
    }

    /// A field of the request is missing or bad.
    pub(crate) fn invalid(detail: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_message", detail.to_string())
    }

    /// The same, of a request with several parts, of which none was taken.
    pub(crate) fn of_all(self, acks: Value) -> Self {
        Self { detail: format!("nothing was taken; the first: {}", self.detail), acks: Some(acks), ..self }
    }

    /// The address is nobody's.
    pub(crate) fn nothing_at(path: &str) -> Self {
        Self::not_found(format!("there is nothing at {path}"))
    }

    /// What the request names is not there.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// There is no such session, as far as the caller may know: the same answer for a session that is absent and for one of
    /// another user.
    pub(crate) fn session_not_found() -> Self {
        NotDurable::UnknownSession.into()
    }

    /// The same problem, with what to do if the session is missing.
    pub(crate) fn with_advice(self, advice: &str) -> Self {
        match self.status {
            StatusCode::NOT_FOUND => Self { detail: format!("{}; {advice}", self.detail), ..self },
            _ => self,
        }
    }

    /// The store cannot be asked now.
    pub(crate) fn store_unavailable(error: &ReadError) -> Self {
        tracing::warn!("{error}");
        // The store's words may tell of its insides: they are for the log.
        Self::store_away("the store cannot be read at present; try again later", STORE_RETRY_AFTER)
    }

    /// A store cannot be used now: that of the conversations, or that of recordings. It is worth to ask again after some seconds.
    pub(crate) fn store_away(detail: &str, retry_after: u32) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", detail);
        Self { retry_after: Some(retry_after), ..problem }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Seconds after which it is worth to ask again.
    pub(crate) fn retry_after(&self) -> Option<u32> {
        self.retry_after
    }

    /// The protocol's code for it.
    pub(crate) fn code(&self) -> &'static str {
        self.code.unwrap_or("internal")
    }

    /// What is wrong, in words.
    pub(crate) fn into_detail(self) -> String {
        self.detail
    }

    /// Nobody knows who asks.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// Who asks is known, and may not do this.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// Something that is needed to answer is not to be had just now; it is worth to ask again after some seconds.
    pub(crate) fn unavailable(detail: impl Into<String>, retry_after: u32) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "internal", detail);
        Self { retry_after: Some(retry_after), ..problem }
    }

    /// Too much is asked of the server; it is worth to ask again after some seconds.
    pub(crate) fn busy(status: StatusCode, detail: impl Into<String>, retry_after: u32) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(status, "rate_limited", detail) }
    }

    /// The server is about to go.
    pub(crate) fn shutting_down() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "the server is shutting down")
    }
}

/// What a refusal at the door means over HTTP.
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

/// What a refusal after acceptance means over HTTP.
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
pub(crate) struct Document {
    #[schema(value_type = String, example = "about:blank")]
    r#type: &'static str,
    #[schema(value_type = String, example = "Bad Request")]
    title: &'static str,
    #[schema(example = 400)]
    status: u16,
    /// One of the codes of the protocol, where one fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "invalid_message")]
    code: Option<&'static str>,
    /// For people; may change.
    #[schema(example = "content: missing")]
    detail: String,
    /// Of an array of which nothing was taken: what was wrong with each.
    #[serde(skip_serializing_if = "Option::is_none")]
    acks: Option<Value>,
}

/// What every endpoint may answer instead, for the description of the API.
impl IntoResponses for Problem {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        let kinds = [("4XX", "Refused; nothing is kept."), ("5XX", "Not now.")];
        kinds.into_iter().map(|(status, meaning)| (status.to_owned(), described(meaning).into())).collect()
    }
}

fn described(meaning: &str) -> Described {
    let document = Content::new(Some(Ref::from_schema_name(Document::name())));
    ResponseBuilder::new().description(meaning).content(PROBLEM_JSON, document).build()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            code: self.code,
            detail: self.detail,
            acks: self.acks,
        };
        let body = serde_json::to_string(&document).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
