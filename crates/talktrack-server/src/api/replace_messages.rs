//! `PUT /v1/sessions/{session_id}/messages`: replaces all messages of a session.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use talktrack::SessionId;
use talktrack::record::Edit;
use talktrack_protocol::Frame;
use utoipa::ToSchema;

use super::add_messages::{MAX_MESSAGES, WriteContext, split_array};
use super::body::JsonText;
use super::idempotency_key::IdempotencyKey;
use super::query::NoQueryParams;
use super::requests::ReplacementMessages;
use super::rows::Message;
use crate::access::{self, Granted, SessionName};
use crate::auth::Caller;
use crate::config::Scope;
use crate::deletion;
use crate::error::Problem;
use crate::state::AppState;

/// The messages of a session after they were replaced.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplacedMessages {
    #[schema(value_type = Uuid)]
    session_id: SessionId,
    /// The messages of the session, in the order in which they were said.
    messages: Vec<Message>,
    /// How many messages were deleted.
    removed: u64,
}

/// Replaces all messages of a session
///
/// Deletes all messages of the session that are not in the array, and writes those that are, in one transaction of the database:
/// nobody sees a part of it. A message whose id exists is replaced in its place; its revision is one above the stored one, unless
/// the array gives a higher one. A message without `created_at` keeps its time if it exists, and otherwise gets the current time.
/// An empty array deletes all messages. If one message cannot be accepted, nothing is changed. It needs the rights to write and to
/// delete the session; a user's token deletes and replaces only messages that a user wrote. It is answered with 503 if the database
/// cannot be reached.
#[utoipa::path(
    put, path = "/v1/sessions/{session_id}/messages", operation_id = "replace_messages", tag = "writing", request_body = ReplacementMessages,
    params(("session_id" = String, Path, pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|external:[A-Za-z0-9._~@+-]{1,200})$", description = "The session's UUID, or `external:NAME` (percent-encoded) with its `external_id`."),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 256, description = "The server derives the ids of messages without an id from this key.")),
    responses(
        (status = 200, description = "The messages are replaced.", body = ReplacedMessages),
        Problem,
    )
)]
pub(crate) async fn replace_messages(
    State(state): State<AppState>,
    caller: Caller,
    name: SessionName,
    _: NoQueryParams,
    key: IdempotencyKey,
    body: JsonText,
) -> Result<Json<ReplacedMessages>, Problem> {
    caller.require(Scope::Write)?;
    if !body.as_str().trim_start().starts_with('[') {
        return Err(Problem::invalid(format_args!("must be an array of at most {MAX_MESSAGES} messages")));
    }
    let granted = access::to_edit(&state, &caller, &name).await?;
    let news = stamp_messages(&state, &caller, &granted, &key, body.as_str())?;
    let edited = deletion::messages::edit_messages(&state, &caller, &granted, Edit::Replace(news)).await?;
    Ok(Json(ReplacedMessages {
        session_id: granted.session_id,
        removed: edited.removed.len() as u64,
        messages: edited.written.into_iter().map(Message::from).collect(),
    }))
}

/// Reads and checks the messages of the request. An error names the place of its message.
fn stamp_messages(
    state: &AppState,
    caller: &Caller,
    granted: &Granted,
    key: &IdempotencyKey,
    text: &str,
) -> Result<Vec<talktrack::record::StampedMessage>, Problem> {
    let author = granted.author(caller);
    let owner = granted.owner.clone();
    let writing = WriteContext { session_id: granted.session_id, owner, author, said_until: None };
    let mut messages = Vec::new();
    for (place, text) in split_array(text)?.into_iter().enumerate() {
        let frame = Frame::parse_as(Some("message"), text).map_err(Problem::from);
        let message = frame.and_then(|frame| writing.read_message(caller, frame, key, place));
        messages.push(message.map_err(|problem| problem.about_message(place))?);
    }
    let stamped = state.tracker().stamp_replacement(messages, &writing.author);
    stamped.map_err(|(place, reason)| Problem::from(reason).about_message(place))
}
