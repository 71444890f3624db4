//! Lists of sessions of a user, or with an external id, merged with the records of this node that wait for a remote store.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use talktrack::store::{Page, SessionCursor, SessionFilter, SessionRow};
use talktrack::{ReadError, SessionId};

use super::{Denied, SessionName, SessionView, open_rows};
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// The number of sessions with waiting records that a page is merged with.
const MOST_MERGED: usize = 1_000;

/// Returns a page of the sessions that the caller may see, newest first. If the filter names a user or an external id, the
/// page shows what this node has acknowledged; a list that searches for words shows what is stored.
///
/// # Errors
/// 403 if the caller may not read at all; 503 if the store cannot answer, or if too many of the sessions have waiting records.
pub(crate) async fn list_sessions(
    state: &AppState,
    caller: &Caller,
    filter: SessionFilter,
    mut after: Option<SessionCursor>,
    limit: usize,
) -> Result<Page<SessionRow>, Problem> {
    let rows = open_rows(state, caller)?;
    let failed = |error: ReadError| Problem::read_failed(&error);
    let is_named = filter.user_id.is_some() || filter.external_id.is_some();
    let is_merged = state.is_remote() && is_named && filter.matching.is_none();
    loop {
        if !is_merged {
            return rows.sessions(filter, after, limit).await.map_err(failed);
        }
        // The journal is read before the store: what moves to the store in between is then found there.
        let mut waiting = find_waiting(state, &filter).await.map_err(failed)?;
        let mut page = rows.sessions(filter.clone(), after, limit).await.map_err(failed)?;
        if state.tracker().health().books.pending() > 0 {
            let listed = page.iter().map(|row| row.session_id).collect();
            waiting.extend(state.local().outbox().pending_among(listed).await.map_err(failed)?);
            page = rows.sessions(filter.clone(), after, limit).await.map_err(failed)?;
        }
        let end = page.last_before_more().map(SessionRow::cursor);
        let merged = merge(state, caller, page, waiting, &filter, (after, end), limit).await?;
        if end.is_none() || !merged.is_empty() {
            return Ok(merged);
        }
        // An empty page is the end of the list, and all rows of this page were hidden.
        after = end;
    }
}

/// Returns the sessions of which records wait that may belong on the list.
async fn find_waiting(state: &AppState, filter: &SessionFilter) -> Result<BTreeSet<SessionId>, ReadError> {
    let journal = state.local().outbox();
    journal.pending_sessions(filter.user_id.clone(), filter.external_id.clone()).await
}

/// Merges a page of stored rows with the waiting records of these sessions. The page begins after the first place, and ends
/// with the second one if more rows follow.
async fn merge(
    state: &AppState,
    caller: &Caller,
    mut page: Page<SessionRow>,
    waiting: BTreeSet<SessionId>,
    filter: &SessionFilter,
    (after, end): (Option<SessionCursor>, Option<SessionCursor>),
    limit: usize,
) -> Result<Page<SessionRow>, Problem> {
    if waiting.len() > MOST_MERGED {
        return Err(Problem::store_unavailable(
            "too many of these sessions wait for the store; they cannot be listed",
        ));
    }
    let place = |cursor: SessionCursor| (cursor.started_at, cursor.session_id);
    let is_on_page = |row: &SessionRow| {
        let at = place(row.cursor());
        after.is_none_or(|after| at < place(after)) && end.is_none_or(|end| at >= place(end))
    };
    page.rows.retain(|row| !waiting.contains(&row.session_id));
    for session_id in waiting {
        match SessionView::find(state, caller, &SessionName::from(session_id)).await {
            Ok(view) if filter.selects(&view.session) && is_on_page(&view.session) => {
                page.rows.push(view.session)
            }
            Ok(_) | Err(Denied::NotFound | Denied::Deleted(_)) => {}
            Err(denied) => return Err(denied.into()),
        }
    }
    page.rows.sort_by_key(|row| Reverse(place(row.cursor())));
    let has_more = page.more;
    let merged = Page::fill::<Problem>(page.rows.into_iter().map(Ok), Some(limit))?;
    Ok(Page { more: merged.more || has_more, ..merged })
}
