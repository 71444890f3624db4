//! `PATCH /v1/sessions/{session_id}`: changes the metadata and the dimensions of a session.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Serialize;
use talktrack::SessionId;
use talktrack::json::MAX_SESSION_METADATA;
use talktrack_protocol::ClientFrame;
use utoipa::ToSchema;

use super::body::JsonText;
use super::query::NoQueryParams;
use super::requests::SessionUpdate;
use crate::access::{self, SessionName};
use crate::auth::Caller;
use crate::error::Problem;
use crate::limits::ClientAddress;
use crate::session_frames::to_changes;
use crate::state::AppState;

/// A session whose update is durable.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UpdatedSession {
    #[schema(value_type = Uuid)]
    session_id: SessionId,
}

/// Changes the metadata, the tags and the other dimensions of a session
///
/// Each key of the metadata replaces the key of the same name, and a key with the value `null` removes it; the other keys stay. Tags
/// are replaced as a whole. The server answers when the update is durable.
#[utoipa::path(
    patch, path = "/v1/sessions/{session_id}", operation_id = "update_session", tag = "writing", request_body = SessionUpdate,
    params(("session_id" = String, Path, pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|external:[A-Za-z0-9._~@+-]{1,200})$", description = "The session's UUID, or `external:NAME` (percent-encoded) with its `external_id`.")),
    responses(
        (status = 202, description = "The update is durable.", body = UpdatedSession),
        Problem,
    )
)]
pub(crate) async fn update_session(
    State(state): State<AppState>,
    caller: Caller,
    name: SessionName,
    _: NoQueryParams,
    client: Option<Extension<ClientAddress>>,
    body: JsonText,
) -> Result<(StatusCode, Json<UpdatedSession>), Problem> {
    let ClientFrame::SessionUpdate(update) = body.frame("session.update")?.body else {
        return Err(Problem::invalid("type: must be session.update here, or left out"));
    };
    let granted = access::to_write(&state, &caller, &name).await?;
    state.limits().check_dead_letters(caller.account().as_ref())?;
    let client = client.map(|Extension(ClientAddress(address))| address);
    let mut pace = state.turns().new_pace(caller.account(), client, granted.session_id);
    pace.wait_for_turn(MAX_SESSION_METADATA, &mut state.tracker().durability()).await;
    let receipt = state.tracker().update_session(granted.session(), to_changes(update))?;
    // An update writes the whole metadata of the session again, so it counts with their maximum size.
    pace.record_sent(receipt.seq(), MAX_SESSION_METADATA);
    receipt.durable().await.map_err(|why| access::mask_refusal(&caller, why))?;
    Ok((StatusCode::ACCEPTED, Json(UpdatedSession { session_id: granted.session_id })))
}
