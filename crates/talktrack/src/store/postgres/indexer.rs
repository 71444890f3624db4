//! Fills `conversation_search` behind the ingestion: whatever message has no words there yet gets them, whoever wrote it and on
//! whichever node. Several nodes may do so at once; the second one finds nothing left to do.
//!
//! It looks at the table as it lies on the disk, a range of pages at a time: new rows come at its end, which is looked at
//! again and again; what lies elsewhere (what was there before, what was revised late) is met by a pass over all of it, at the
//! start and then every hour.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use deadpool_postgres::Pool;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::search::{SESSION, USER, Words};
use crate::store::postgres::failure::Failure;
use crate::store::postgres::statement::Statement;
use crate::store::postgres::{PATIENCE, within};
use crate::store::{Indexer, Step, StoreError};

/// Messages of one step.
const MESSAGES: usize = 500;
/// Pages of one step: some 10,000 to 100,000 rows.
const PAGES: i64 = 1_000;
/// How long a row may lie in a page before it is seen by others: longer than any statement of ours may take.
const HIDDEN: Duration = Duration::from_secs(40);
/// From one pass over everything to the next.
const PASSES: Duration = Duration::from_secs(60 * 60);

const SIZE: &str = "SELECT max(pg_relation_size(of)) / current_setting('block_size')::bigint, \
     pg_relation_size('public.conversation_messages') / current_setting('block_size')::bigint \
     FROM unnest(ARRAY['public.conversation_messages', 'public.conversation_search']::regclass[]) AS of";

/// What has no words yet, or those of an earlier revision. At most 1 MiB of text, but at least one.
const WITHOUT_WORDS: &str = "
SELECT id, session_id, user_id, place, revision, content FROM (
  SELECT message.id, message.session_id, session.user_id, message.revision, message.content,
    coalesce(message.seq, (extract(epoch FROM message.created_at) * 1000000)::bigint) AS place,
    sum(octet_length(message.content)) OVER (ORDER BY message.ctid) - octet_length(message.content) AS before
  FROM public.conversation_messages AS message
  JOIN public.conversation_sessions AS session ON session.session_id = message.session_id
  WHERE message.ctid >= ('(' || $1::bigint || ',0)')::tid AND message.ctid < ('(' || $2::bigint || ',0)')::tid
    AND NOT EXISTS (SELECT FROM public.conversation_search AS found
                    WHERE found.message_id = message.id AND found.revision = message.revision)
  ORDER BY message.ctid LIMIT $3::bigint
) AS message WHERE before < 1048576";

const PUT: &str = "
INSERT INTO public.conversation_search AS found (message_id, session_id, user_id, place, revision, words)
SELECT new.* FROM (
  SELECT id, session_id, user_id, place, revision, words::tsvector
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::integer[], $6::text[])
    AS new (id, session_id, user_id, place, revision, words)
) AS new WHERE EXISTS (SELECT FROM public.conversation_messages AS message WHERE message.id = new.id)
ON CONFLICT (message_id) DO UPDATE SET (session_id, user_id, place, revision, words) =
  (excluded.session_id, excluded.user_id, excluded.place, excluded.revision, excluded.words)
WHERE found.revision <> excluded.revision";

/// The words of messages that are no longer there.
const FORGET: &str = "
DELETE FROM public.conversation_search AS found
WHERE ctid >= ('(' || $1::bigint || ',0)')::tid AND ctid < ('(' || $2::bigint || ',0)')::tid
  AND NOT EXISTS (SELECT FROM public.conversation_messages AS message WHERE message.id = found.message_id)";

/// Where it looks next.
pub(super) struct TableIndexer {
    pool: Pool,
    /// How long the table was, and when: the end that is looked at begins where it was some time ago.
    ends: VecDeque<(Instant, i64)>,
    /// The pass over everything, from the end to the beginning: what comes next lies before this page.
    pass: Option<i64>,
    next_pass: Instant,
}

impl TableIndexer {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool, ends: VecDeque::new(), pass: None, next_pass: Instant::now() }
    }

    async fn try_step(&mut self) -> Result<Step, Failure> {
        let now = Instant::now();
        let size = self.ask(Statement::new(SIZE)).await?;
        let page = |column| size.first().map_or(Ok(0), |row| row.try_get::<_, i64>(column));
        let (all, pages) = (page(0)?, page(1)?);
        while self.ends.get(1).is_some_and(|(at, _)| now.duration_since(*at) > HIDDEN) {
            self.ends.pop_front();
        }
        let end_of_late = self.ends.front().map_or(pages, |(_, end)| *end).min(pages);
        if self.ends.is_empty() || self.ends.back().is_some_and(|(_, end)| *end != pages) {
            self.ends.push_back((now, pages));
        }
        // The last page may be half full.
        if self.fill((end_of_late - 1).max(0), pages + 1).await? {
            return Ok(Step::More(MESSAGES as u64));
        }
        if self.pass.is_none() && now >= self.next_pass {
            self.pass = Some(all);
        }
        let Some(before) = self.pass else { return Ok(Step::UpToDate) };
        let from = (before - PAGES).max(0);
        if self.fill(from, before).await? {
            return Ok(Step::More(MESSAGES as u64));
        }
        self.ask(Statement::new(FORGET).with(from, Type::INT8).with(before, Type::INT8)).await?;
        self.pass = (from > 0).then_some(from);
        if self.pass.is_none() {
            self.next_pass = now + PASSES;
        }
        Ok(if self.pass.is_some() { Step::Passing } else { Step::UpToDate })
    }

    /// Gives words to messages in these pages; says whether there may be more without.
    async fn fill(&mut self, from: i64, to: i64) -> Result<bool, Failure> {
        let find = Statement::new(WITHOUT_WORDS)
            .with(from, Type::INT8)
            .with(to, Type::INT8)
            .with(MESSAGES as i64, Type::INT8);
        let rows = self.ask(find).await?;
        if rows.is_empty() {
            return Ok(false);
        }
        self.ask(put(&rows)?).await?;
        Ok(true)
    }

    async fn ask(&self, statement: Statement<'_>) -> Result<Vec<Row>, Failure> {
        let client = self.pool.get().await?;
        within(client, PATIENCE, async |client| Ok(statement.query(client).await?)).await
    }
}

#[async_trait]
impl Indexer for TableIndexer {
    async fn step(&mut self) -> Result<Step, StoreError> {
        self.try_step().await.map_err(Failure::into_error)
    }
}

fn put(rows: &[Row]) -> Result<Statement<'static>, tokio_postgres::Error> {
    let (mut ids, mut sessions, mut users) = (Vec::new(), Vec::new(), Vec::new());
    let (mut places, mut revisions, mut words) = (Vec::<i64>::new(), Vec::<i32>::new(), Vec::new());
    for row in rows {
        let (session, user): (Uuid, Uuid) = (row.try_get(1)?, row.try_get(2)?);
        ids.push(row.try_get::<_, Uuid>(0)?);
        places.push(row.try_get(3)?);
        revisions.push(row.try_get(4)?);
        words.push(vector(session, user, row.try_get(5)?));
        sessions.push(session);
        users.push(user);
    }
    Ok(Statement::new(PUT)
        .with(ids, Type::UUID_ARRAY)
        .with(sessions, Type::UUID_ARRAY)
        .with(users, Type::UUID_ARRAY)
        .with(places, Type::INT8_ARRAY)
        .with(revisions, Type::INT4_ARRAY)
        .with(words, Type::TEXT_ARRAY))
}

/// As PostgreSQL writes a `tsvector`. Words have no quotes and no backslashes in them.
fn vector(session: Uuid, user: Uuid, content: &str) -> String {
    use std::fmt::Write as _;

    let mut vector = format!("'{USER}{}' '{SESSION}{}'", user.simple(), session.simple());
    for (place, word) in (1..).zip(Words::of(content).iter()) {
        let _ = write!(vector, " '{word}':{place}");
    }
    vector
}
