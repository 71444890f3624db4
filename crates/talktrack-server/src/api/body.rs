//! The body of a request: JSON text of a bounded size, whose fields are read by the same rules as a frame's.

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};

use super::incoming::Incoming;
use crate::error::Problem;
use crate::limits::{Account, Room};
use crate::state::AppState;
use crate::wire::{Frame, INVALID_JSON, WireError};

/// JSON text, not looked at yet.
pub(crate) struct JsonText {
    text: String,
    /// What it takes of the memory for bodies.
    _room: Option<Room>,
}

impl JsonText {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Reads it as a frame of this type, which it need not name.
    ///
    /// # Errors
    /// Names the field to blame.
    pub(crate) fn frame(&self, frame_type: &'static str) -> Result<Frame, Problem> {
        Frame::parse_as(Some(frame_type), &self.text).map_err(Problem::from)
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
        let detail = format!("the body may have {limit} bytes (max_body_bytes)");
        let account: Option<Account> = request.extensions().get().cloned();
        let (bytes, room) = read(request.into_body(), state, limit, &detail).await?;
        state.limits().take_bytes(account.as_ref(), bytes.len())?;
        let text = String::from_utf8(bytes);
        let text =
            text.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, INVALID_JSON, "the body must be UTF-8"))?;
        Ok(Self { text, _room: room })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let told = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    told.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The whole body, of at most `limit` bytes; `detail` says so if it has more. Memory is taken as the bytes come: what a sender
/// only announces takes nothing from others.
pub(crate) async fn read(
    body: Body,
    state: &AppState,
    limit: usize,
    detail: &str,
) -> Result<(Vec<u8>, Option<Room>), Problem> {
    let too_large = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail);
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut incoming = Incoming::new(body, state.config().peer_timeout);
    let (mut bytes, mut taken): (_, Option<Room>) = (Vec::new(), None);
    while let Some(piece) = incoming.next().await? {
        if bytes.len() + piece.len() > limit {
            return Err(too_large());
        }
        let room = state.limits().room(piece.len())?;
        match &mut taken {
            Some(taken) => taken.merge(room),
            None => taken = Some(room),
        }
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes, taken))
}
