//! Maintains the rollup inside the database: `conversation_stats` holds a tally for each stretch of time
//! with any activity. Triggers mark each touched slice of five minutes as stale in
//! `conversation_stats_stale`, within the transaction that touches it, for every program that writes. The
//! code here recounts those slices from their rows in the background. Of all nodes, one counts at a time.
//!
//! The row at place 0 is not a tally: it says that the triggers mark slices, and how far the initial
//! marking is. If it is missing (at first, or because an operator emptied the table), everything is counted
//! again.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use crate::clock::Timestamp;
use crate::error::ReadError;
use crate::message::Role;
use crate::record::Status;
use crate::stats::{Grain, Tally};
use crate::store::postgres::connections::{Connections, within};
use crate::store::postgres::failure::Failure;
use crate::store::postgres::rows::{get, time, word};
use crate::store::postgres::statement::{Statement, moment};
use crate::store::{Class, Indexer, Step, StoreError};
use crate::stored::Stored;

/// The number of rows after which a step begins no further hour. Counting them takes a moment.
const ROWS: u64 = 20_000;
/// The pause before a slice is recounted again, as a multiple of the time the last recount took. It
/// protects against slices that change all the time.
const REST: u32 = 20;
/// A shorter pause is not recorded: the indexer does not run more often than this anyway.
const SHORTEST_REST: Duration = Duration::from_millis(200);
/// The longest time of one transaction: a slice may have millions of messages, and the initial marking
/// looks at all messages.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Begins a recount. It soon gives up waiting for a lock, so that it does not hold up others, above all a
/// migration. Its commit does not wait for the disk: if a crash loses a recount, the slices are still
/// marked as stale. The first number of the lock identifies talktrack; sessions use second numbers below
/// 64.
const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = '30min'; SET LOCAL lock_timeout = '300ms'; \
     SET LOCAL idle_in_transaction_session_timeout = '30s'; SET LOCAL synchronous_commit = off";
const IS_ALONE: &str = "SELECT pg_try_advisory_xact_lock(1952541803, 64)";

pub(super) const STATE: &str = "SELECT tally FROM public.conversation_stats WHERE place = 0";

/// Removes all tallies and marks: they may be outdated, or in a different format.
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

/// Marks every slice that has any rows.
const NOTE_ALL: &str = "
INSERT INTO public.conversation_stats_stale (slice)
SELECT floor(extract(epoch FROM created_at) / 300)::bigint FROM public.conversation_messages WHERE isfinite(created_at)
UNION SELECT floor(extract(epoch FROM started_at) / 300)::bigint FROM public.conversation_sessions WHERE isfinite(started_at)";

/// The newest stale slices that may be recounted now: 13, one more than an hour has. Slices in the future
/// come last, so that no number of them keeps the present from being counted.
const STALE: &str = "
SELECT slice FROM (SELECT DISTINCT slice FROM public.conversation_stats_stale WHERE slice <> ALL ($1::bigint[])) AS stale
ORDER BY slice > extract(epoch FROM now()) / 300, slice DESC LIMIT 13";

const TAKE_UP: &str = "DELETE FROM public.conversation_stats_stale WHERE slice = ANY ($1::bigint[])";

const MESSAGES: &str = "SELECT created_at, role, interrupted, metrics::text FROM public.conversation_messages \
     WHERE created_at >= $1::timestamptz AND created_at < $2::timestamptz";

const SESSIONS: &str = "SELECT started_at, status, duration_seconds FROM public.conversation_sessions \
     WHERE started_at >= $1::timestamptz AND started_at < $2::timestamptz";

const TALLIES: &str =
    "SELECT place, tally FROM public.conversation_stats WHERE place >= $1::bigint AND place < $2::bigint";

const PUT: &str = "INSERT INTO public.conversation_stats (place, tally) SELECT * FROM unnest($1::bigint[], $2::bytea[]) \
     ON CONFLICT (place) DO UPDATE SET tally = excluded.tally";

const REMOVE: &str = "DELETE FROM public.conversation_stats WHERE place = ANY ($1::bigint[])";

const ALL_IS_NOTED: &str = "UPDATE public.conversation_stats SET tally = $1::bytea WHERE place = 0";

/// Returns the reason why counting cannot succeed, if it is not a passing one.
pub(super) fn why_not(failure: &Failure) -> Option<String> {
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
pub(super) enum State {
    /// The triggers mark nothing.
    Unknown,
    /// The triggers mark slices. Rows from before are not marked yet.
    Begun,
    /// Everything that is not counted is marked.
    Noted,
}

impl State {
    /// Reads the row at place 0, if it exists.
    pub(super) fn of(row: Option<&Row>) -> Result<Self, tokio_postgres::Error> {
        let Some(row) = row else { return Ok(Self::Unknown) };
        let form: &[u8] = row.try_get(0)?;
        // Tallies in a different format cannot be read.
        let known = if form == noted() { Self::Noted } else { Self::Unknown };
        Ok(if form.is_empty() { Self::Begun } else { known })
    }
}

/// An empty tally. Its first byte identifies the format of the tallies.
fn noted() -> Vec<u8> {
    Tally::default().to_bytes()
}

pub(super) struct TableTallier {
    pool: Connections,
    /// Slices that were just recounted, and until when they rest.
    resting: BTreeMap<i64, Instant>,
}

/// The result of a transaction.
enum Done {
    /// Another node is counting.
    Elsewhere,
    /// All tallies were removed: the marking must be turned on.
    Forgotten,
    /// All existing slices were marked.
    Begun,
    /// These slices were recounted from this number of rows. There may be more.
    Counted(Vec<i64>, u64),
    Nothing,
}

impl TableTallier {
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
            let done = within(client, PATIENCE, async |client| in_transaction(client, resting).await).await?;
            match done {
                Done::Elsewhere | Done::Nothing => return Ok(Step::UpToDate),
                Done::Forgotten | Done::Begun => return Ok(Step::More(1)),
                Done::Counted(slices, rows) => {
                    let rest = began.elapsed() * REST;
                    if rest > SHORTEST_REST {
                        let until = Instant::now() + rest;
                        self.resting.extend(slices.into_iter().map(|slice| (slice, until)));
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
impl Indexer for TableTallier {
    async fn step(&mut self) -> Result<Step, StoreError> {
        self.try_step().await.map_err(|failure| match why_not(&failure) {
            Some(message) => StoreError::new(Class::Systemic, message),
            None => failure.into_error(),
        })
    }
}

async fn in_transaction(client: &Client, resting: Vec<i64>) -> Result<Done, Failure> {
    client.batch_execute(BEGIN).await?;
    let done = go_on(client, resting).await;
    client.batch_execute(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    if let Ok(Done::Forgotten) = done {
        if let Err(error) = client.batch_execute(TAKE_NOTES).await {
            client.batch_execute("ROLLBACK").await?;
            return Err(error.into());
        }
        tracing::info!("stats: everything in the database is counted");
    }
    done
}

async fn go_on(client: &Client, resting: Vec<i64>) -> Result<Done, Failure> {
    let alone = Statement::new(IS_ALONE).query(client).await?;
    if !alone.first().is_some_and(|row| row.get(0)) {
        return Ok(Done::Elsewhere);
    }
    match State::of(Statement::new(STATE).query(client).await?.first())? {
        State::Unknown => forget(client).await,
        State::Begun => {
            Statement::new(NOTE_ALL).query(client).await?;
            Statement::new(ALL_IS_NOTED).with(noted(), Type::BYTEA).query(client).await?;
            Ok(Done::Begun)
        }
        State::Noted => match recount(client, resting).await? {
            Some(done) => Ok(done),
            None => forget(client).await,
        },
    }
}

async fn forget(client: &Client) -> Result<Done, Failure> {
    client.batch_execute(FORGET).await?;
    Ok(Done::Forgotten)
}

/// Recounts the newest stale slices of one hour. `None` if the stored tallies cannot be read.
async fn recount(client: &Client, resting: Vec<i64>) -> Result<Option<Done>, Failure> {
    let stale = Statement::new(STALE).with(resting, Type::INT8_ARRAY).query(client).await?;
    let mut slices: Vec<i64> = stale.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let hour_of = |slice: i64| Grain::Slice.number_in(Grain::Hour, slice);
    let Some(hour) = slices.first().map(|newest| hour_of(*newest)) else { return Ok(Some(Done::Nothing)) };
    slices.retain(|slice| hour_of(*slice) == hour);
    // The marks are removed first: a mark that appears later is about rows that this transaction did not
    // see.
    Statement::new(TAKE_UP).with(slices.clone(), Type::INT8_ARRAY).query(client).await?;
    let mut tallies: BTreeMap<i64, Tally> = slices.iter().map(|slice| (*slice, Tally::default())).collect();
    let rows = count(client, &mut tallies).await?;
    put(client, tallies.into_iter().map(|(slice, tally)| (Grain::Slice.place_of(slice), tally)).collect())
        .await?;
    let day = Grain::Hour.number_in(Grain::Day, hour);
    let is_summed_up = sum_up(client, Grain::Slice, Grain::Hour, hour).await?
        && sum_up(client, Grain::Hour, Grain::Day, day).await?;
    Ok(is_summed_up.then_some(Done::Counted(slices, rows)))
}

/// Counts the rows of these slices, and returns their number.
async fn count(client: &Client, tallies: &mut BTreeMap<i64, Tally>) -> Result<u64, Failure> {
    let begins = |slice: i64| Timestamp::from_micros(slice.saturating_mul(Grain::Slice.micros()));
    let ends = tallies.keys().copied().map(|slice| slice.saturating_add(1));
    // Messages from years outside talktrack's range are not counted.
    let Some((since, until)) =
        tallies.keys().find_map(|slice| begins(*slice)).zip(ends.rev().find_map(begins))
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
        let Some((tally, role)) = tally_of(&row, tallies)
            .zip(word(&row, 1, |word| word.parse::<Role>().ok()).ok().and_then(Stored::into_known))
        else {
            continue;
        };
        tally.messages.count(role, get(&row, 2).unwrap_or_default(), get(&row, 3).unwrap_or_default());
    }
    let mut sessions = pin!(of_range(SESSIONS).stream(client).await?);
    while let Some(row) = sessions.try_next().await? {
        seen += 1;
        let Some(tally) = tally_of(&row, tallies) else { continue };
        let status = word(&row, 1, Status::parse).ok().and_then(Stored::into_known).unwrap_or(Status::Active);
        tally.sessions.count(status, get(&row, 2).unwrap_or_default());
    }
    Ok(seen)
}

fn tally_of<'t>(row: &Row, tallies: &'t mut BTreeMap<i64, Tally>) -> Option<&'t mut Tally> {
    tallies.get_mut(&Grain::Slice.number_of(time(row, 0).ok()?.known()?))
}

/// Sets a coarse stretch to the sum of the finer ones in it. Returns false if these cannot be read.
async fn sum_up(client: &Client, fine: Grain, coarse: Grain, number: i64) -> Result<bool, Failure> {
    let parts = coarse.micros() / fine.micros();
    let mut sum = Tally::default();
    let rows = tallies(fine, number * parts..(number + 1) * parts).query(client).await?;
    let Ok(parts) = of(fine, &rows) else { return Ok(false) };
    for (_, part) in parts {
        sum.add(&part);
    }
    put(client, vec![(coarse.place_of(number), sum)]).await?;
    Ok(true)
}

/// Selects the tallies of a range.
pub(super) fn tallies(grain: Grain, numbers: std::ops::Range<i64>) -> Statement<'static> {
    let (first, end) = (grain.place_of(numbers.start), grain.place_of(numbers.end));
    Statement::new(TALLIES).with(first, Type::INT8).with(end, Type::INT8)
}

/// Returns the tallies in these rows, by the numbers of their stretches.
pub(super) fn of(grain: Grain, rows: &[Row]) -> Result<Vec<(i64, Tally)>, ReadError> {
    const UNREADABLE: &str =
        "what was counted cannot be read; empty conversation_stats, and it is counted anew";
    let tally = |row: &Row| {
        let tally = Tally::from_bytes(get(row, 1)?).ok_or_else(|| ReadError(UNREADABLE.into()))?;
        Ok((get::<i64>(row, 0)? - grain.place_of(0), tally))
    };
    rows.iter().map(tally).collect()
}

/// Stores these tallies by their place. Empty ones are removed.
async fn put(client: &Client, tallies: Vec<(i64, Tally)>) -> Result<(), Failure> {
    let (gone, kept): (Vec<_>, Vec<_>) = tallies.into_iter().partition(|(_, tally)| tally.is_empty());
    if !gone.is_empty() {
        let places: Vec<i64> = gone.into_iter().map(|(place, _)| place).collect();
        Statement::new(REMOVE).with(places, Type::INT8_ARRAY).query(client).await?;
    }
    if !kept.is_empty() {
        let (places, tallies): (Vec<i64>, Vec<_>) =
            kept.into_iter().map(|(place, tally)| (place, tally.to_bytes())).unzip();
        let put = Statement::new(PUT).with(places, Type::INT8_ARRAY).with(tallies, Type::BYTEA_ARRAY);
        put.query(client).await?;
    }
    Ok(())
}
