//! `/`: the list of conversations, newest first. The script adds new conversations and marks live ones.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use talktrack::store::{Rows, SessionCursor, SessionFilter, SessionRow};
use talktrack::{Status, Timestamp, UserId};

use super::page::{ErrorPage, Layout, NavItem, render_page};
use super::row::{self, ListedSession};
use super::search_results::{self, FoundSession};
use super::visitor::Visitor;
use crate::access;
use crate::api::query::Cursor;
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// The maximum number of conversations on a page.
const PAGE: usize = 50;

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// The fields of the form as sent. Browsers send empty fields too.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct SessionsQuery {
    pub(super) q: String,
    pub(super) user: String,
    pub(super) status: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) cursor: String,
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage {
    layout: Layout,
    query: SessionsQuery,
    error: Option<String>,
    list: List,
    /// The query of the next page.
    older: Option<String>,
    /// The host name of the server as the browser sees it, for the example.
    host: String,
}

enum List {
    Rows(Vec<ListedSession>),
    Found(Vec<FoundSession>),
}

/// Returns the page.
pub(super) async fn show_sessions(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: axum::http::HeaderMap,
    Query(query): Query<SessionsQuery>,
) -> Result<Response, ErrorPage> {
    let layout = || visitor.layout(NavItem::Conversations);
    let rows =
        access::open_rows(&state, &visitor.caller).map_err(|problem| ErrorPage::new(problem, layout()))?;
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8080").to_owned();
    let listed = load_list(&*rows, &visitor.caller, &query).await;
    let (status, error, list, cursor) = match listed {
        Ok((list, cursor)) => (StatusCode::OK, None, list, cursor),
        Err(problem) => (problem.status(), Some(problem.into_detail()), List::Rows(Vec::new()), None),
    };
    let older = cursor.map(|cursor| SessionsQuery { cursor, ..query.clone() }.to_query_string());
    Ok(render_page(status, &SessionsPage { layout: layout(), query, error, list, older, host }))
}

async fn load_list(
    rows: &dyn Rows,
    caller: &Caller,
    query: &SessionsQuery,
) -> Result<(List, Option<String>), Problem> {
    let filter = query.to_filter(caller)?;
    if let Some(words) = query.query_words()? {
        let (found, cursor) =
            search_results::search_sessions(rows, words, &filter, query.start_cursor()?, PAGE).await?;
        return Ok((List::Found(found), cursor));
    }
    let sessions = rows.sessions(filter, query.start_cursor::<SessionCursor>()?, PAGE).await;
    let sessions = sessions.map_err(|error| Problem::read_failed(&error))?;
    let cursor = sessions.last_before_more().map(SessionRow::cursor);
    let list = row::load_rows(rows, sessions.rows).await.map_err(|error| Problem::read_failed(&error))?;
    Ok((List::Rows(list), cursor.map(|cursor| Cursor(cursor).to_string())))
}

impl SessionsQuery {
    fn to_filter(&self, caller: &Caller) -> Result<SessionFilter, Problem> {
        let user = non_empty(&self.user).map(str::parse::<UserId>).transpose();
        let user = user.map_err(|_| Problem::invalid("User: must be a complete user id (a UUID)"))?;
        let status = match non_empty(&self.status) {
            None => None,
            Some(word) => {
                Some(word.parse::<Status>().map_err(|_| Problem::invalid("Status: no such status"))?)
            }
        };
        Ok(SessionFilter::default()
            .with_user_id(caller.resolve_user(user)?)
            .with_status(status)
            .with_since(parse_day(&self.from, "From")?)
            .with_until(parse_day(&self.to, "To")?.map(|day| day.plus(DAY))))
    }

    fn query_words(&self) -> Result<Option<talktrack::search::Query>, Problem> {
        let query = non_empty(&self.q).map(str::parse).transpose();
        query.map_err(|error| Problem::invalid(format_args!("Search: {error}")))
    }

    fn start_cursor<T: crate::api::query::CursorPosition>(&self) -> Result<Option<T>, Problem> {
        let cursor = non_empty(&self.cursor).map(str::parse::<Cursor<T>>).transpose();
        let cursor = cursor.map_err(|error| Problem::invalid(format_args!("cursor: {error}")))?;
        Ok(cursor.map(|Cursor(place)| place))
    }

    /// True if the list is filtered.
    fn is_filtered(&self) -> bool {
        [&self.q, &self.user, &self.status, &self.from, &self.to]
            .into_iter()
            .any(|field| non_empty(field).is_some())
    }

    /// True if a conversation that begins now belongs on this page.
    fn is_live(&self) -> bool {
        non_empty(&self.q).is_none() && non_empty(&self.cursor).is_none()
    }

    /// Returns the fields as a URL query.
    fn to_query_string(&self) -> String {
        let fields = [
            ("q", &self.q),
            ("user", &self.user),
            ("status", &self.status),
            ("from", &self.from),
            ("to", &self.to),
            ("cursor", &self.cursor),
        ];
        let given = fields.into_iter().filter(|(_, value)| non_empty(value).is_some());
        form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish()
    }
}

fn non_empty(field: &str) -> Option<&str> {
    Some(field.trim()).filter(|field| !field.is_empty())
}

/// Parses a day and returns its beginning in UTC. `name` is the field's name in the error.
pub(super) fn parse_day(field: &str, name: &str) -> Result<Option<Timestamp>, Problem> {
    let day = non_empty(field).map(|day| format!("{day}T00:00:00Z").parse::<Timestamp>()).transpose();
    day.map_err(|_| Problem::invalid(format_args!("{name}: must be a day such as 2026-11-23")))
}
