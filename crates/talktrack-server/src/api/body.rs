//! The body of a request: JSON text, or lines of it, of a bounded size. Its fields follow the same rules as those of a frame.

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use talktrack::ErrorCode;
use talktrack_protocol::jsonl::Lines;
use talktrack_protocol::{Frame, WireError};

use super::body_encoding::{BodyDecoder, BodyEncoding};
use super::incoming::Incoming;
use crate::error::Problem;
use crate::limits::{Account, BodyPermit};
use crate::state::AppState;

/// The media types of JSON objects, one a line.
const JSON_LINES: [&str; 5] = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    "application/json",
];

/// How much of a body is decompressed before memory is reserved for it.
const PIECE: usize = 1 << 10;

/// JSON text that is not parsed yet.
pub(crate) struct JsonText {
    text: String,
    /// The share of the memory for request bodies that the text takes.
    _room: Option<BodyPermit>,
}

impl JsonText {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Parses the text as a frame of this type. The text may leave out the type.
    ///
    /// # Errors
    /// Names the invalid field.
    pub(crate) fn frame(&self, frame_type: &'static str) -> Result<Frame, Problem> {
        Frame::parse_as(Some(frame_type), &self.text).map_err(Problem::from)
    }
}

impl From<WireError> for Problem {
    fn from(error: WireError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.code, error.message)
    }
}

/// JSON objects, one a line, that are not parsed yet. The lines need not be valid text.
pub(crate) struct JsonLines {
    bytes: Vec<u8>,
    /// The share of the memory for request bodies that the bytes take.
    _room: Option<BodyPermit>,
}

impl JsonLines {
    /// Returns the number of lines that are not blank.
    pub(crate) fn count(&self) -> usize {
        self.bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count()
    }

    /// Returns the lines with their numbers.
    pub(crate) fn lines(&self) -> Lines<&[u8]> {
        Lines::new(&*self.bytes, "the body")
    }
}

impl FromRequest<AppState> for JsonLines {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        if !has_type(request.headers(), &JSON_LINES) {
            let detail =
                "the body must be JSON objects, one a line, and Content-Type must be application/x-ndjson";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::Unsupported, detail));
        }
        let (bytes, room) = read_counted(request, state).await?;
        Ok(Self { bytes, _room: room })
    }
}

impl FromRequest<AppState> for JsonText {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        if !has_type(request.headers(), &["application/json"]) {
            let detail = "the body must be JSON, and Content-Type must be application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::Unsupported, detail));
        }
        let (bytes, room) = read_counted(request, state).await?;
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, ErrorCode::InvalidJson, "the body must be UTF-8")
        })?;
        Ok(Self { text, _room: room })
    }
}

/// True if the request names one of these media types. None of them can come from a form of another web page.
fn has_type(headers: &HeaderMap, types: &[&str]) -> bool {
    let told = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = told.split(';').next().unwrap_or_default().trim();
    types.iter().any(|one| essence.eq_ignore_ascii_case(one))
}

/// Reads the whole body of a request, and counts its bytes against the account of the caller.
async fn read_counted(request: Request, state: &AppState) -> Result<(Vec<u8>, Option<BodyPermit>), Problem> {
    let limit = state.config().max_body_bytes;
    let detail = format!("the body may have at most {limit} bytes (max_body_bytes)");
    let encoding = BodyEncoding::of(request.headers())?;
    let account: Option<Account> = request.extensions().get().cloned();
    let (bytes, room) = read_encoded(request.into_body(), encoding, state, limit, &detail).await?;
    state.limits().take_bytes(account.as_ref(), bytes.len())?;
    Ok((bytes, room))
}

/// Reads the whole body, of at most `limit` bytes; `detail` is the error message if it is longer. Memory is reserved as
/// the bytes arrive, so that a sender that only announces a large body takes nothing from others.
pub(crate) async fn read(
    body: Body,
    state: &AppState,
    limit: usize,
    detail: &str,
) -> Result<(Vec<u8>, Option<BodyPermit>), Problem> {
    read_encoded(body, BodyEncoding::Identity, state, limit, detail).await
}

/// Reads a body in this encoding. The limit and the reserved memory count decompressed bytes.
async fn read_encoded(
    body: Body,
    encoding: BodyEncoding,
    state: &AppState,
    limit: usize,
    detail: &str,
) -> Result<(Vec<u8>, Option<BodyPermit>), Problem> {
    let too_large = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge, detail);
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut incoming = Incoming::new(body, state.config().peer_timeout);
    let mut decoder = BodyDecoder::new(encoding, limit);
    let mut taken: Option<BodyPermit> = None;
    let mut reserve = |bytes: usize| {
        let room = state.limits().reserve_body(bytes)?;
        match &mut taken {
            Some(taken) => taken.merge(room),
            None => taken = Some(room),
        }
        Ok::<_, Problem>(())
    };
    while let Some(piece) = incoming.next().await? {
        // A small piece can decompress to a thousand times its size.
        for part in piece.chunks(PIECE) {
            let before = decoder.len();
            decoder.write(part).map_err(|error| error.into_problem(detail))?;
            reserve(decoder.len() - before)?;
        }
    }
    let before = decoder.len();
    let bytes = decoder.finish().map_err(|error| error.into_problem(detail))?;
    reserve(bytes.len() - before)?;
    Ok((bytes, taken))
}
