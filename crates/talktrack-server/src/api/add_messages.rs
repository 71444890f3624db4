//! `POST /v1/sessions/{session_id}/messages`: adds one message or several.
//!
//! Each message of an array is answered separately, at its place in the response. Repeating a request changes nothing
//! if its messages have ids, or if the request has an `Idempotency-Key`, from which the server derives ids.

#![expect(unused_qualifications, reason = "in what the macro makes of the parameters")]

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use talktrack::store::sqlite::Replayed;
use talktrack::{
    Author, ErrorCode, Message, MessageId, NotDurable, Receipt, RecordReceipt, SessionId, Timestamp, UserId,
    json,
};
use talktrack_protocol::{ClientFrame, Frame, FrameRef, Warnings, WireError};
use tokio::time::{Instant, sleep};
use utoipa::{IntoParams, ToSchema};

use super::body::JsonText;
use super::idempotency_key::IdempotencyKey;
use super::query::QueryParams;
use super::requests::NewMessages;
use crate::access::{self, SessionName};
use crate::auth::Caller;
use crate::error::Problem;
use crate::limits::ClientAddress;
use crate::state::AppState;

/// The maximum number of messages in one request.
pub(super) const MAX_MESSAGES: usize = 1_000;

/// How long `wait=stored` waits, and how often it checks. Records leave the journal in batches, a moment after they are
/// stored.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(30);
const STORE_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AddMessagesQuery {
    /// `stored`: answer when the messages are in the store. By default, the server answers when they are durable on this server.
    #[param(value_type = Option<String>, pattern = "^stored$")]
    pub(super) wait: Option<WaitFor>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WaitFor {
    Stored,
}

/// The outcome for each message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Answers)]
pub(crate) struct MessageAcks {
    /// One entry for each message, in the order of the request.
    acks: Vec<MessageAck>,
}

/// The outcome for one message: its id if it is durable, otherwise the error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Answer)]
pub(crate) struct MessageAck {
    /// The id of the message. Absent if the message was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    id: Option<MessageId>,
    /// Absent if the message is durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<AckError>,
    /// The `ref` of the message, if it had one.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    reference: Option<FrameRef>,
    /// What you should know although the message is durable, each beginning with the field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<String>,
}

/// What is left of a message after it was handed over.
struct Outcome {
    reference: Option<FrameRef>,
    warnings: Warnings,
    result: Result<MessageId, Problem>,
}

/// Why a message was refused.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WhatWasWrong)]
pub(crate) struct AckError {
    /// One of the error codes of the protocol.
    #[schema(value_type = String, example = "id_conflict")]
    code: ErrorCode,
    /// A description for people. The wording may change.
    message: String,
}

/// Adds one message or several
///
/// The server answers when the messages are durable. For an array, `acks` has one entry for each message. The status is 202 if
/// all messages are durable, 201 if all are stored (with `wait=stored`), and 207 if some were refused. If all were refused, the
/// answer is a problem document.
#[utoipa::path(
    post, path = "/v1/sessions/{session_id}/messages", operation_id = "add_messages", tag = "writing", request_body = NewMessages,
    params(("session_id" = String, Path, pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|external:[A-Za-z0-9._~@+-]{1,200})$", description = "The session's UUID, or `external:NAME` (percent-encoded) with its `external_id`."), AddMessagesQuery,
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 256, description = "The server derives the ids of messages without an id from this key.")),
    responses(
        (status = 201, description = "All messages are stored.", body = MessageAcks),
        (status = 202, description = "All messages are durable.", body = MessageAcks),
        (status = 207, description = "Some messages were refused; the others are durable.", body = MessageAcks),
        Problem,
    )
)]
pub(crate) async fn add_messages(
    State(state): State<AppState>,
    caller: Caller,
    name: SessionName,
    QueryParams(query): QueryParams<AddMessagesQuery>,
    client: Option<Extension<ClientAddress>>,
    key: IdempotencyKey,
    body: JsonText,
) -> Result<(StatusCode, Json<MessageAcks>), Problem> {
    let is_array = body.as_str().trim_start().starts_with('[');
    let texts = if is_array { split_array(body.as_str())? } else { vec![body.as_str()] };
    if texts.is_empty() {
        return Err(Problem::invalid("an array must have at least one message"));
    }
    let granted = access::to_write(&state, &caller, &name).await?;
    let author = granted.author(&caller);
    let said_until = granted.said_until(&state).await;
    let owner = granted.claim.clone().or(granted.owner.clone());
    let writing = WriteContext { session_id: granted.session_id, owner, author, said_until };
    state.limits().check_dead_letters(caller.account().as_ref())?;
    let client = client.map(|Extension(ClientAddress(address))| address);
    let mut pace = state.turns().new_pace(caller.account(), client, granted.session_id);
    let mut handed_over = Vec::with_capacity(texts.len());
    let mut durability = state.tracker().durability();
    for (place, text) in texts.into_iter().enumerate() {
        pace.wait_for_turn(text.len(), &mut durability).await;
        let handed = hand_over(&state, &caller, &writing, text, &key, place);
        if let Ok(receipt) = &handed.result {
            pace.record_sent(receipt.seq(), text.len());
        }
        handed_over.push(handed);
    }
    let mut outcomes = Vec::with_capacity(handed_over.len());
    for HandedOver { reference, warnings, result } in handed_over {
        let result = match result {
            Ok(receipt) => wait_until_durable(&state, &caller, receipt, query.wait).await,
            Err(problem) => Err(problem),
        };
        outcomes.push(Outcome { reference, warnings, result });
    }
    let mut refused = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err());
    let refusals = refused.clone().count();
    let first = refused.next().cloned();
    let status = match (first, query.wait) {
        (Some(problem), _) if !is_array => return Err(problem),
        (Some(problem), _) if refusals == outcomes.len() => {
            let acks = serde_json::to_value(to_acks(outcomes)).unwrap_or_default();
            return Err(problem.with_acks(acks));
        }
        (Some(_), _) => StatusCode::MULTI_STATUS,
        (None, Some(WaitFor::Stored)) => StatusCode::CREATED,
        (None, None) => StatusCode::ACCEPTED,
    };
    Ok((status, Json(MessageAcks { acks: to_acks(outcomes) })))
}

fn to_acks(outcomes: Vec<Outcome>) -> Vec<MessageAck> {
    outcomes.into_iter().map(MessageAck::from).collect()
}

/// Splits an array into the texts of its messages. A message that is not valid JSON does not affect the others.
pub(super) fn split_array(text: &str) -> Result<Vec<&str>, Problem> {
    let texts = json::split_array(text)
        .ok_or_else(|| WireError::json("not valid JSON: the array does not end, or something follows it"))?;
    match texts.len() {
        0..=MAX_MESSAGES => Ok(texts),
        count => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::TooLarge,
            format!("an array may have at most {MAX_MESSAGES} messages, not {count}"),
        )),
    }
}

/// The session that the messages are written into, and on whose authority.
pub(super) struct WriteContext {
    pub(super) session_id: SessionId,
    /// The user of the session, if known.
    pub(super) owner: Option<UserId>,
    pub(super) author: Author,
    /// Messages without a time get a later time than this.
    pub(super) said_until: Option<Timestamp>,
}

/// A message that was handed to the tracker, or refused.
struct HandedOver {
    reference: Option<FrameRef>,
    warnings: Warnings,
    result: Result<Receipt, Problem>,
}

/// Hands one message to the tracker.
fn hand_over(
    state: &AppState,
    caller: &Caller,
    writing: &WriteContext,
    text: &str,
    key: &IdempotencyKey,
    place: usize,
) -> HandedOver {
    let frame = match Frame::parse_as(Some("message"), text) {
        Ok(frame) => frame,
        Err(error) => {
            let reference = error.reference.clone();
            return HandedOver { reference, warnings: Warnings::default(), result: Err(error.into()) };
        }
    };
    let (reference, warnings) = (frame.reference.clone(), frame.warnings.clone());
    let result = writing.read_message(caller, frame, key, place).and_then(|message| {
        let tracked = state.tracker().track_message_after(message, &writing.author, writing.said_until);
        tracked.map_err(Problem::from)
    });
    HandedOver { reference, warnings, result }
}

impl WriteContext {
    /// Returns the message of a frame, which is at this place in the request.
    pub(super) fn read_message(
        &self,
        caller: &Caller,
        frame: Frame,
        key: &IdempotencyKey,
        place: usize,
    ) -> Result<Message, Problem> {
        let Frame { body, session_id, user_id, .. } = frame;
        let is_other = session_id.is_some_and(|name| !access::can_mean(caller, &name, self.session_id));
        self.check_names(is_other, user_id.as_ref())?;
        match body {
            ClientFrame::Message(message) => {
                Ok(with_derived_id(message.in_session(self.session_id), key, place))
            }
            _ => Err(Problem::invalid("type: must be message here")),
        }
    }

    /// Checks that a message names no other session or user than the request does. `is_other_session` is true if it
    /// names another session.
    fn check_names(&self, is_other_session: bool, user_id: Option<&UserId>) -> Result<(), Problem> {
        if is_other_session {
            return Err(Problem::invalid("session_id: is not the session of this request"));
        }
        if user_id.zip(self.owner.as_ref()).is_some_and(|(named, owner)| named != owner) {
            return Err(Problem::invalid("user_id: is not the user of this session"));
        }
        Ok(())
    }
}

/// Gives a message without an id one that is derived from the idempotency key and the message's place in the request.
fn with_derived_id(message: Message, key: &IdempotencyKey, place: usize) -> Message {
    if message.id.is_some() || message.external_id.is_some() {
        return message;
    }
    let id = key.message_id(message.session_id, place);
    message.with_id(id)
}

/// Waits until the message is durable, and until it is stored if the request asked for that.
async fn wait_until_durable(
    state: &AppState,
    caller: &Caller,
    receipt: Receipt,
    wait: Option<WaitFor>,
) -> Result<MessageId, Problem> {
    let id = receipt.id();
    let stored = receipt.as_record().clone();
    receipt.durable().await.map_err(|why| access::mask_refusal(caller, why))?;
    if wait.is_some() {
        wait_until_stored(state, &stored, Instant::now() + STORE_TIMEOUT).await?;
    }
    Ok(id)
}

/// Waits until a durable record is in the store.
///
/// # Errors
/// 422 if the store refuses the record; 410 if its content was deleted; 504 at the deadline.
pub(super) async fn wait_until_stored(
    state: &AppState,
    receipt: &RecordReceipt,
    deadline: Instant,
) -> Result<(), Problem> {
    loop {
        match state
            .local()
            .dead_letters()
            .replay_outcome(receipt)
            .await
            .map_err(|error| Problem::read_failed(&error))?
        {
            Replayed::Stored => return Ok(()),
            Replayed::DeadAgain(letter) => {
                let why = letter.detail.unwrap_or(letter.reason);
                let detail = format!("the store refuses the message ({why}); it is now a dead letter");
                return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::Rejected, detail));
            }
            Replayed::Deleted => return Err(NotDurable::Deleted.into()),
            Replayed::Pending if Instant::now() < deadline => sleep(STORE_POLL_INTERVAL).await,
            Replayed::Pending => {
                let detail = "the message is durable, and will be stored once the store accepts it";
                return Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, ErrorCode::StoreUnavailable, detail));
            }
        }
    }
}

impl From<Outcome> for MessageAck {
    fn from(Outcome { reference, warnings, result }: Outcome) -> Self {
        match result {
            Ok(id) => Self { id: Some(id), error: None, reference, warnings: warnings.into_texts() },
            Err(problem) => {
                let error = AckError { code: problem.code(), message: problem.into_detail() };
                Self { id: None, error: Some(error), reference, warnings: Vec::new() }
            }
        }
    }
}
