//! `/sessions/{session_id}`: the page of a conversation. While the conversation is live, the page follows it.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use talktrack::clock::Seq;
use talktrack::store::{MessageCursor, MessageRow, SessionRow};
use talktrack::{JsonObject, MessageStatus, SessionId, Status, Stored};
use tokio::time::timeout;

use super::format::{Moment, encode_user, format_duration, format_stored_count, short_user, user_hue};
use super::message_view::{MessageForm, MessageView, MetricValues, playable_url};
use super::neighbours::Neighbours;
use super::page::{ErrorPage, Layout, NavItem, render_page};
use super::row;
use super::sessions_query::SessionsQuery;
use super::transcript_part::{PAGE, PartQuery, parse_cursor};
use super::visitor::{ConversationName, PageQuery, Visitor};
use crate::access::{self, SessionView};
use crate::api::query::Cursor;
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// How long the page waits for the list that the conversation was opened from.
const LIST_TIMEOUT: Duration = Duration::from_secs(2);

/// Which part of the conversation is requested, and from which list it was opened.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConversationQuery {
    #[serde(flatten)]
    part: PartQuery,
    #[serde(flatten)]
    pub(super) list: SessionsQuery,
}

/// Which messages the script requests.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MessagesQuery {
    after: String,
    limit: Option<usize>,
}

/// The part of the page above the transcript.
#[derive(Template)]
#[template(path = "conversation_head.html")]
struct ConversationHead {
    id: SessionId,
    user_id: String,
    user: String,
    /// The user for the query of an address.
    user_query: String,
    hue: u128,
    status: Stored<Status>,
    end_reason: Option<String>,
    started: Moment,
    duration: String,
    messages: String,
    external_id: Option<String>,
    /// The name and the value of each known dimension, without the parent session.
    dimensions: Vec<(&'static str, String)>,
    /// The session from which this one was transferred.
    parent: Option<SessionId>,
    /// The URL of a recording of the whole conversation.
    audio: Option<String>,
    /// The session's metadata as keys and values.
    metadata: Vec<(String, String)>,
    may_delete: bool,
}

#[derive(Template)]
#[template(path = "conversation.html")]
struct ConversationPage {
    layout: Layout,
    head: ConversationHead,
    transcript: Transcript,
    /// The filters of the list that the conversation was opened from.
    list: SessionsQuery,
    neighbours: Neighbours,
    /// The queries of the parts before and after this one.
    earlier: Option<String>,
    later: Option<String>,
    /// The cursors that the messages of the page lie between; an empty one is no bound.
    after: String,
    until: String,
    /// True if the page is to be read from its end.
    is_newest: bool,
    /// The id of the newest event when the page was made: the script follows the events after it.
    newest_event: Seq,
}

/// A part of the transcript.
#[derive(Template)]
#[template(path = "transcript.html")]
struct Transcript {
    messages: Vec<MessageView>,
}

/// Returns one page of the conversation.
pub(super) async fn show_conversation(
    State(state): State<AppState>,
    visitor: Visitor,
    ConversationName(name): ConversationName,
    PageQuery(query): PageQuery<ConversationQuery>,
) -> Result<Response, ErrorPage> {
    let layout = || visitor.layout(NavItem::Conversations);
    let answer = async {
        let newest_event = state.events().newest_seq().await.map_err(|error| Problem::read_failed(&error))?;
        let view = SessionView::open(&state, &visitor.caller, &name).await?;
        let is_live = view.session.status == Status::Active;
        let (part, neighbours) = tokio::join!(
            query.part.read(&view, is_live),
            find_neighbours(&state, &visitor.caller, &query.list, &view.session),
        );
        let part = part?;
        let bound =
            |cursor: Option<MessageCursor>| cursor.map_or(String::new(), |cursor| Cursor(cursor).to_string());
        let page = ConversationPage {
            layout: layout(),
            list: query.list,
            neighbours,
            earlier: part.earlier(),
            later: part.later(),
            after: bound(part.after),
            until: bound(part.until),
            is_newest: part.is_newest,
            newest_event,
            transcript: Transcript::new(&view.session, part.rows),
            head: ConversationHead::new(view.session, may_delete(&visitor)),
        };
        Ok(render_page(StatusCode::OK, &page))
    };
    answer.await.map_err(|problem: Problem| ErrorPage::new(problem, layout()))
}

/// Finds the conversations next to this one in the list that it was opened from. A list that cannot be read has none:
/// the conversation is shown nevertheless.
async fn find_neighbours(
    state: &AppState,
    caller: &Caller,
    list: &SessionsQuery,
    session: &SessionRow,
) -> Neighbours {
    let filter = list.to_filter(caller).and_then(|filter| Ok(filter.with_matching(list.query_words()?)));
    let (Ok(rows), Ok(filter)) = (access::open_rows(state, caller), filter) else {
        return Neighbours::default();
    };
    match timeout(LIST_TIMEOUT, Neighbours::find(&*rows, &filter, session)).await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) | Err(_) => Neighbours::default(),
    }
}

/// Returns the current part above the transcript, for the script.
pub(super) async fn show_head(
    State(state): State<AppState>,
    visitor: Visitor,
    ConversationName(name): ConversationName,
) -> Result<Response, ErrorPage> {
    let session = SessionView::open(&state, &visitor.caller, &name).await?.session;
    Ok(render_page(StatusCode::OK, &ConversationHead::new(session, may_delete(&visitor))))
}

/// Returns the messages after a cursor, for the script.
pub(super) async fn show_messages(
    State(state): State<AppState>,
    visitor: Visitor,
    ConversationName(name): ConversationName,
    PageQuery(query): PageQuery<MessagesQuery>,
) -> Result<Response, ErrorPage> {
    let view = SessionView::open(&state, &visitor.caller, &name).await?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let after = Some(query.after.as_str()).filter(|after| !after.is_empty());
    let after = after.map(|after| parse_cursor("after", after)).transpose()?;
    let read = view.messages(after, limit).await.map_err(|error| Problem::read_failed(&error))?;
    Ok(render_page(StatusCode::OK, &Transcript::new(&view.session, read.rows)))
}

fn may_delete(visitor: &Visitor) -> bool {
    visitor.caller.require_delete().is_ok()
}

impl ConversationPage {
    /// Returns the address of a part of the conversation.
    fn part(&self, query: &str) -> String {
        format!("/sessions/{}?{query}{}", self.head.id, self.list.suffix("&"))
    }

    /// Returns the address of another conversation of the list.
    fn conversation(&self, id: &SessionId) -> String {
        format!("/sessions/{id}{}", self.list.suffix("?"))
    }
}

impl ConversationHead {
    fn new(session: SessionRow, may_delete: bool) -> Self {
        let members = |metadata: &Stored<JsonObject>| match metadata.known() {
            Some(metadata) => metadata.members().into_iter().map(metadata_pair).collect::<Vec<_>>(),
            None => vec![("metadata".to_owned(), metadata.as_str().to_owned())],
        };
        let metadata = session.metadata.as_ref().map(members).unwrap_or_default();
        let audio =
            metadata.iter().find(|(key, _)| key == "audio_url").and_then(|(_, url)| playable_url(url));
        Self {
            id: session.session_id,
            user_id: session.user_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            user: short_user(session.user_id.as_ref()),
            user_query: encode_user(session.user_id.as_ref()),
            hue: user_hue(session.user_id.as_ref()),
            started: Moment::new(session.started_at.clone()),
            duration: format_duration(row::duration_seconds(&session)),
            messages: format_stored_count(session.message_count, "message", "messages"),
            status: session.status,
            end_reason: session.end_reason,
            external_id: session.external_id,
            parent: session.dimensions.parent_session_id,
            dimensions: session.dimensions.with_parent_session_id(None).to_texts(),
            audio,
            metadata,
            may_delete,
        }
    }

    /// Returns the status if another program wrote it and it is not a known one.
    fn odd_status(&self) -> Option<&str> {
        self.status.known().is_none().then(|| self.status.as_str())
    }

    fn is_live(&self) -> bool {
        self.status == Status::Active
    }
}

impl Transcript {
    fn new(session: &SessionRow, rows: Vec<MessageRow>) -> Self {
        let mut asked: Option<MetricValues> = None;
        let said = |row: MessageRow| {
            let numbers = MetricValues::from_row(&row);
            let said = MessageView::new(row, asked.as_ref(), session.started_at.known());
            match said.form {
                MessageForm::User => asked = Some(numbers),
                MessageForm::Agent => asked = None,
                MessageForm::Aside => {}
            }
            said
        };
        let is_shown = |row: &MessageRow| row.status != MessageStatus::Discarded;
        Self { messages: rows.into_iter().filter(is_shown).map(said).collect() }
    }
}

/// Returns a JSON string as its text, and any other value as JSON.
fn metadata_pair((key, value): (String, &serde_json::value::RawValue)) -> (String, String) {
    let text = serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned());
    (key, text)
}
