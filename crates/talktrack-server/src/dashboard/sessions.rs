//! `/`: the list of conversations, newest first. The script adds new conversations and marks live ones.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use talktrack::store::{Rows, SessionCursor, SessionFilter, SessionRow};
use talktrack::{Status, Timestamp};
use uuid::Uuid;

use super::found::{self, Found};
use super::page::{Frame, Here, Trouble, shown};
use super::row::{self, Row};
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
pub(super) struct Wanted {
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
    frame: Frame,
    wanted: Wanted,
    trouble: Option<String>,
    list: List,
    /// The query of the next page.
    older: Option<String>,
    /// The host name of the server as the browser sees it, for the example.
    host: String,
}

enum List {
    Rows(Vec<Row>),
    Found(Vec<Found>),
}

/// Returns the page.
pub(super) async fn page(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: axum::http::HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Trouble> {
    let frame = || Frame::of(&visitor, Here::Conversations);
    let rows = access::rows(&state, &visitor.caller).map_err(|problem| Trouble::of(problem, frame()))?;
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8080").to_owned();
    let listed = list(&*rows, &visitor.caller, &wanted).await;
    let (status, trouble, list, cursor) = match listed {
        Ok((list, cursor)) => (StatusCode::OK, None, list, cursor),
        Err(problem) => (problem.status(), Some(problem.into_detail()), List::Rows(Vec::new()), None),
    };
    let older = cursor.map(|cursor| Wanted { cursor, ..wanted.clone() }.query());
    Ok(shown(status, &SessionsPage { frame: frame(), wanted, trouble, list, older, host }))
}

async fn list(rows: &dyn Rows, caller: &Caller, wanted: &Wanted) -> Result<(List, Option<String>), Problem> {
    let filter = wanted.filter(caller)?;
    if let Some(query) = wanted.query_words()? {
        let (found, cursor) = found::find(rows, query, &filter, wanted.place()?, PAGE).await?;
        return Ok((List::Found(found), cursor));
    }
    let sessions = rows.sessions(filter, wanted.place::<SessionCursor>()?, PAGE).await;
    let sessions = sessions.map_err(|error| Problem::store_unavailable(&error))?;
    let cursor = sessions.last_before_more().map(SessionRow::cursor);
    let list = row::rows(rows, sessions.rows).await.map_err(|error| Problem::store_unavailable(&error))?;
    Ok((List::Rows(list), cursor.map(|cursor| Cursor(cursor).to_string())))
}

impl Wanted {
    fn filter(&self, caller: &Caller) -> Result<SessionFilter, Problem> {
        let user = given(&self.user).map(str::parse::<Uuid>).transpose();
        let user = user.map_err(|_| Problem::invalid("User: must be a whole user id (a UUID)"))?;
        let status = match given(&self.status) {
            None => None,
            Some(word) => {
                Some(Status::parse(word).ok_or_else(|| Problem::invalid("Status: no such status"))?)
            }
        };
        Ok(SessionFilter {
            user_id: caller.resolve_user(user)?,
            status,
            since: day(&self.from, "From")?,
            until: day(&self.to, "To")?.map(|day| day.plus(DAY)),
            matching: None,
        })
    }

    fn query_words(&self) -> Result<Option<talktrack::search::Query>, Problem> {
        let query = given(&self.q).map(str::parse).transpose();
        query.map_err(|error| Problem::invalid(format_args!("Search: {error}")))
    }

    fn place<T: crate::api::query::CursorPosition>(&self) -> Result<Option<T>, Problem> {
        let cursor = given(&self.cursor).map(str::parse::<Cursor<T>>).transpose();
        let cursor = cursor.map_err(|error| Problem::invalid(format_args!("cursor: {error}")))?;
        Ok(cursor.map(|Cursor(place)| place))
    }

    /// True if the list is filtered.
    fn is_filtered(&self) -> bool {
        [&self.q, &self.user, &self.status, &self.from, &self.to]
            .into_iter()
            .any(|field| given(field).is_some())
    }

    /// True if a conversation that begins now belongs on this page.
    fn is_live(&self) -> bool {
        given(&self.q).is_none() && given(&self.cursor).is_none()
    }

    /// Returns the fields as a URL query.
    fn query(&self) -> String {
        let fields = [
            ("q", &self.q),
            ("user", &self.user),
            ("status", &self.status),
            ("from", &self.from),
            ("to", &self.to),
            ("cursor", &self.cursor),
        ];
        let given = fields.into_iter().filter(|(_, value)| given(value).is_some());
        form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish()
    }
}

fn given(field: &str) -> Option<&str> {
    Some(field.trim()).filter(|field| !field.is_empty())
}

/// Parses a day and returns its beginning in UTC. `name` is the field's name in the error.
pub(super) fn day(field: &str, name: &str) -> Result<Option<Timestamp>, Problem> {
    let day = given(field).map(|day| format!("{day}T00:00:00Z").parse::<Timestamp>()).transpose();
    day.map_err(|_| Problem::invalid(format_args!("{name}: must be a day such as 2026-11-23")))
}
