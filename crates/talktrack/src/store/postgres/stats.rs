//! What happened when, counted from the rows.

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::message::Role;
use crate::record::Status;
use crate::stats::{Counter, Range, Stats, StatsError};
use crate::store::postgres::PostgresStore;
use crate::store::postgres::read::{get, timestamp, word};
use crate::store::postgres::statement::{Statement, moment};

/// Rows that one answer may be counted from. All of them are in memory for a moment.
const MOST: usize = 200_000;

const SESSIONS: &str = "
SELECT started_at, status, duration_seconds FROM public.conversation_sessions
WHERE started_at >= $1::timestamptz AND started_at < $2::timestamptz AND ($3::uuid IS NULL OR user_id = $3) LIMIT $4::int8";

const MESSAGES: &str = "
SELECT message.created_at, message.role, message.interrupted, message.metrics::text
FROM public.conversation_messages AS message JOIN public.conversation_sessions AS session USING (session_id)
WHERE message.created_at >= $1::timestamptz AND message.created_at < $2::timestamptz
  AND ($3::uuid IS NULL OR session.user_id = $3) LIMIT $4::int8";

impl PostgresStore {
    /// What happened in a range of time, of one user or of all.
    pub(super) async fn count(&self, user_id: Option<Uuid>, range: &Range) -> Result<Stats, StatsError> {
        let most = i64::try_from(MOST).unwrap_or(i64::MAX);
        let of_range = |sql| {
            Statement::new(sql)
                .with(moment(range.since()), Type::TIMESTAMPTZ)
                .with(moment(range.until()), Type::TIMESTAMPTZ)
                .with(user_id, Type::UUID)
                .with(most, Type::INT8)
        };
        let mut counter = Counter::of(*range);
        let sessions = self.ask(of_range(SESSIONS)).await?;
        for row in &sessions {
            counter.session(timestamp(row, 0)?, word(row, 1, Status::parse)?, get(row, 2)?);
        }
        let messages = self.ask(of_range(MESSAGES)).await?;
        for row in &messages {
            let role = word(row, 1, |word| word.parse::<Role>().ok())?;
            let metrics: Option<&str> = get(row, 3)?;
            counter.message(timestamp(row, 0)?, role, get(row, 2)?, metrics);
        }
        if sessions.len().max(messages.len()) >= MOST {
            return Err(StatsError::TooMuch);
        }
        Ok(counter.into_stats())
    }
}
