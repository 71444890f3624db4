//! `POST /v1/sessions/{session_id}/audio`: stores a recording piece by piece, under a name that the server generates.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use metrics::counter;
use serde::Serialize;
use talktrack::{ErrorCode, UserId};
use utoipa::ToSchema;

use super::incoming::Incoming;
use super::query::NoQueryParams;
use super::requests::Recording;
use crate::access::{self, Granted, SessionName};
use crate::audio::{AudioFormat, AudioLimits, Folder, Quota, RecordingName, Ticket};
use crate::auth::{Admission, Caller};
use crate::config::AudioQuotas;
use crate::error::Problem;
use crate::limits::LIMITED;
use crate::state::AppState;

/// After how many seconds a client should retry an upload that was refused because too many others were running.
const RETRY_AFTER: u32 = 10;

/// A stored recording.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeptRecording {
    /// The path of the recording on this server, for `audio_url` of a message.
    #[schema(
        example = "/v1/sessions/9e3c1730-9c19-47cb-a50c-0a3c8a2f4a33/audio/01a20901-7957-72ca-8a13-20d8fe439945.ogg"
    )]
    audio_url: String,
    /// The format, as the server detected it from the bytes.
    #[schema(value_type = String, example = "audio/ogg")]
    content_type: &'static str,
    /// The size in bytes.
    bytes: u64,
}

/// Stores a recording
///
/// The body is the audio file itself: WAV, Ogg, WebM, MP3, MP4, FLAC or AAC. The server detects the format from the bytes;
/// `Content-Type` only has to begin with `audio/`. The server answers when the recording is durable, with the `audio_url` for
/// the message that it belongs to. An upload that breaks off leaves nothing.
#[utoipa::path(
    post, path = "/v1/sessions/{session_id}/audio", operation_id = "add_audio", tag = "writing",
    request_body(content = Recording, content_type = "audio/*"), params(("session_id" = String, Path, pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|external:[A-Za-z0-9._~@+-]{1,200})$", description = "The session's UUID, or `external:NAME` (percent-encoded) with its `external_id`.")),
    responses(
        (status = 201, description = "The recording is stored.", body = KeptRecording,
            headers(("Location" = String, description = "The same as `audio_url`."))),
        Problem,
    )
)]
pub(crate) async fn add_audio(
    State(state): State<AppState>,
    admission: Admission,
    name: SessionName,
    _: NoQueryParams,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, [(header::HeaderName, String); 1], Json<KeptRecording>), Problem> {
    if state.is_stopping() {
        return Err(Problem::shutting_down());
    }
    check_headers(&headers, state.config().max_audio_bytes)?;
    let caller = &admission.caller;
    let (ticket, granted) = announce_upload(&state, caller, &name).await?;
    let Granted { session_id, claim: owner, .. } = granted;
    let busy = || {
        let detail = "too many recordings are being uploaded; try again later";
        Problem::busy(StatusCode::SERVICE_UNAVAILABLE, detail, RETRY_AFTER)
    };
    let _slot = state.audio().acquire_slot().await.ok_or_else(busy)?;
    let incoming = Incoming::new(body, state.config().peer_timeout);
    let AudioQuotas { per_user, total } = state.config().audio_quotas;
    let limits = AudioLimits { of_user: per_user.filter(|_| caller.user().is_some()), total };
    let mut quota = state.audio().new_quota(owner.clone(), limits);
    let (name, bytes) = receive_upload(&state, ticket, (owner.clone(), &mut quota), incoming).await?;
    quota.keep();
    // An upload may take long. Meanwhile the token may have expired, the key may have been revoked, the session may
    // have been deleted, or the store may have refused the claim to the session.
    let still = state.authenticator().check_again(&admission);
    let still = match still {
        Ok(()) => access::to_write(&state, caller, &SessionName::from(session_id)).await.map(drop),
        Err(problem) => Err(problem),
    };
    if let Err(problem) = still {
        state.audio().delete(&Folder { session_id, owner }, name).await?;
        return Err(problem);
    }
    counter!("talktrack_audio_bytes_total").increment(bytes);
    let audio_url = format!("/v1/sessions/{session_id}/audio/{name}");
    let kept =
        KeptRecording { audio_url: audio_url.clone(), content_type: name.format().content_type(), bytes };
    Ok((StatusCode::CREATED, [(header::LOCATION, audio_url)], Json(kept)))
}

/// Announces the upload and checks that the caller may write. The upload is announced before the check, so that a
/// deletion that begins from now on waits for it.
async fn announce_upload(
    state: &AppState,
    caller: &Caller,
    name: &SessionName,
) -> Result<(Ticket, Granted), Problem> {
    let session_id = match name {
        SessionName::Id(id) => *id,
        SessionName::External(_) => access::to_write(state, caller, name).await?.session_id,
    };
    let ticket = state.audio().announce_upload(session_id);
    Ok((ticket, access::to_write(state, caller, &SessionName::from(session_id)).await?))
}

/// Checks the headers, before the first byte of the body is read.
fn check_headers(headers: &HeaderMap, limit: u64) -> Result<(), Problem> {
    let told = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = told(header::CONTENT_TYPE).trim_start();
    // The check has a second purpose: for this content type a browser sends a CORS preflight request before a page of
    // another origin may send the upload. For a plain form it would not.
    if !content_type.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("audio/")) {
        let detail = "the body must be a recording, and Content-Type must begin with audio/";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::Unsupported, detail));
    }
    // A recording is stored as it comes.
    if headers.contains_key(header::CONTENT_ENCODING) {
        let detail = "a recording must be sent without Content-Encoding";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::Unsupported, detail));
    }
    match told(header::CONTENT_LENGTH).parse::<u64>() {
        Ok(length) if length > limit => Err(too_large(limit)),
        _ => Ok(()),
    }
}

/// Receives the whole upload, unless the session is deleted meanwhile.
async fn receive_upload(
    state: &AppState,
    ticket: Ticket,
    of: (Option<UserId>, &mut Quota),
    incoming: Incoming,
) -> Result<(RecordingName, u64), Problem> {
    let deletion = ticket.watch();
    tokio::select! {
        biased;
        () = deletion.deleted() => Err(Problem::session_not_found()),
        kept = store_upload(state, ticket, of, incoming) => kept,
    }
}

async fn store_upload(
    state: &AppState,
    ticket: Ticket,
    (owner, quota): (Option<UserId>, &mut Quota),
    mut incoming: Incoming,
) -> Result<(RecordingName, u64), Problem> {
    let limit = state.config().max_audio_bytes;
    let mut head = Vec::new();
    while head.len() < AudioFormat::HEAD {
        let Some(piece) = incoming.next().await? else { break };
        head.extend_from_slice(&piece);
    }
    if head.is_empty() {
        return Err(Problem::invalid("the body is empty"));
    }
    let mut upload =
        state.audio().start_upload(ticket, owner, AudioFormat::detect(&head).ok_or_else(no_audio)?);
    let mut piece = Bytes::from(head);
    loop {
        if incoming.received() > limit {
            return Err(too_large(limit));
        }
        quota.take(piece.len() as u64).map_err(quota_is_full)?;
        upload.write(&piece).await?;
        piece = match incoming.next().await? {
            Some(piece) => piece,
            None => return Ok((upload.finish().await?, incoming.received())),
        };
    }
}

fn no_audio() -> Problem {
    let detail = "the bytes are not audio of a known format: WAV, Ogg, WebM, MP3, MP4, FLAC, AAC (ADTS)";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::Unsupported, detail)
}

fn quota_is_full((setting, limit): (&'static str, u64)) -> Problem {
    counter!(LIMITED, "limit" => setting).increment(1);
    let detail =
        format!("recordings may take at most {limit} bytes ({setting}); delete sessions to make room");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge, detail)
}

fn too_large(limit: u64) -> Problem {
    let detail = format!("a recording may have at most {limit} bytes (max_audio_bytes)");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge, detail)
}
