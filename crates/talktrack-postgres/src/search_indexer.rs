//! Fills the search index, `conversation_search`, in the background: it indexes every message without an
//! entry, regardless of the program or node that wrote the message. Several nodes may run it at the same
//! time; the second one finds nothing left to do.
//!
//! The indexer looks in three places. It looks up the ids of messages that this node stored
//! ([`IndexQueue`]). New rows of other nodes and programs are mostly at the physical end of the table, so
//! it reads the last pages again and again. Rows elsewhere (rows from before the start, revisions by
//! others, rows in space that `VACUUM` has freed, rows that were indexed by older rules for words) are found
//! by a scan of all pages. The first scan runs
//! at the start; the longer a scan works, the longer the next one waits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use talktrack_core::search::{FOLDING, SESSION, USER, Words};
use talktrack_core::store::{Projection, Step, StoreError};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::connections::{Connections, QUERY_TIMEOUT, run_within};
use crate::failure::Failure;
use crate::index_queue::IndexQueue;
use crate::statement::Statement;

/// The most messages of one step, from each place.
const MESSAGES: usize = 500;
/// The most bytes of text in one step. A step takes at least one message.
const BYTES: usize = 1 << 20;
/// The pages of one step: about 10,000 to 100,000 rows.
const PAGES: i64 = 1_000;
/// How long a written row may stay invisible to other transactions. Longer than a statement of the writer
/// may take, 30 s.
const HIDDEN: Duration = Duration::from_secs(40);
/// The pause after a scan, as a multiple of the time it worked: scans use at most a twentieth of one
/// connection's time.
const SCAN_REST: u32 = 20;
const SHORTEST_SCAN_REST: Duration = Duration::from_secs(5);
const LONGEST_SCAN_REST: Duration = Duration::from_secs(60 * 60);
/// A due scan makes a step at least this often, even if new messages arrive all the time.
const SCAN_STEP_DUE: Duration = Duration::from_secs(5);

const SIZE: &str = "SELECT max(pg_relation_size(of)) / current_setting('block_size')::bigint, \
     pg_relation_size('public.conversation_messages') / current_setting('block_size')::bigint \
     FROM unnest(ARRAY['public.conversation_messages', 'public.conversation_search']::regclass[]) AS of";

/// Selects final messages that have no index entry, or one of an earlier revision or of older rules. Until an old entry is
/// replaced, its words are still found. Other programs may have left
/// any column null, or written times outside the range of microseconds. Selects at most [`BYTES`] of text,
/// but at least one message.
macro_rules! select_without_words {
    ($among:literal) => {
        concat!(
            "SELECT id, session_id, user_id, place, revision, content, user_external_id FROM (
  SELECT message.id, message.session_id, session.user_id, session.user_external_id, coalesce(message.revision, 0) AS revision,
    coalesce(message.content, '') AS content,
    coalesce(message.seq, CASE WHEN message.created_at BETWEEN '0001-01-01' AND '9999-12-31'
      THEN (extract(epoch FROM message.created_at) * 1000000)::bigint ELSE 0 END) AS place,
    sum(coalesce(octet_length(message.content), 0)) OVER (ORDER BY message.ctid)
      - coalesce(octet_length(message.content), 0) AS before
  FROM public.conversation_messages AS message
  JOIN public.conversation_sessions AS session ON session.session_id = message.session_id
  WHERE ",
            $among,
            "
    AND NOT EXISTS (SELECT FROM public.conversation_search AS found
                    WHERE found.message_id = message.id AND found.revision = coalesce(message.revision, 0)
                      AND found.folding >= $2::smallint AND found.user_id = session.user_id
                      AND found.user_external_id IS NOT DISTINCT FROM session.user_external_id)
    AND message.status = 'final' AND message.id IS NOT NULL AND session.user_id IS NOT NULL
  ORDER BY message.ctid LIMIT $1::bigint
) AS message WHERE before < 1048576"
        )
    };
}

/// Selects among the messages in these pages.
const IN_PAGES: &str = select_without_words!(
    "message.ctid >= ('(' || $3::bigint || ',0)')::tid AND message.ctid < ('(' || $4::bigint || ',0)')::tid"
);

/// Selects among the messages with these ids.
const WITH_IDS: &str = select_without_words!("message.id = ANY ($3::uuid[])");

const PUT: &str = "
INSERT INTO public.conversation_search AS found (message_id, session_id, user_id, place, revision, words, user_external_id, folding)
SELECT new.*, $7::smallint FROM (
  SELECT id, session_id, user_id, place, revision, words::tsvector, user_external_id
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::integer[], $6::text[], $8::text[])
    AS new (id, session_id, user_id, place, revision, words, user_external_id)
) AS new JOIN public.conversation_sessions AS session ON session.session_id = new.session_id AND session.user_id = new.user_id
  AND session.user_external_id IS NOT DISTINCT FROM new.user_external_id
WHERE EXISTS (SELECT FROM public.conversation_messages AS message WHERE message.id = new.id)
ON CONFLICT (message_id) DO UPDATE SET (session_id, user_id, place, revision, words, user_external_id, folding) =
  (excluded.session_id, excluded.user_id, excluded.place, excluded.revision, excluded.words, excluded.user_external_id, excluded.folding)
WHERE found.revision <> excluded.revision OR found.folding < excluded.folding
  OR found.user_id <> excluded.user_id OR found.user_external_id IS DISTINCT FROM excluded.user_external_id";

/// Removes the index entries of messages that no longer exist or are not final any more.
const FORGET: &str = "
DELETE FROM public.conversation_search AS found
WHERE ctid >= ('(' || $1::bigint || ',0)')::tid AND ctid < ('(' || $2::bigint || ',0)')::tid
  AND NOT EXISTS (SELECT FROM public.conversation_messages AS message
    WHERE message.id = found.message_id AND message.status = 'final')";

/// The indexer of a PostgreSQL store, with the places where it looks next.
pub(super) struct PostgresSearchIndexer {
    pool: Connections,
    stored: IndexQueue,
    end: TableEnd,
    scan: TableScan,
}

/// The end of the table.
#[derive(Default)]
struct TableEnd {
    /// The size of the table at several moments, in pages. The end begins at the size of a while ago.
    sizes: VecDeque<(Instant, i64)>,
    /// The end may contain more unindexed messages than the last step took.
    has_more: bool,
}

/// The state of the scans of the whole table.
struct TableScan {
    /// A scan is running, from the end to the beginning: the next step reads the pages before this one.
    before: Option<i64>,
    /// How long the scan has worked.
    worked: Duration,
    /// How many dropped messages this scan finds, because it began after they were stored.
    finds: u64,
    /// Unindexed messages are known to exist somewhere, so the next scan begins as soon as this one is
    /// done.
    is_wanted: bool,
    /// When the next scan begins otherwise.
    next: Instant,
    last_step: Instant,
}

/// What one query indexed.
struct IndexedCount {
    messages: usize,
    bytes: usize,
}

impl PostgresSearchIndexer {
    pub(super) fn new(pool: Connections, stored: IndexQueue) -> Self {
        stored.open();
        Self { pool, stored, end: TableEnd::default(), scan: TableScan::new(Instant::now()) }
    }

    async fn try_step(&mut self) -> Result<Step, Failure> {
        let now = Instant::now();
        self.index_stored().await?;
        let size = self.run_query(Statement::new(SIZE)).await?;
        let page = |column| size.first().map_or(Ok(0), |row| row.try_get::<_, i64>(column));
        let all = page(0)?;
        let pages = page(1)?;
        let (from, is_cut) = self.end.find_start(now, pages);
        if is_cut {
            // Unindexed messages are now outside the pages that count as the end.
            self.scan.is_wanted = true;
        }
        self.end.has_more = self.index_found(select_in_pages(from, pages + 1)).await?.is_full();
        let mut has_more = self.end.has_more || self.stored.len() > 0;
        if has_more && now.duration_since(self.scan.last_step) < SCAN_STEP_DUE {
            return Ok(self.lag_step());
        }
        has_more |= self.step_scan(all).await?;
        if has_more {
            return Ok(self.lag_step());
        }
        Ok(if self.scan.before.is_some() { Step::Verifying } else { Step::UpToDate })
    }

    fn lag_step(&self) -> Step {
        Step::More(self.stored.len().max(MESSAGES as u64))
    }

    /// Indexes messages that this node has stored.
    async fn index_stored(&self) -> Result<(), Failure> {
        let ids = self.stored.first(MESSAGES);
        if ids.is_empty() {
            return Ok(());
        }
        let count = ids.len();
        let with_ids = Statement::new(WITH_IDS)
            .with(MESSAGES as i64, Type::INT8)
            .with(FOLDING, Type::INT2)
            .uuids(ids.into_iter());
        // If there was too much text for one step, the ids stay. The next step skips the messages that are
        // indexed by then.
        if self.index_found(with_ids).await?.bytes < BYTES {
            self.stored.remove(count);
        }
        Ok(())
    }

    /// Makes one step of a scan, if one is due. Returns true if the pages have more unindexed messages than
    /// the step took.
    async fn step_scan(&mut self, pages: i64) -> Result<bool, Failure> {
        let began = Instant::now();
        self.scan.last_step = began;
        let dropped = self.stored.dropped();
        if self.scan.before.is_none() && (self.scan.is_wanted || dropped > 0 || began >= self.scan.next) {
            self.scan = TableScan { before: Some(pages), finds: dropped, ..TableScan::new(began) };
        }
        let Some(before) = self.scan.before else { return Ok(false) };
        let from = (before - PAGES).max(0);
        let has_more = self.index_found(select_in_pages(from, before)).await?.is_full();
        if !has_more {
            self.run_query(Statement::new(FORGET).with(from, Type::INT8).with(before, Type::INT8)).await?;
            self.scan.before = (from > 0).then_some(from);
        }
        self.scan.worked += began.elapsed();
        if self.scan.before.is_none() {
            self.stored.forget_dropped(self.scan.finds);
            let rest = (self.scan.worked * SCAN_REST).clamp(SHORTEST_SCAN_REST, LONGEST_SCAN_REST);
            self.scan.next = Instant::now() + rest;
        }
        Ok(has_more)
    }

    /// Indexes the messages that this query finds.
    async fn index_found(&self, find: Statement<'_>) -> Result<IndexedCount, Failure> {
        let rows = self.run_query(find).await?;
        let mut filled = IndexedCount { messages: rows.len(), bytes: 0 };
        for row in &rows {
            filled.bytes += row.try_get::<_, &str>(5)?.len();
        }
        if !rows.is_empty() {
            self.run_query(put_entries(&rows)?).await?;
        }
        Ok(filled)
    }

    async fn run_query(&self, statement: Statement<'_>) -> Result<Vec<Row>, Failure> {
        let client = self.pool.get().await?;
        run_within(client, QUERY_TIMEOUT, async |client| Ok(statement.query(client).await?)).await
    }
}

#[async_trait]
impl Projection for PostgresSearchIndexer {
    async fn step(&mut self) -> Result<Step, StoreError> {
        self.try_step().await.map_err(Failure::into_error)
    }

    fn known_lag(&self) -> u64 {
        self.stored.len()
    }
}

impl IndexedCount {
    /// True if there may be more messages than one step takes.
    fn is_full(&self) -> bool {
        self.messages >= MESSAGES || self.bytes >= BYTES
    }
}

impl TableScan {
    /// A scan that is due now.
    fn new(now: Instant) -> Self {
        Self { before: None, worked: Duration::ZERO, finds: 0, is_wanted: false, next: now, last_step: now }
    }
}

impl TableEnd {
    /// Returns the page at which the end begins, given the table's size in pages, and whether the end moved
    /// past unindexed messages.
    fn find_start(&mut self, now: Instant, pages: i64) -> (i64, bool) {
        let before = self.sizes.len();
        while self.sizes.get(1).is_some_and(|(at, _)| now.duration_since(*at) > HIDDEN) {
            self.sizes.pop_front();
        }
        let has_moved = self.sizes.len() < before;
        let begins = self.sizes.front().map_or(pages, |(_, end)| *end).min(pages);
        if self.sizes.is_empty() || self.sizes.back().is_some_and(|(_, end)| *end != pages) {
            self.sizes.push_back((now, pages));
        }
        // The last page may be only partly filled.
        ((begins - 1).max(0), has_moved && self.has_more)
    }
}

/// Selects the unindexed messages in these pages.
fn select_in_pages(from: i64, to: i64) -> Statement<'static> {
    Statement::new(IN_PAGES)
        .with(MESSAGES as i64, Type::INT8)
        .with(FOLDING, Type::INT2)
        .with(from, Type::INT8)
        .with(to, Type::INT8)
}

fn put_entries(rows: &[Row]) -> Result<Statement<'_>, tokio_postgres::Error> {
    let mut ids = Vec::new();
    let mut sessions = Vec::new();
    let mut users = Vec::new();
    let mut places = Vec::<i64>::new();
    let mut revisions = Vec::<i32>::new();
    let mut words = Vec::new();
    let mut texts = Vec::<Option<&str>>::new();
    for row in rows {
        let session: Uuid = row.try_get(1)?;
        let user: Uuid = row.try_get(2)?;
        ids.push(row.try_get::<_, Uuid>(0)?);
        places.push(row.try_get(3)?);
        revisions.push(row.try_get(4)?);
        words.push(format_tsvector(session, user, row.try_get(5)?));
        sessions.push(session);
        texts.push(row.try_get(6)?);
        users.push(user);
    }
    Ok(Statement::new(PUT)
        .with(ids, Type::UUID_ARRAY)
        .with(sessions, Type::UUID_ARRAY)
        .with(users, Type::UUID_ARRAY)
        .with(places, Type::INT8_ARRAY)
        .with(revisions, Type::INT4_ARRAY)
        .with(words, Type::TEXT_ARRAY)
        .with(FOLDING, Type::INT2)
        .with(texts, Type::TEXT_ARRAY))
}

/// Formats a `tsvector` as PostgreSQL does. Words contain no quotes and no backslashes.
fn format_tsvector(session: Uuid, user: Uuid, content: &str) -> String {
    use std::fmt::Write as _;

    let mut vector = format!("'{USER}{}' '{SESSION}{}'", user.simple(), session.simple());
    for (place, word) in (1..).zip(Words::split(content).terms()) {
        let _ = write!(vector, " '{word}':{place}");
    }
    vector
}
