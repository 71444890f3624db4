//! Lists of sessions, in the order of starts.

use rusqlite::{Connection, params};
use talktrack_core::clock::Timestamp;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::store::{Page, SessionCursor, SessionFilter, SessionRow};

use crate::local::tables::sessions::read::{HAS_ID, SESSION_COLUMNS, session_row};

/// Sessions after the one with this id in a list, newest first. Used if a cursor cannot carry the last
/// row's start: the query looks it up. NULL sorts last.
const BEFORE_ROW: &str = "EXISTS (SELECT 1 FROM conversation_sessions AS last WHERE last.session_id = ? AND CASE \
     WHEN conversation_sessions.started_at IS last.started_at THEN conversation_sessions.session_id < last.session_id \
     ELSE last.started_at IS NOT NULL \
       AND (conversation_sessions.started_at IS NULL OR conversation_sessions.started_at < last.started_at) END)";

/// Which sessions a list contains.
pub(crate) struct SessionList {
    pub(crate) filter: SessionFilter,
    /// The only user whose sessions are listed. `None`: no restriction.
    pub(crate) viewer: Option<UserId>,
    /// The sessions that a search has found. `None`: no restriction.
    pub(crate) found: Option<FoundSessions>,
}

/// The sessions that a search has found.
pub(crate) enum FoundSessions {
    /// These sessions, by their ids as the column spells them.
    OneOf(Vec<String>),
    /// The sessions for which the search index has a message that matches this FTS5 expression. The connection must have
    /// the index attached as `search`.
    EachMatching(String),
}

impl FoundSessions {
    /// Returns the condition, and the value for its parameter.
    fn to_condition(&self) -> (&'static str, String) {
        const ONE_OF: &str = "session_id IN (SELECT value FROM json_each(?))";
        const ASK_EACH: &str = "EXISTS (SELECT 1 FROM search.texts t WHERE t.texts MATCH '\"\u{e001}' || replace(session_id, '-', '') || '\" AND ' || ?)";
        match self {
            Self::OneOf(ids) => (ONE_OF, serde_json::to_string(ids).unwrap_or_default()),
            Self::EachMatching(expression) => (ASK_EACH, expression.clone()),
        }
    }
}

/// Returns up to `limit` sessions of the list after the cursor, newest first. Rows with a null start come last.
pub(crate) fn read_page(
    connection: &Connection,
    list: &SessionList,
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
    list: &SessionList,
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
    fn new(list: &SessionList, position: ListPosition) -> Self {
        let SessionFilter { user_id, external_id, status, since, until, .. } = &list.filter;
        let mut conditions = Self::default();
        list.viewer.iter().chain(user_id).for_each(|user| conditions.add_user(user, external_id.is_none()));
        // SQLite does not know the numbers: the `+` keeps it from choosing an index. Few sessions have one external id, and one
        // user has fewer sessions than there are with one status.
        let is_one_call = external_id.is_some();
        let is_one_user = list.viewer.is_some() || user_id.is_some();
        let has_status = if is_one_user || is_one_call { "+status = ?" } else { "status = ?" };
        conditions.add("external_id = ?", external_id.clone().map(|id| [id]));
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
        if let Some(found) = &list.found {
            let (condition, value) = found.to_condition();
            conditions.add(condition, Some([value]));
        }
        conditions
    }

    /// Restricts the list to one user. The index on the user is used only if `by_index` is true.
    fn add_user(&mut self, user: &UserId, by_index: bool) {
        self.add(if by_index { "user_id = ?" } else { "+user_id = ?" }, Some([user.as_uuid().to_string()]));
        match user.text() {
            Some(text) => self.add("user_external_id = ?", Some([text.to_owned()])),
            None => self.add("user_external_id IS NULL", Some([])),
        }
    }

    fn add<const N: usize>(&mut self, condition: &str, values: Option<[String; N]>) {
        if let Some(values) = values {
            self.sql.push_str(" AND ");
            self.sql.push_str(condition);
            self.values.extend(values);
        }
    }
}

/// Returns up to `limit` sessions without an event since this moment, oldest start first. A time before 1970, or an
/// invalid one, says nothing about the age of a session.
pub(crate) fn read_inactive_since(
    connection: &Connection,
    since: Timestamp,
    after: Option<SessionCursor>,
    limit: usize,
) -> rusqlite::Result<Vec<SessionRow>> {
    let sql = format!(
        "SELECT {SESSION_COLUMNS} FROM conversation_sessions WHERE started_at < ?1 \
         AND coalesce(last_event_at, started_at) < ?1 AND coalesce(last_event_at, started_at) > '1970-01-01T00:00:00.000000Z' \
         AND {HAS_ID} AND (started_at, session_id) > (?2, ?3) ORDER BY started_at, session_id LIMIT ?4"
    );
    // A session with a start that a cursor cannot carry is never in this list.
    let place =
        |cursor: SessionCursor| Some((cursor.started_at.known()?.to_string(), cursor.session_id.to_string()));
    let (began, id) = after.and_then(place).unwrap_or_default();
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![since.to_string(), began, id, limit], session_row)?;
    Page::fill(rows, Some(limit)).map(|page| page.rows)
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
            (
                SessionFilter::default()
                    .with_user_id(UserId::from_u128(0))
                    .with_status(status)
                    .with_external_id("call 7".to_owned()),
                "SEARCH conversation_sessions USING INDEX conversation_sessions_of_external_id (external_id=?)",
            ),
        ] {
            assert_eq!(plan(filter), index);
        }
    }
}
