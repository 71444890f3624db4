//! `GET /v1/sessions/{session_id}/audio/{name}`: a recording is read, as a whole or in part.

use std::ops::Range;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::access::{self, SessionId};
use super::range::Wanted;
use super::requests::Recording;
use crate::audio::Name;
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// Kept by the browser of whoever asked, and asked for anew each time: it may be deleted.
const CACHING: &str = "private, no-cache";

/// Reads a recording
///
/// The address is what `audio_url` says. `Range` gives a part of it, so that a player can seek; a recording never changes, and
/// `If-None-Match` with its `ETag` costs nothing.
#[utoipa::path(
    get, path = "/v1/sessions/{session_id}/audio/{name}", operation_id = "get_audio", tag = "reading",
    params(("session_id" = Uuid, Path), ("name" = String, Path),
        ("Range" = Option<String>, Header, description = "One range of bytes, such as `bytes=0-1023`.")),
    responses(
        (status = 200, description = "The recording.", content(
            (Recording = "audio/wav"), (Recording = "audio/ogg"), (Recording = "audio/webm"), (Recording = "audio/mpeg"),
            (Recording = "audio/mp4"), (Recording = "audio/flac"), (Recording = "audio/aac"),
        )),
        (status = 206, description = "The part that was asked for.", content(
            (Recording = "audio/wav"), (Recording = "audio/ogg"), (Recording = "audio/webm"), (Recording = "audio/mpeg"),
            (Recording = "audio/mp4"), (Recording = "audio/flac"), (Recording = "audio/aac"),
        )),
        (status = 304, description = "You have it already."),
        Problem,
    )
)]
pub(crate) async fn answer(
    State(state): State<AppState>,
    caller: Caller,
    SessionId(session_id): SessionId,
    Path((_, name)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    access::check_readable(&state, &caller, session_id).await?;
    let name: Name = name.parse().map_err(|()| no_such_recording())?;
    let size = state.audio().size(session_id, name).await?.ok_or_else(no_such_recording)?;
    let etag = format!("\"{name}\"");
    let told = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if told(header::IF_NONE_MATCH).is_some_and(|tags| knows(tags, &etag)) {
        return Ok((
            StatusCode::NOT_MODIFIED,
            [(header::ETAG, etag), (header::CACHE_CONTROL, CACHING.into())],
        )
            .into_response());
    }
    // A part of something else than what the reader has would not fit.
    let fits = told(header::IF_RANGE).is_none_or(|tag| tag == etag);
    let wanted = match told(header::RANGE) {
        Some(range) if fits => Wanted::of(range, size),
        _ => Wanted::Whole,
    };
    let (status, range) = match wanted {
        Wanted::Whole => (StatusCode::OK, 0..size),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Nothing => return Ok(out_of_range(size)),
    };
    let body = match method {
        Method::HEAD => Body::empty(),
        _ => body(&state, session_id, name, range.clone()).await?,
    };
    let mut answer = (status, described(name, etag, &range), body).into_response();
    if status == StatusCode::PARTIAL_CONTENT {
        let part = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        answer.headers_mut().extend(part.parse().map(|part| (header::CONTENT_RANGE, part)));
    }
    Ok(answer)
}

async fn body(state: &AppState, session_id: Uuid, name: Name, range: Range<u64>) -> Result<Body, Problem> {
    let pieces = state.audio().read(session_id, name, range).await?;
    Ok(Body::from_stream(pieces.ok_or_else(no_such_recording)?))
}

fn described(name: Name, etag: String, range: &Range<u64>) -> [(HeaderName, String); 8] {
    [
        (header::CONTENT_TYPE, name.format().content_type().into()),
        (header::CONTENT_LENGTH, (range.end - range.start).to_string()),
        (header::CONTENT_DISPOSITION, format!("inline; filename=\"{name}\"")),
        (header::ACCEPT_RANGES, "bytes".into()),
        (header::ETAG, etag),
        (header::CACHE_CONTROL, CACHING.into()),
        (header::VARY, "authorization".into()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".into()),
    ]
}

/// Whether this tag is one of a list.
fn knows(tags: &str, etag: &str) -> bool {
    tags.split(',').map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == "*" || tag == etag)
}

fn out_of_range(size: u64) -> Response {
    let detail = format!("the recording has {size} bytes");
    let problem = Problem::without_code(StatusCode::RANGE_NOT_SATISFIABLE, detail);
    ([(header::CONTENT_RANGE, format!("bytes */{size}"))], problem).into_response()
}

fn no_such_recording() -> Problem {
    Problem::without_code(StatusCode::NOT_FOUND, "no such recording")
}
