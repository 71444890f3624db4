//! Reads statistics: for all users from the rollup, for one user from the rows.

use talktrack_core::error::ReadError;
use talktrack_core::ids::UserId;
use talktrack_core::message::Role;
use talktrack_core::record::Status;
use talktrack_core::stats::{Lag, Stats, StatsCounter, StatsError, TimeRange};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use crate::connections::{QUERY_TIMEOUT, run_within};
use crate::failure::Failure;
use crate::owners::user_key;
use crate::rows::{get, get_or_default, get_time, get_word};
use crate::statement::{Statement, moment};
use crate::stats_rollup::{self, RollupState};
use crate::store::PostgresStore;
use crate::transaction;

/// The most rows that one answer may be counted from. All of them are in memory at the same time.
const MAX_ROWS: usize = 200_000;

const STALE: &str = "SELECT count(DISTINCT slice) FROM public.conversation_stats_stale \
     WHERE slice >= $1::bigint AND slice < $2::bigint";

const SESSIONS: &str = "
SELECT started_at, status, duration_seconds FROM public.conversation_sessions
WHERE started_at >= $1::timestamptz AND started_at < $2::timestamptz 
  AND coalesce('text:' || user_external_id, user_id::text) = $3::text LIMIT $4::int8";

const MESSAGES: &str = "
SELECT message.created_at, message.role, message.interrupted, message.metrics::text
FROM public.conversation_messages AS message JOIN public.conversation_sessions AS session USING (session_id)
WHERE message.created_at >= $1::timestamptz AND message.created_at < $2::timestamptz
  AND message.status = 'final' AND coalesce('text:' || session.user_external_id, session.user_id::text) = $3::text LIMIT $4::int8";

impl PostgresStore {
    /// Returns the statistics for a range of time that are counted so far.
    pub(super) async fn rollup_stats(&self, range: TimeRange) -> Result<Stats, StatsError> {
        let answer = async {
            let client = self.readers.get().await?;
            run_within(client, QUERY_TIMEOUT, async |client| Ok(read_rollup(client, &range).await?)).await
        };
        let [state, stale, buckets] =
            answer.await.map_err(|failure: Failure| match stats_rollup::explain_failure(&failure) {
                Some(why) => StatsError::NotCounted(format!("the database cannot count statistics: {why}")),
                None => ReadError::unavailable(failure.message()).into(),
            })?;
        let state = RollupState::read(state.first()).map_err(ReadError::damaged)?;
        if !matches!(state, RollupState::Noted) {
            return Err(not_counted("nothing is counted yet; try again soon"));
        }
        let found = stats_rollup::parse_buckets(range.resolution(), &buckets)
            .map_err(|error| StatsError::NotCounted(error.source.to_string()))?;
        let slices: i64 = stale.first().map_or(Ok(0), |row| get(row, 0))?;
        let lag = Lag::new(0, 0, slices.unsigned_abs());
        Ok(Stats::from_buckets(range, found, lag))
    }

    /// Returns statistics for a range of time about the sessions of this user.
    pub(super) async fn count_user_stats(
        &self,
        user_id: &UserId,
        range: &TimeRange,
    ) -> Result<Stats, StatsError> {
        let most = i64::try_from(MAX_ROWS).unwrap_or(i64::MAX);
        let of_range = |sql| {
            Statement::new(sql)
                .with(moment(range.since()), Type::TIMESTAMPTZ)
                .with(moment(range.until()), Type::TIMESTAMPTZ)
                .with(user_key(user_id), Type::TEXT)
                .with(most, Type::INT8)
        };
        let mut counter = StatsCounter::new(*range);
        let sessions = self.run_query(of_range(SESSIONS)).await?;
        for row in &sessions {
            let status = get_word(row, 1, |word| word.parse().ok())?.into_known().unwrap_or(Status::Active);
            if let Some(at) = get_time(row, 0)?.known() {
                counter.count_session(at, status, get(row, 2)?);
            }
        }
        let messages = self.run_query(of_range(MESSAGES)).await?;
        for row in &messages {
            let role = get_word(row, 1, |word| word.parse::<Role>().ok())?.into_known();
            let metrics: Option<&str> = get(row, 3)?;
            if let Some((at, role)) = get_time(row, 0)?.known().zip(role) {
                counter.count_message(at, role, get_or_default(row, 2)?, metrics);
            }
        }
        if sessions.len().max(messages.len()) >= MAX_ROWS {
            return Err(StatsError::TooMuch);
        }
        Ok(counter.into_stats())
    }
}

fn not_counted(why: &str) -> StatsError {
    StatsError::NotCounted(why.to_owned())
}

/// Reads the stale buckets before the buckets, so that every row is in at least one of the two.
async fn read_rollup(client: &Client, range: &TimeRange) -> Result<[Vec<Row>; 3], Error> {
    let slices = range.five_minute_buckets();
    let statements = [
        Some(Statement::new(stats_rollup::STATE)),
        Some(Statement::new(STALE).with(slices.start, Type::INT8).with(slices.end, Type::INT8)),
        Some(stats_rollup::select_buckets(range.resolution(), range.bucket_numbers())),
    ];
    transaction::read(client, &statements).await
}
