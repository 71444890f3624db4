//! Maintains the rollup inside the database: `conversation_stats` holds a bucket for each span of time
//! with any activity. Triggers mark each touched five-minute bucket as stale in
//! `conversation_stats_stale`, within the transaction that touches it, for every program that writes. The
//! code here recomputes those buckets from their rows in the background. Of all nodes, one counts at a time.
//!
//! The row at place 0 is not a bucket: it says that the triggers mark buckets, and how far the initial
//! marking is. If it is missing (at first, or because an operator emptied the table), everything is counted
//! again.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use talktrack_core::clock::Timestamp;
use talktrack_core::error::ReadError;
use talktrack_core::message::Role;
use talktrack_core::record::Status;
use talktrack_core::stats::{Resolution, StatsBucket};
use talktrack_core::store::{ErrorClass, Projection, Step, StoreError};
use talktrack_core::stored::Stored;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use crate::connections::{Connections, run_within};
use crate::failure::Failure;
use crate::rows::{get, get_time, get_word};
use crate::statement::{Statement, moment};

/// The number of rows after which a step begins no further hour. Counting them takes a moment.
const ROWS: u64 = 20_000;
/// The pause before a bucket is recomputed again, as a multiple of the time the last recomputation took. It
/// protects against buckets that change all the time.
const REST: u32 = 20;
/// A shorter pause is not recorded: the indexer does not run more often than this anyway.
const SHORTEST_REST: Duration = Duration::from_millis(200);
/// The longest time of one transaction: a bucket may have millions of messages, and the initial marking
/// looks at all messages.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Begins a recomputation. It soon gives up waiting for a lock, so that it does not hold up others, above all
/// a migration. Its commit does not wait for the disk: if a crash loses a recomputation, the buckets are
/// still marked as stale. The first number of the lock identifies talktrack; sessions use second numbers
/// below 64.
const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = '30min'; SET LOCAL lock_timeout = '300ms'; \
     SET LOCAL idle_in_transaction_session_timeout = '30s'; SET LOCAL synchronous_commit = off";
const IS_ALONE: &str = "SELECT pg_try_advisory_xact_lock(1952541803, 64)";

pub(super) const STATE: &str = "SELECT tally FROM public.conversation_stats WHERE place = 0";

/// Removes all buckets and marks: they may be outdated, or in a different format.
const FORGET: &str = "DELETE FROM public.conversation_stats; DELETE FROM public.conversation_stats_stale";

/// Turns the marking on, from its commit. Writers check within their own transaction whether it is on, and
/// `LOCK TABLE` waits for those transactions: so every row that was not marked is visible afterwards. Sent
/// as one batch, because writers wait until it ends.
const TAKE_NOTES: &str = "
BEGIN;
SET LOCAL lock_timeout = '100ms';
SET LOCAL statement_timeout = '3s';
SELECT pg_advisory_xact_lock(1952541803, 64);
LOCK TABLE public.conversation_stats IN ACCESS EXCLUSIVE MODE;
INSERT INTO public.conversation_stats (place, tally) VALUES (0, '') ON CONFLICT (place) DO NOTHING;
COMMIT";

/// Marks every bucket that has any rows.
const NOTE_ALL: &str = "
INSERT INTO public.conversation_stats_stale (slice)
SELECT floor(extract(epoch FROM created_at) / 300)::bigint FROM public.conversation_messages WHERE isfinite(created_at)
UNION SELECT floor(extract(epoch FROM started_at) / 300)::bigint FROM public.conversation_sessions WHERE isfinite(started_at)";

/// The newest stale buckets that may be recomputed now: 13, one more than an hour has. Buckets in the future
/// come last, so that no number of them keeps the present from being counted.
const STALE: &str = "
SELECT slice FROM (SELECT DISTINCT slice FROM public.conversation_stats_stale WHERE slice <> ALL ($1::bigint[])) AS stale
ORDER BY slice > extract(epoch FROM now()) / 300, slice DESC LIMIT 13";

const TAKE_UP: &str = "DELETE FROM public.conversation_stats_stale WHERE slice = ANY ($1::bigint[])";

const MESSAGES: &str = "SELECT created_at, role, interrupted, metrics::text FROM public.conversation_messages \
     WHERE created_at >= $1::timestamptz AND created_at < $2::timestamptz AND status = 'final'";

const SESSIONS: &str = "SELECT started_at, status, duration_seconds FROM public.conversation_sessions \
     WHERE started_at >= $1::timestamptz AND started_at < $2::timestamptz";

const TALLIES: &str =
    "SELECT place, tally FROM public.conversation_stats WHERE place >= $1::bigint AND place < $2::bigint";

const PUT: &str = "INSERT INTO public.conversation_stats (place, tally) SELECT * FROM unnest($1::bigint[], $2::bytea[]) \
     ON CONFLICT (place) DO UPDATE SET tally = excluded.tally";

const REMOVE: &str = "DELETE FROM public.conversation_stats WHERE place = ANY ($1::bigint[])";

const ALL_IS_NOTED: &str = "UPDATE public.conversation_stats SET tally = $1::bytea WHERE place = 0";

/// Returns the reason why counting cannot succeed, if it is not a passing one.
pub(super) fn explain_failure(failure: &Failure) -> Option<String> {
    let what_to_do = if failure.is_about_rights() {
        "it needs SELECT, INSERT, UPDATE and DELETE on conversation_stats and conversation_stats_stale, and policies there"
    } else if failure.is_about_the_schema() {
        "run: talktrack migrate"
    } else {
        return None;
    };
    Some(format!("{} ({what_to_do})", failure.message()))
}

/// The progress of the rollup, as the row at place 0 says.
pub(super) enum RollupState {
    /// The triggers mark nothing.
    Unknown,
    /// The triggers mark buckets. Rows from before are not marked yet.
    Begun,
    /// Everything that is not counted is marked.
    Noted,
}

impl RollupState {
    /// Reads the row at place 0, if it exists.
    pub(super) fn read(row: Option<&Row>) -> Result<Self, tokio_postgres::Error> {
        let Some(row) = row else { return Ok(Self::Unknown) };
        let form: &[u8] = row.try_get(0)?;
        // Buckets in a different format cannot be read.
        let known = if form == format_marker() { Self::Noted } else { Self::Unknown };
        Ok(if form.is_empty() { Self::Begun } else { known })
    }
}

/// An empty bucket. Its first byte identifies the format of the buckets.
fn format_marker() -> Vec<u8> {
    StatsBucket::default().to_bytes()
}

pub(super) struct PostgresStatsRollup {
    pool: Connections,
    /// Buckets that were just recomputed, and until when they rest.
    resting: BTreeMap<i64, Instant>,
}

/// The result of a transaction.
enum RollupOutcome {
    /// Another node is counting.
    Elsewhere,
    /// All buckets were removed: the marking must be turned on.
    Cleared,
    /// All existing buckets were marked.
    Begun,
    /// These buckets were recomputed from this number of rows. There may be more.
    Counted(Vec<i64>, u64),
    Nothing,
}

impl PostgresStatsRollup {
    pub(super) fn new(pool: Connections) -> Self {
        Self { pool, resting: BTreeMap::new() }
    }

    async fn try_step(&mut self) -> Result<Step, Failure> {
        let mut left = ROWS;
        loop {
            let began = Instant::now();
            self.resting.retain(|_, until| *until > began);
            let resting: Vec<i64> = self.resting.keys().copied().collect();
            let client = self.pool.get().await?;
            let done = run_within(client, TRANSACTION_TIMEOUT, async |client| {
                run_transaction(client, resting).await
            })
            .await?;
            match done {
                RollupOutcome::Elsewhere | RollupOutcome::Nothing => return Ok(Step::UpToDate),
                RollupOutcome::Cleared | RollupOutcome::Begun => return Ok(Step::More(1)),
                RollupOutcome::Counted(stale, rows) => {
                    let rest = began.elapsed() * REST;
                    if rest > SHORTEST_REST {
                        let until = Instant::now() + rest;
                        self.resting.extend(stale.into_iter().map(|bucket| (bucket, until)));
                    }
                    left = left.saturating_sub(rows.max(100));
                }
            }
            if left == 0 {
                return Ok(Step::More(1));
            }
        }
    }
}

#[async_trait]
impl Projection for PostgresStatsRollup {
    async fn step(&mut self) -> Result<Step, StoreError> {
        self.try_step().await.map_err(|failure| match explain_failure(&failure) {
            Some(message) => StoreError::new(ErrorClass::Systemic, message),
            None => failure.into_error(),
        })
    }
}

async fn run_transaction(client: &Client, resting: Vec<i64>) -> Result<RollupOutcome, Failure> {
    client.batch_execute(BEGIN).await?;
    let done = advance(client, resting).await;
    client.batch_execute(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    if let Ok(RollupOutcome::Cleared) = done {
        if let Err(error) = client.batch_execute(TAKE_NOTES).await {
            client.batch_execute("ROLLBACK").await?;
            return Err(error.into());
        }
        tracing::info!("stats: everything in the database is counted");
    }
    done
}

async fn advance(client: &Client, resting: Vec<i64>) -> Result<RollupOutcome, Failure> {
    let alone = Statement::new(IS_ALONE).query(client).await?;
    if !alone.first().is_some_and(|row| row.get(0)) {
        return Ok(RollupOutcome::Elsewhere);
    }
    match RollupState::read(Statement::new(STATE).query(client).await?.first())? {
        RollupState::Unknown => clear_rollup(client).await,
        RollupState::Begun => {
            Statement::new(NOTE_ALL).query(client).await?;
            Statement::new(ALL_IS_NOTED).with(format_marker(), Type::BYTEA).query(client).await?;
            Ok(RollupOutcome::Begun)
        }
        RollupState::Noted => match recompute(client, resting).await? {
            Some(done) => Ok(done),
            None => clear_rollup(client).await,
        },
    }
}

async fn clear_rollup(client: &Client) -> Result<RollupOutcome, Failure> {
    client.batch_execute(FORGET).await?;
    Ok(RollupOutcome::Cleared)
}

/// Recomputes the newest stale buckets of one hour. `None` if the stored buckets cannot be read.
async fn recompute(client: &Client, resting: Vec<i64>) -> Result<Option<RollupOutcome>, Failure> {
    let stale = Statement::new(STALE).with(resting, Type::INT8_ARRAY).query(client).await?;
    let mut stale: Vec<i64> = stale.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let hour_of = |bucket: i64| Resolution::FiveMinutes.coarser_bucket(Resolution::Hour, bucket);
    let Some(hour) = stale.first().map(|newest| hour_of(*newest)) else {
        return Ok(Some(RollupOutcome::Nothing));
    };
    stale.retain(|bucket| hour_of(*bucket) == hour);
    // The marks are removed first: a mark that appears later is about rows that this transaction did not
    // see.
    Statement::new(TAKE_UP).with(stale.clone(), Type::INT8_ARRAY).query(client).await?;
    let mut buckets: BTreeMap<i64, StatsBucket> =
        stale.iter().map(|bucket| (*bucket, StatsBucket::default())).collect();
    let rows = count_rows(client, &mut buckets).await?;
    put_buckets(
        client,
        buckets
            .into_iter()
            .map(|(bucket, stats)| (Resolution::FiveMinutes.storage_key(bucket), stats))
            .collect(),
    )
    .await?;
    let day = Resolution::Hour.coarser_bucket(Resolution::Day, hour);
    let is_summed_up = roll_up(client, Resolution::FiveMinutes, Resolution::Hour, hour).await?
        && roll_up(client, Resolution::Hour, Resolution::Day, day).await?;
    Ok(is_summed_up.then_some(RollupOutcome::Counted(stale, rows)))
}

/// Counts the rows of these buckets, and returns their number.
async fn count_rows(client: &Client, buckets: &mut BTreeMap<i64, StatsBucket>) -> Result<u64, Failure> {
    let begins =
        |bucket: i64| Timestamp::from_micros(bucket.saturating_mul(Resolution::FiveMinutes.micros()));
    let ends = buckets.keys().copied().map(|bucket| bucket.saturating_add(1));
    // Messages from years outside talktrack's range are not counted.
    let Some((since, until)) =
        buckets.keys().find_map(|bucket| begins(*bucket)).zip(ends.rev().find_map(begins))
    else {
        return Ok(0);
    };
    let of_range = |sql| {
        Statement::new(sql).with(moment(since), Type::TIMESTAMPTZ).with(moment(until), Type::TIMESTAMPTZ)
    };
    let mut seen = 0;
    let mut messages = pin!(of_range(MESSAGES).stream(client).await?);
    while let Some(row) = messages.try_next().await? {
        seen += 1;
        // Unreadable values are not counted.
        let Some((stats, role)) = bucket_for(&row, buckets)
            .zip(get_word(&row, 1, |word| word.parse::<Role>().ok()).ok().and_then(Stored::into_known))
        else {
            continue;
        };
        stats.messages.add_message(role, get(&row, 2).unwrap_or_default(), get(&row, 3).unwrap_or_default());
    }
    let mut sessions = pin!(of_range(SESSIONS).stream(client).await?);
    while let Some(row) = sessions.try_next().await? {
        seen += 1;
        let Some(stats) = bucket_for(&row, buckets) else { continue };
        let status = get_word(&row, 1, |word| word.parse().ok())
            .ok()
            .and_then(Stored::into_known)
            .unwrap_or(Status::Active);
        stats.sessions.add_session(status, get(&row, 2).unwrap_or_default());
    }
    Ok(seen)
}

fn bucket_for<'t>(row: &Row, buckets: &'t mut BTreeMap<i64, StatsBucket>) -> Option<&'t mut StatsBucket> {
    buckets.get_mut(&Resolution::FiveMinutes.bucket_of(get_time(row, 0).ok()?.known()?))
}

/// Sets a coarse bucket to the sum of the finer ones in it. Returns false if these cannot be read.
async fn roll_up(
    client: &Client,
    fine: Resolution,
    coarse: Resolution,
    number: i64,
) -> Result<bool, Failure> {
    let parts = coarse.micros() / fine.micros();
    let mut sum = StatsBucket::default();
    let rows = select_buckets(fine, number * parts..(number + 1) * parts).query(client).await?;
    let Ok(parts) = parse_buckets(fine, &rows) else { return Ok(false) };
    for (_, part) in parts {
        sum.merge(&part);
    }
    put_buckets(client, vec![(coarse.storage_key(number), sum)]).await?;
    Ok(true)
}

/// Selects the buckets of a range.
pub(super) fn select_buckets(resolution: Resolution, numbers: std::ops::Range<i64>) -> Statement<'static> {
    let first = resolution.storage_key(numbers.start);
    let end = resolution.storage_key(numbers.end);
    Statement::new(TALLIES).with(first, Type::INT8).with(end, Type::INT8)
}

/// Returns the buckets in these rows, by their numbers.
pub(super) fn parse_buckets(
    resolution: Resolution,
    rows: &[Row],
) -> Result<Vec<(i64, StatsBucket)>, ReadError> {
    const UNREADABLE: &str =
        "the stored statistics cannot be read; empty conversation_stats, and talktrack counts them again";
    let stats = |row: &Row| {
        let stats = StatsBucket::from_bytes(get(row, 1)?).ok_or_else(|| ReadError::damaged(UNREADABLE))?;
        Ok((get::<i64>(row, 0)? - resolution.storage_key(0), stats))
    };
    rows.iter().map(stats).collect()
}

/// Stores these buckets by their place. Empty ones are removed.
async fn put_buckets(client: &Client, buckets: Vec<(i64, StatsBucket)>) -> Result<(), Failure> {
    let (gone, kept): (Vec<_>, Vec<_>) = buckets.into_iter().partition(|(_, stats)| stats.is_empty());
    if !gone.is_empty() {
        let places: Vec<i64> = gone.into_iter().map(|(place, _)| place).collect();
        Statement::new(REMOVE).with(places, Type::INT8_ARRAY).query(client).await?;
    }
    if !kept.is_empty() {
        let (places, buckets): (Vec<i64>, Vec<_>) =
            kept.into_iter().map(|(place, stats)| (place, stats.to_bytes())).unzip();
        let put = Statement::new(PUT).with(places, Type::INT8_ARRAY).with(buckets, Type::BYTEA_ARRAY);
        put.query(client).await?;
    }
    Ok(())
}
