//! `GET /v1/sessions`: lists sessions, newest first.

#![expect(unused_qualifications, reason = "in what the macro makes of the parameters")]

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use talktrack::search::Query;
use talktrack::store::{Rows, SessionCursor, SessionFilter, SessionRow};
use talktrack::{Status, Timestamp, UserId};
use utoipa::{IntoParams, ToSchema};

use super::query::{Cursor, ExternalId, IdPrefix, Limit, QueryParams};
use super::rows::Session;
use crate::access;
use crate::auth::Caller;
use crate::csv_table;
use crate::error::Problem;
use crate::state::AppState;

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListSessionsQuery {
    /// Only sessions of this user.
    #[param(value_type = Option<String>, min_length = 1, max_length = 256)]
    user_id: Option<UserId>,
    /// Only sessions with this status.
    #[param(value_type = Option<String>, pattern = "^(active|ended|abandoned)$")]
    status: Option<Status>,
    /// Only sessions to which you gave this `external_id`.
    #[param(value_type = Option<String>, min_length = 1, max_length = 256)]
    external_id: Option<ExternalId>,
    /// Only sessions that began at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only sessions that began before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Only sessions that have one message which matches all of this query, as in `/v1/search`.
    #[param(value_type = Option<String>, min_length = 1, max_length = 500)]
    q: Option<Query>,
    /// Only sessions whose id begins with these characters, at least 8. They come in the order of their ids, on one page, and no
    /// other filter applies.
    #[param(value_type = Option<String>, pattern = "^[0-9a-fA-F-]{8,36}$")]
    id_prefix: Option<IdPrefix>,
    /// The maximum number of sessions in the page. Defaults to 50. A page of large rows ends earlier.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// The `next_cursor` of the previous page. Defaults to the first page.
    #[param(value_type = Option<String>, pattern = "^(r|p?-?[0-9]{1,19})\\.[0-9a-f]{32}$")]
    cursor: Option<Cursor<SessionCursor>>,
    /// `json` (the default) or `csv`: a table with a header, one row a session. The next page is then in the header `Link`.
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^(json|csv)$")]
    format: ListFormat,
}

/// What a list can be written as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ListFormat {
    #[default]
    Json,
    Csv,
}

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Sessions {
    sessions: Vec<Session>,
    /// The cursor of the next page; `null` on the last page.
    #[schema(value_type = Option<String>)]
    next_cursor: Option<Cursor<SessionCursor>>,
}

/// Lists sessions
///
/// The newest sessions come first. Sessions that begin while you read the pages come before the first page, and the other pages
/// stay the same.
#[utoipa::path(
    get, path = "/v1/sessions", operation_id = "list_sessions", tag = "reading", params(ListSessionsQuery),
    responses(
        (
            status = 200, description = "A page of sessions.",
            content((Sessions = "application/json"), (String = "text/csv")),
            headers(("Link" = Option<String>, description = "With `format=csv`: the address of the next page, with `rel=\"next\"`. Missing on the last page."))
        ),
        Problem,
    )
)]
pub(crate) async fn list_sessions(
    State(state): State<AppState>,
    caller: Caller,
    uri: Uri,
    QueryParams(query): QueryParams<ListSessionsQuery>,
) -> Result<Response, Problem> {
    let rows = access::open_rows(&state, &caller)?;
    let format = query.format;
    let (mut found, next_cursor) = match query.id_prefix.clone() {
        Some(prefix) => (find_by_prefix(&*rows, prefix, &query).await?, None),
        None => list_page(&state, &caller, query).await?,
    };
    access::hide_foreign_parents(&state, &caller, &mut found).await;
    Ok(match format {
        ListFormat::Json => {
            Json(Sessions { sessions: found.into_iter().map(Session::from).collect(), next_cursor })
                .into_response()
        }
        ListFormat::Csv => to_csv(&found, next_cursor, &uri),
    })
}

async fn list_page(
    state: &AppState,
    caller: &Caller,
    query: ListSessionsQuery,
) -> Result<(Vec<SessionRow>, Option<Cursor<SessionCursor>>), Problem> {
    let ListSessionsQuery { user_id, external_id, status, since, until, q, limit, cursor, .. } = query;
    let filter = SessionFilter::default()
        .with_user_id(caller.resolve_user(user_id)?)
        .with_external_id(external_id.map(|ExternalId(id)| id))
        .with_status(status)
        .with_since(since)
        .with_until(until)
        .with_matching(q);
    let place = cursor.map(|Cursor(place)| place);
    let found = access::list_sessions(state, caller, filter, place, limit.0).await?;
    let next_cursor = found.last_before_more().map(SessionRow::cursor).map(Cursor);
    Ok((found.rows, next_cursor))
}

async fn find_by_prefix(
    rows: &dyn Rows,
    IdPrefix(prefix): IdPrefix,
    query: &ListSessionsQuery,
) -> Result<Vec<SessionRow>, Problem> {
    let ListSessionsQuery { user_id, external_id, status, since, until, q, cursor, .. } = query;
    let is_filtered = user_id.is_some() || external_id.is_some() || status.is_some() || q.is_some();
    if is_filtered || since.is_some() || until.is_some() || cursor.is_some() {
        return Err(Problem::invalid("id_prefix: cannot be combined with other filters or a cursor"));
    }
    let found = rows.sessions_by_prefix(&prefix, query.limit.0).await;
    found.map_err(|error| Problem::read_failed(&error))
}

fn to_csv(sessions: &[SessionRow], next: Option<Cursor<SessionCursor>>, asked: &Uri) -> Response {
    let mut table = String::new();
    csv_table::write_session_header(&mut table);
    sessions.iter().for_each(|row| csv_table::write_session(row, &mut table));
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(csv_table::CONTENT_TYPE));
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"sessions.csv\""),
    );
    // The address is one that arrived in a request, so it is a valid header.
    let link = next
        .and_then(|next| HeaderValue::try_from(format!("<{}>; rel=\"next\"", next_page(asked, next))).ok());
    headers.extend(link.map(|link| (header::LINK, link)));
    (headers, table).into_response()
}

/// Returns the address of the page at this cursor, with the same filters.
fn next_page(asked: &Uri, next: Cursor<SessionCursor>) -> String {
    let others = asked.query().unwrap_or_default().split('&').filter(|pair| !pair.starts_with("cursor="));
    let others: Vec<_> = others.filter(|pair| !pair.is_empty()).collect();
    format!("{}?{}&cursor={next}", asked.path(), others.join("&"))
}
