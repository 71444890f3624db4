//! `GET /v1/sessions/{session_id}/messages`: lists messages in the order in which they were said.

#![expect(unused_qualifications, reason = "in what the macro makes of the parameters")]

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use talktrack::Timestamp;
use talktrack::message::Kind;
use talktrack::store::MessageCursor;
use utoipa::{IntoParams, ToSchema};

use super::query::{Cursor, Limit, QueryParams};
use super::rows::Message;
use crate::access::{ListOrder, ListedStatus, MessageFilter, SessionName, SessionView};
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListMessagesQuery {
    /// `asc` (the default) begins with the first message of the session, `desc` with the last one.
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^(asc|desc)$")]
    order: MessageOrder,
    /// Only messages that were said at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only messages that were said before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Only entries of this kind: `message`, `tool_call`, `tool_result`, `event` or `handoff`.
    #[param(value_type = Option<String>, pattern = "^(message|tool_call|tool_result|event|handoff)$")]
    kind: Option<Kind>,
    /// Only messages with this status: `in_progress`, `final`, `discarded`, or `all`. By default all but the discarded ones.
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^(all|in_progress|final|discarded)$")]
    status: ListedStatus,
    /// The maximum number of messages in the page. Defaults to 50. A page of large rows ends earlier.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// The `next_cursor` of the previous page, in the same order. Defaults to the first page.
    #[param(value_type = Option<String>, pattern = "^(r|p?-?[0-9]{1,19})\\.-?[0-9]{1,19}\\.[0-9a-f]{32}$")]
    cursor: Option<Cursor<MessageCursor>>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MessageOrder {
    #[default]
    Asc,
    Desc,
}

impl From<MessageOrder> for ListOrder {
    fn from(order: MessageOrder) -> Self {
        match order {
            MessageOrder::Asc => Self::OldestFirst,
            MessageOrder::Desc => Self::NewestFirst,
        }
    }
}

/// A page of messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Messages {
    messages: Vec<Message>,
    /// The cursor of the next page; `null` on the last page.
    #[schema(value_type = Option<String>)]
    next_cursor: Option<Cursor<MessageCursor>>,
}

/// Lists the messages of a session
///
/// The messages are in the order of `created_at`, then of acceptance. Messages that arrive while you read the pages come at the
/// end. With `order=desc` the last message comes first, and the last N messages cost one page. A list with `since`, `until`,
/// `kind` or `status` examines at most 20,000 messages for a page: the page may be short, and `next_cursor` continues the list.
#[utoipa::path(
    get, path = "/v1/sessions/{session_id}/messages", operation_id = "list_messages", tag = "reading",
    params(("session_id" = String, Path, pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|external:[A-Za-z0-9._~@+-]{1,200})$", description = "The session's UUID, or `external:NAME` (percent-encoded) with its `external_id`."), ListMessagesQuery),
    responses(
        (status = 200, description = "A page of messages.", body = Messages),
        Problem,
    )
)]
pub(crate) async fn list_messages(
    State(state): State<AppState>,
    caller: Caller,
    name: SessionName,
    QueryParams(query): QueryParams<ListMessagesQuery>,
) -> Result<Json<Messages>, Problem> {
    let view = SessionView::open(&state, &caller, &name).await?;
    let ListMessagesQuery { order, since, until, kind, status, limit: Limit(limit), cursor } = query;
    let filter = MessageFilter { since, until, kind, status };
    let place = cursor.map(|Cursor(place)| place);
    let found = view.list(order.into(), &filter, place, limit).await;
    let found = found.map_err(|error| Problem::read_failed(&error))?;
    let messages = found.rows.into_iter().map(Message::from).collect();
    Ok(Json(Messages { messages, next_cursor: found.next.map(Cursor) }))
}
