//! `/sessions/{session_id}`: the page of a conversation. While the conversation is live, the page follows it.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use talktrack::store::{MessageCursor, MessageRow, Page, SessionRow};
use talktrack::{JsonObject, SessionId, Status, Stored};

use super::format::{Moment, format_duration, format_stored_count, short_id, user_hue};
use super::message_view::{MessageForm, MessageView, MetricValues, playable_url};
use super::page::{ErrorPage, Layout, NavItem, render_page};
use super::row;
use super::visitor::{ConversationName, Visitor};
use crate::access::SessionView;
use crate::api::query::Cursor;
use crate::error::Problem;
use crate::state::AppState;

/// The maximum number of messages on a page.
const PAGE: usize = 1_000;

/// Which part of the transcript is requested.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TranscriptQuery {
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
    hue: u128,
    status: Stored<Status>,
    end_reason: Option<String>,
    started: Moment,
    duration: String,
    messages: String,
    external_id: Option<String>,
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
    /// True if the page does not begin at the first message.
    is_part: bool,
    /// The cursor of the next page.
    next: Option<String>,
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
    Query(query): Query<TranscriptQuery>,
) -> Result<Response, ErrorPage> {
    let layout = || visitor.layout(NavItem::Conversations);
    let answer = async {
        let view = SessionView::open(&state, &visitor.caller, &name).await?;
        let place = query.start_cursor()?;
        let read = read_messages(&view, place, PAGE).await?;
        let session = view.session;
        let next = read.last_before_more().map(|row| Cursor(row.cursor()).to_string());
        let transcript = Transcript::new(&session, read.rows);
        let head = ConversationHead::new(session, may_delete(&visitor));
        let page = ConversationPage { layout: layout(), head, transcript, is_part: place.is_some(), next };
        Ok(render_page(StatusCode::OK, &page))
    };
    answer.await.map_err(|problem: Problem| ErrorPage::new(problem, layout()))
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
    Query(query): Query<TranscriptQuery>,
) -> Result<Response, ErrorPage> {
    let view = SessionView::open(&state, &visitor.caller, &name).await?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let read = read_messages(&view, query.start_cursor()?, limit).await?;
    Ok(render_page(StatusCode::OK, &Transcript::new(&view.session, read.rows)))
}

async fn read_messages(
    view: &SessionView,
    after: Option<MessageCursor>,
    limit: usize,
) -> Result<Page<MessageRow>, Problem> {
    view.messages(after, limit).await.map_err(|error| Problem::read_failed(&error))
}

fn may_delete(visitor: &Visitor) -> bool {
    visitor.caller.require_delete().is_ok()
}

impl TranscriptQuery {
    fn start_cursor(&self) -> Result<Option<MessageCursor>, Problem> {
        if self.after.is_empty() {
            return Ok(None);
        }
        let cursor = self.after.parse::<Cursor<MessageCursor>>();
        cursor
            .map(|Cursor(place)| Some(place))
            .map_err(|error| Problem::invalid(format_args!("after: {error}")))
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
            user: short_id(session.user_id.as_ref()),
            hue: user_hue(session.user_id.as_ref()),
            started: Moment::new(session.started_at.clone()),
            duration: format_duration(row::duration_seconds(&session)),
            messages: format_stored_count(session.message_count, "message", "messages"),
            status: session.status,
            end_reason: session.end_reason,
            external_id: session.external_id,
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
        Self { messages: rows.into_iter().map(said).collect() }
    }
}

/// Returns a JSON string as its text, and any other value as JSON.
fn metadata_pair((key, value): (String, &serde_json::value::RawValue)) -> (String, String) {
    let text = serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned());
    (key, text)
}
