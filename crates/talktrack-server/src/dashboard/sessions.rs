//! `/`: the list of conversations, newest first. The script adds new conversations and marks live ones.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use talktrack::store::{Rows, SessionCursor, SessionRow};

use super::address::ServerAddress;
use super::page::{ErrorPage, Layout, NavItem, render_page};
use super::row::{self, ListedSession};
use super::search_results::{self, FoundSession};
use super::sessions_query::SessionsQuery;
use super::visitor::{PageQuery, Visitor};
use crate::access;
use crate::api::query::Cursor;
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// The maximum number of conversations on a page.
const PAGE: usize = 50;

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage {
    layout: Layout,
    query: SessionsQuery,
    error: Option<String>,
    list: List,
    /// The query of the next page.
    older: Option<String>,
    /// The address of the server, for the examples.
    address: ServerAddress,
}

enum List {
    Rows(Vec<ListedSession>),
    Found(Vec<FoundSession>),
}

/// Returns the page.
pub(super) async fn show_sessions(
    State(state): State<AppState>,
    visitor: Visitor,
    address: ServerAddress,
    PageQuery(query): PageQuery<SessionsQuery>,
) -> Result<Response, ErrorPage> {
    let layout = || visitor.layout(NavItem::Conversations);
    let rows =
        access::open_rows(&state, &visitor.caller).map_err(|problem| ErrorPage::new(problem, layout()))?;
    let listed = load_list(&*rows, &visitor.caller, &query).await;
    let (status, error, list, cursor) = match listed {
        Ok((list, cursor)) => (StatusCode::OK, None, list, cursor),
        Err(problem) => (problem.status(), Some(problem.into_detail()), List::Rows(Vec::new()), None),
    };
    let older = cursor.map(|cursor| query.at_cursor(&cursor));
    Ok(render_page(status, &SessionsPage { layout: layout(), query, error, list, older, address }))
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
    // One more than are shown: the last page must not lead to an empty one.
    let sessions = rows.sessions(filter, query.start_cursor::<SessionCursor>()?, PAGE + 1).await;
    let mut sessions = sessions.map_err(|error| Problem::read_failed(&error))?;
    sessions.rows.truncate(PAGE);
    let cursor = sessions.last_before_more().map(SessionRow::cursor);
    let list = row::load_rows(rows, sessions.rows).await.map_err(|error| Problem::read_failed(&error))?;
    Ok((List::Rows(list), cursor.map(|cursor| Cursor(cursor).to_string())))
}
