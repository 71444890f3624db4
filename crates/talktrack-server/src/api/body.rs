//! The body of a request: JSON text of a bounded size, whose fields are read by the same rules as a frame's.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};

use crate::error::Problem;
use crate::state::AppState;
use crate::wire::{Frame, INVALID_JSON, WireError};

/// JSON text, not looked at yet.
pub(crate) struct JsonText(String);

impl JsonText {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads it as a frame of this type, which it need not name.
    ///
    /// # Errors
    /// Names the field to blame.
    pub(crate) fn frame(&self, frame_type: &'static str) -> Result<Frame, Problem> {
        Frame::parse_as(Some(frame_type), &self.0).map_err(Problem::from)
    }
}

impl From<WireError> for Problem {
    fn from(error: WireError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.code, error.message)
    }
}

impl FromRequest<AppState> for JsonText {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "the body must be JSON, and Content-Type application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID_JSON, detail));
        }
        let limit = state.config().max_body_bytes;
        let bytes =
            Bytes::from_request(request, state).await.map_err(|rejection| unreadable(&rejection, limit))?;
        let text = String::from_utf8(bytes.into());
        let text =
            text.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, INVALID_JSON, "the body must be UTF-8"))?;
        Ok(Self(text))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let told = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    told.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn unreadable(rejection: &BytesRejection, limit: usize) -> Problem {
    match rejection.status() {
        status @ StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(status, "too_large", format!("the body may have {limit} bytes (max_body_bytes)"))
        }
        _ => Problem::new(StatusCode::BAD_REQUEST, INVALID_JSON, "the body could not be read to its end"),
    }
}
