//! The conversations before and after one in a list.

use talktrack::store::{Rows, SessionCursor, SessionFilter, SessionRow};
use talktrack::{ReadError, SessionId, Timestamp};

/// How many conversations one read looks at.
const AT_ONCE: usize = 50;

/// The maximum number of reads for one page.
const READS: usize = 24;

/// The conversations next to one in a list that shows the newest first.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    /// The one above it in the list: it began later.
    pub(super) previous: Option<SessionId>,
    /// The one below it in the list: it began earlier.
    pub(super) next: Option<SessionId>,
}

impl Neighbours {
    /// Finds the neighbours of a session in the list with this filter. The session itself need not be in the list.
    pub(super) async fn find(
        rows: &dyn Rows,
        filter: &SessionFilter,
        session: &SessionRow,
    ) -> Result<Self, ReadError> {
        let next = rows.sessions(filter.clone(), Some(session.cursor()), 1).await?;
        let previous = match session.started_at.known() {
            Some(started) => find_previous(rows, filter, session, started).await?,
            None => None,
        };
        Ok(Self { previous, next: next.first().map(|row| row.session_id) })
    }
}

/// Finds the session just above this one. The list can be read in one direction only, from the newest session: every
/// read halves the time in which the wanted session began, or comes nearer by a page.
async fn find_previous(
    rows: &dyn Rows,
    filter: &SessionFilter,
    session: &SessionRow,
    started: Timestamp,
) -> Result<Option<SessionId>, ReadError> {
    let mut since = filter.since.map_or(started, |since| since.max(started));
    let mut nearest: Option<SessionCursor> = None;
    for _ in 0..READS / 2 {
        let list = filter.clone().with_since(since);
        let page = rows.sessions(list.clone(), nearest, AT_ONCE).await?;
        let is_last = !page.more || page.last().is_some_and(|row| !is_above(row, session));
        nearest = last_above(&page, session).or(nearest);
        let Some(found) = nearest else { return Ok(None) };
        if is_last {
            return Ok(Some(found.session_id));
        }
        let Some(middle) = middle(since, found) else { continue };
        let page = rows.sessions(list.with_until(middle), None, AT_ONCE).await?;
        match last_above(&page, session) {
            Some(nearer) if !page.more => return Ok(Some(nearer.session_id)),
            Some(nearer) => nearest = Some(nearer),
            None => since = middle,
        }
    }
    Ok(None)
}

/// True if the row is above the session in the list.
fn is_above(row: &SessionRow, session: &SessionRow) -> bool {
    row.started_at.known().is_some()
        && (row.started_at.key(), row.session_id) > (session.started_at.key(), session.session_id)
}

fn last_above(page: &[SessionRow], session: &SessionRow) -> Option<SessionCursor> {
    page.iter().rfind(|row| is_above(row, session)).map(SessionRow::cursor)
}

/// Returns the moment in the middle between `since` and the start of a session; `None` if there is none.
fn middle(since: Timestamp, session: SessionCursor) -> Option<Timestamp> {
    let (first, last) = (since.as_micros(), session.started_at.known()?.as_micros());
    let middle = first + (last - first) / 2;
    (middle > first).then(|| Timestamp::from_micros(middle)).flatten()
}
