//! The list of sessions, newest first.

use rusqlite::Connection;
use talktrack_core::clock::Timestamp;
use talktrack_core::ids::{SessionId, UserId};

use crate::store::sqlite::rows::{SESSION_COLUMNS, has_id, session_row};
use crate::store::{Page, SessionCursor, SessionFilter, SessionRow};

const HAS_ID: &str = has_id!("session_id");

/// Sessions after the one with this id in a list, newest first. Used if a cursor cannot carry the last
/// row's start: the query looks it up. NULL sorts last.
const BEFORE_ROW: &str = "EXISTS (SELECT 1 FROM conversation_sessions AS last WHERE last.session_id = ? AND CASE \
     WHEN conversation_sessions.started_at IS last.started_at THEN conversation_sessions.session_id < last.session_id \
     ELSE last.started_at IS NOT NULL \
       AND (conversation_sessions.started_at IS NULL OR conversation_sessions.started_at < last.started_at) END)";

/// Which sessions a list contains.
pub(super) struct SessionList<'a> {
    pub(super) filter: SessionFilter,
    /// The only user whose sessions are listed. `None`: no restriction.
    pub(super) viewer: Option<UserId>,
    /// A condition for the sessions that a search has found, and the value for its parameter.
    pub(super) found: Option<(&'a str, String)>,
}

/// Returns up to `limit` sessions of the list after the cursor.
pub(super) fn read_page(
    connection: &Connection,
    list: &SessionList<'_>,
    after: Option<SessionCursor>,
    limit: usize,
) -> rusqlite::Result<Page<SessionRow>> {
    let page = |position, limit| read_from(connection, list, position, limit);
    let mut rows = match after.map(|cursor| (cursor.started_at.known(), cursor.session_id)) {
        None => return page(ListPosition::Start, limit),
        Some((None, id)) => return page(ListPosition::AfterSession(id), limit),
        Some((Some(at), id)) => page(ListPosition::Before(at, id), limit)?,
    };
    // A comparison with NULL is true for no row, so rows with NULL are listed last, by a query of their own.
    if !rows.more {
        let last = page(ListPosition::NullStart, limit - rows.len())?;
        rows.more = last.more;
        rows.rows.extend(last);
    }
    Ok(rows)
}

/// The part of a list that a page is taken from.
#[derive(Clone, Copy)]
enum ListPosition {
    Start,
    Before(Timestamp, SessionId),
    AfterSession(SessionId),
    NullStart,
}

fn read_from(
    connection: &Connection,
    list: &SessionList<'_>,
    position: ListPosition,
    limit: usize,
) -> rusqlite::Result<Page<SessionRow>> {
    let conditions = Conditions::new(list, position);
    let mut statement = connection.prepare_cached(&page_query(&conditions, limit))?;
    Page::fill(statement.query_map(rusqlite::params_from_iter(conditions.values), session_row)?, Some(limit))
}

fn page_query(conditions: &Conditions, limit: usize) -> String {
    format!(
        "SELECT {SESSION_COLUMNS} FROM conversation_sessions WHERE {HAS_ID}{} \
         ORDER BY started_at DESC, session_id DESC LIMIT {limit}",
        conditions.sql
    )
}

/// The conditions of a list. A condition without values is left out.
#[derive(Default)]
struct Conditions {
    sql: String,
    values: Vec<String>,
}

impl Conditions {
    fn new(list: &SessionList<'_>, position: ListPosition) -> Self {
        let SessionFilter { user_id, status, since, until, .. } = &list.filter;
        let mut conditions = Self::default();
        conditions.add("user_id = ?", list.viewer.as_ref().map(|user| [user.to_string()]));
        conditions.add("user_id = ?", user_id.as_ref().map(|user| [user.to_string()]));
        // One user has fewer sessions than there are with one status, so the index of that user's sessions is the
        // better one. The `+` keeps SQLite from choosing the other one, because it does not know the numbers.
        let is_one_user = list.viewer.is_some() || user_id.is_some();
        let has_status = if is_one_user { "+status = ?" } else { "status = ?" };
        conditions.add(has_status, status.map(|status| [status.as_str().to_owned()]));
        conditions.add("started_at >= ?", since.map(|since| [since.to_string()]));
        conditions.add("started_at < ?", until.map(|until| [until.to_string()]));
        match position {
            ListPosition::Start => {}
            ListPosition::Before(at, id) => {
                conditions.add("(started_at, session_id) < (?, ?)", Some([at.to_string(), id.to_string()]));
            }
            ListPosition::AfterSession(id) => conditions.add(BEFORE_ROW, Some([id.to_string()])),
            ListPosition::NullStart => conditions.add("started_at IS NULL", Some([])),
        }
        if let Some((condition, value)) = &list.found {
            conditions.add(condition, Some([value.clone()]));
        }
        conditions
    }

    fn add<const N: usize>(&mut self, condition: &str, values: Option<[String; N]>) {
        if let Some(values) = values {
            self.sql.push_str(" AND ");
            self.sql.push_str(condition);
            self.values.extend(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::database;
    use talktrack_core::record::Status;

    /// Returns SQLite's query plan for the first page of the list.
    fn plan(filter: SessionFilter) -> String {
        let dir = tempfile::tempdir().unwrap();
        let connection = database::create_draft(&dir.path().join("file")).unwrap();
        let list = SessionList { filter, viewer: None, found: None };
        let conditions = Conditions::new(&list, ListPosition::Start);
        let sql = page_query(&conditions, 50);
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = plan.query_map(rusqlite::params_from_iter(conditions.values), |row| row.get(3)).unwrap();
        steps.collect::<rusqlite::Result<Vec<String>>>().unwrap().join("; ")
    }

    #[test]
    fn each_list_reads_its_sessions_in_the_order_of_an_index() {
        let status = Some(Status::Active);
        let user_id = Some(UserId::from_u128(0));
        for (filter, index) in [
            (SessionFilter::default(), "SCAN conversation_sessions USING INDEX conversation_sessions_newest"),
            (
                SessionFilter::default().with_status(status),
                "SEARCH conversation_sessions USING INDEX conversation_sessions_of_status (status=?)",
            ),
            (
                SessionFilter::default().with_user_id(user_id.clone()),
                "SEARCH conversation_sessions USING INDEX conversation_sessions_of_user (user_id=?)",
            ),
            (
                SessionFilter::default().with_user_id(user_id).with_status(status),
                "SEARCH conversation_sessions USING INDEX conversation_sessions_of_user (user_id=?)",
            ),
        ] {
            assert_eq!(plan(filter), index);
        }
    }
}
