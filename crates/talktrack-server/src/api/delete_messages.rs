//! `DELETE /v1/sessions/{session_id}/messages`: deletes all messages of a session, or the last ones.

#![expect(unused_qualifications, reason = "in what the macro makes of the parameters")]

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use talktrack::SessionId;
use talktrack::record::Edit;
use utoipa::{IntoParams, ToSchema};

use super::delete_session::deletion_status;
use super::query::{Limit, QueryParams};
use super::rows::Message;
use crate::access::{self, SessionName};
use crate::auth::Caller;
use crate::deletion::{self, DeletionReport};
use crate::error::Problem;
use crate::state::AppState;

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteMessagesQuery {
    /// Deletes only this many messages from the end, and returns them.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    last: Option<Limit>,
}

/// The messages of a session that were deleted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum DeletedMessages {
    /// All of them.
    All {
        #[schema(value_type = Uuid)]
        session_id: SessionId,
        #[serde(flatten)]
        removed: DeletionReport,
    },
    /// The last ones, in the order in which they were said.
    Last {
        #[schema(value_type = Uuid)]
        session_id: SessionId,
        messages: Vec<Message>,
    },
}

/// Deletes all messages of a session, or the last ones
///
/// Deletes permanently what exists in the session and what waits on this server for the database. The session stays. Later records
/// with the ids of deleted messages are refused. It needs the same right as to delete the session; a user's token deletes only
/// messages that a user wrote. With `last=N`, the server first delivers what waits for the session, then deletes the last N messages
/// in one transaction and returns them: of several such requests at the same time, each returns different messages. It is answered
/// with 503 if the database cannot be reached. Do not repeat it after a broken connection: the messages may be deleted.
#[utoipa::path(
    delete, path = "/v1/sessions/{session_id}/messages", operation_id = "delete_messages", tag = "deleting",
    params(("session_id" = String, Path, pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|external:[A-Za-z0-9._~@+-]{1,200})$", description = "The session's UUID, or `external:NAME` (percent-encoded) with its `external_id`."), DeleteMessagesQuery),
    responses(
        (status = 200, description = "The messages are deleted everywhere.", body = DeletedMessages),
        (status = 202, description = "All messages are deleted on this server, and no list shows them. The database cannot be reached; the server deletes the messages there as soon as it can.", body = DeletedMessages),
        Problem,
    )
)]
pub(crate) async fn delete_messages(
    State(state): State<AppState>,
    caller: Caller,
    name: SessionName,
    QueryParams(DeleteMessagesQuery { last }): QueryParams<DeleteMessagesQuery>,
) -> Result<Response, Problem> {
    let Some(Limit(count)) = last else {
        let (session_id, removed) = deletion::messages::clear_messages(&state, &caller, &name).await?;
        let status = deletion_status(&removed);
        return Ok((status, Json(DeletedMessages::All { session_id, removed })).into_response());
    };
    let granted = access::to_edit(&state, &caller, &name).await?;
    let edited = deletion::messages::edit_messages(&state, &caller, &granted, Edit::Pop(count)).await?;
    let messages = edited.removed.into_iter().map(Message::from).collect();
    let answer = DeletedMessages::Last { session_id: granted.session_id, messages };
    Ok((StatusCode::OK, Json(answer)).into_response())
}
