//! Search results: conversations with the messages in them that match.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use talktrack::clock::Seq;

use talktrack::search::{Hit, Piece, Query, SearchCursor, SearchFilter};
use talktrack::store::{MessageCursor, Rows, SessionFilter, SessionRow};
use talktrack::stored::TimeKey;
use talktrack::{MessageId, SessionId};

use super::format::Moment;
use super::row::{self, ListedSession, speaker_name};
use crate::api::query::Cursor;
use crate::api::search::to_problem;
use crate::error::Problem;

/// The maximum number of pages of hits that are filtered for one page of results.
const LOOKS: usize = 10;

/// How much of the conversation before a hit is shown when a hit is opened.
const BEFORE: std::time::Duration = std::time::Duration::from_secs(60);

/// A conversation with its hits on this page.
pub(super) struct FoundSession {
    pub(super) row: ListedSession,
    pub(super) hits: Vec<SearchHit>,
}

/// A hit for the template.
pub(super) struct SearchHit {
    pub(super) message_id: MessageId,
    pub(super) who: String,
    pub(super) when: Moment,
    pub(super) pieces: Vec<Piece>,
    /// The cursor at which the transcript must begin so that the message is on its first page.
    pub(super) after: String,
}

/// Returns the newest hits after a cursor, and the cursor of the next page.
pub(super) async fn search_sessions(
    rows: &dyn Rows,
    query: Query,
    filter: &SessionFilter,
    mut after: Option<SearchCursor>,
    limit: usize,
) -> Result<(Vec<FoundSession>, Option<String>), Problem> {
    let wanted = SearchFilter::new(query).with_user_id(filter.user_id.clone());
    let mut hits = Vec::new();
    let mut sessions = HashMap::new();
    for _ in 0..LOOKS {
        let page = rows.search(wanted.clone(), after, limit).await;
        let page = page.map_err(|error| to_problem("Search", error))?;
        let is_last = !page.more;
        for hit in page {
            after = Some(hit.cursor());
            if is_in_filter(rows, filter, &hit, &mut sessions).await? {
                hits.push(hit);
            }
        }
        if is_last {
            after = None;
        }
        if is_last || hits.len() >= limit {
            break;
        }
    }
    let found = group_by_session(rows, hits, sessions).await?;
    Ok((found, after.map(|place| Cursor(place).to_string())))
}

/// True if the hit's conversation passes the other filters.
async fn is_in_filter(
    rows: &dyn Rows,
    filter: &SessionFilter,
    hit: &Hit,
    sessions: &mut HashMap<SessionId, Option<SessionRow>>,
) -> Result<bool, Problem> {
    if let Entry::Vacant(unknown) = sessions.entry(hit.session_id) {
        let row = rows.session(hit.session_id).await.map_err(|error| Problem::read_failed(&error))?;
        let is_wanted = |row: &SessionRow| {
            filter.status.is_none_or(|status| row.status == status)
                && filter.since.is_none_or(|since| row.started_at >= since.into())
                && filter.until.is_none_or(|until| row.started_at < until.into())
        };
        unknown.insert(row.filter(is_wanted));
    }
    Ok(sessions.get(&hit.session_id).is_some_and(Option::is_some))
}

/// Groups the hits by conversation.
async fn group_by_session(
    rows: &dyn Rows,
    hits: Vec<Hit>,
    mut sessions: HashMap<SessionId, Option<SessionRow>>,
) -> Result<Vec<FoundSession>, Problem> {
    let mut order: Vec<SessionRow> = Vec::new();
    let mut found_hits: HashMap<SessionId, Vec<SearchHit>> = HashMap::new();
    for hit in hits {
        order.extend(sessions.get_mut(&hit.session_id).and_then(Option::take));
        found_hits.entry(hit.session_id).or_default().push(to_hit(hit));
    }
    let listed = row::load_rows(rows, order).await.map_err(|error| Problem::read_failed(&error))?;
    let found =
        |row: ListedSession| FoundSession { hits: found_hits.remove(&row.id).unwrap_or_default(), row };
    Ok(listed.into_iter().map(found).collect())
}

fn to_hit(hit: Hit) -> SearchHit {
    // For a time outside the supported calendar, the transcript begins at its start.
    let before = hit.created_at.known().map_or(TimeKey::At(i64::MIN), |at| at.minus(BEFORE).into());
    let before = MessageCursor { created_at: before, seq: Seq::MIN, id: MessageId::nil() };
    SearchHit {
        message_id: hit.message_id,
        who: speaker_name(&hit.role).to_owned(),
        when: Moment::new(hit.created_at),
        pieces: hit.snippet,
        after: Cursor(before).to_string(),
    }
}
