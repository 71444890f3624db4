//! `GET /v1/sessions/{session_id}/audio/{name}`: returns a recording or a part of it.

use std::ops::Range;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use talktrack::ErrorCode;

use super::query::NoQueryParams;
use super::range::RequestedRange;
use super::requests::Recording;
use crate::access::{self, Granted, SessionName};
use crate::audio::{Folder, RecordingName};
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// Only the browser may cache a recording, and it must revalidate the copy each time, because the recording may have
/// been deleted.
const CACHING: &str = "private, no-cache";

/// Returns a recording
///
/// The address is the `audio_url`. `Range` returns a part of the recording, so that a player can seek. A recording never changes,
/// so `If-None-Match` with its `ETag` transfers nothing.
#[utoipa::path(
    get, path = "/v1/sessions/{session_id}/audio/{name}", operation_id = "get_audio", tag = "reading",
    params(("session_id" = String, Path, pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|external:[A-Za-z0-9._~@+-]{1,200})$", description = "The session's UUID, or `external:NAME` (percent-encoded) with its `external_id`."), ("name" = String, Path),
        ("Range" = Option<String>, Header, description = "One range of bytes, such as `bytes=0-1023`.")),
    responses(
        (status = 200, description = "The recording.", content(
            (Recording = "audio/wav"), (Recording = "audio/ogg"), (Recording = "audio/webm"), (Recording = "audio/mpeg"),
            (Recording = "audio/mp4"), (Recording = "audio/flac"), (Recording = "audio/aac"),
        )),
        (status = 206, description = "The requested part.", content(
            (Recording = "audio/wav"), (Recording = "audio/ogg"), (Recording = "audio/webm"), (Recording = "audio/mpeg"),
            (Recording = "audio/mp4"), (Recording = "audio/flac"), (Recording = "audio/aac"),
        )),
        (status = 304, description = "You already have the recording."),
        Problem,
    )
)]
pub(crate) async fn get_audio(
    State(state): State<AppState>,
    caller: Caller,
    session: SessionName,
    Path((_, name)): Path<(String, String)>,
    _: NoQueryParams,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let granted = access::to_read(&state, &caller, &session).await?;
    let name: RecordingName = name.parse().map_err(|()| no_such_recording())?;
    let (folder, size) =
        find_recording(&state, &caller, &granted, name).await?.ok_or_else(no_such_recording)?;
    let etag = format!("\"{name}\"");
    let told = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if told(header::IF_NONE_MATCH).is_some_and(|tags| has_etag(tags, &etag)) {
        return Ok((
            StatusCode::NOT_MODIFIED,
            [(header::ETAG, etag), (header::CACHE_CONTROL, CACHING.into())],
        )
            .into_response());
    }
    // A part of a version that the client does not have would not fit. The whole recording is sent instead.
    let fits = told(header::IF_RANGE).is_none_or(|tag| tag == etag);
    let wanted = match told(header::RANGE) {
        Some(range) if fits => RequestedRange::parse(range, size),
        _ => RequestedRange::Whole,
    };
    let (status, range) = match wanted {
        RequestedRange::Whole => (StatusCode::OK, 0..size),
        RequestedRange::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        RequestedRange::Nothing => return Ok(out_of_range(size)),
    };
    let body = match method {
        Method::HEAD => Body::empty(),
        _ => open_body(&state, folder, name, range.clone()).await?,
    };
    let mut answer = (status, recording_headers(name, etag, &range), body).into_response();
    if status == StatusCode::PARTIAL_CONTENT {
        let part = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        answer.headers_mut().extend(part.parse().map(|part| (header::CONTENT_RANGE, part)));
    }
    Ok(answer)
}

/// Finds the folder of the recording and its size in bytes.
async fn find_recording(
    state: &AppState,
    caller: &Caller,
    granted: &Granted,
    name: RecordingName,
) -> Result<Option<(Folder, u64)>, Problem> {
    let session_id = granted.session_id;
    // Two keys may have claimed the session for different users. A key may read the recordings of both.
    let owners = match &granted.owner {
        Some(owner) => vec![owner.clone()],
        None => state.tracker().proven_owners(session_id),
    };
    for folder in owners.into_iter().map(|owner| Folder { session_id, owner: Some(owner) }) {
        if let Some(size) = state.audio().recording_size(&folder, name).await? {
            return Ok(Some((folder, size)));
        }
    }
    // Recordings of the stored session's user must not be shown to a user who only claims the session.
    let is_theirs =
        caller.user().is_none() || granted.is_stored || access::is_stored(state, caller, session_id).await?;
    let folder = Folder { session_id, owner: None };
    let size = if is_theirs { state.audio().recording_size(&folder, name).await? } else { None };
    Ok(size.map(|size| (folder, size)))
}

async fn open_body(
    state: &AppState,
    folder: Folder,
    name: RecordingName,
    range: Range<u64>,
) -> Result<Body, Problem> {
    let pieces = state.audio().read(&folder, name, range).await?;
    Ok(Body::from_stream(pieces.ok_or_else(no_such_recording)?))
}

fn recording_headers(name: RecordingName, etag: String, range: &Range<u64>) -> [(HeaderName, String); 8] {
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

/// True if `tags`, a list of entity tags, contains this one.
fn has_etag(tags: &str, etag: &str) -> bool {
    tags.split(',').map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == "*" || tag == etag)
}

fn out_of_range(size: u64) -> Response {
    let detail = format!("the recording has {size} bytes");
    let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, ErrorCode::InvalidMessage, detail);
    ([(header::CONTENT_RANGE, format!("bytes */{size}"))], problem).into_response()
}

fn no_such_recording() -> Problem {
    Problem::not_found("no such recording")
}
