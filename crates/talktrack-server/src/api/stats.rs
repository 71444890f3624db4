//! `GET /v1/stats`: statistics over time.

#![expect(unused_qualifications, reason = "in what the macro makes of the parameters")]

use std::collections::BTreeMap;
use std::fmt;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use talktrack::clock::{Clock as _, SystemClock};
use talktrack::stats::{DdSketch, Lag, Resolution, Stats, StatsBucket, StatsError, TimeRange};
use talktrack::{Role, Timestamp, UserId};
use utoipa::{IntoParams, ToSchema};

use super::query::QueryParams;
use crate::access;
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// After how many seconds a client should retry while nothing is counted yet.
const COUNTING_BEGINS: u32 = 5;

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StatsQuery {
    /// The start of the range. The range begins with the bucket that contains this time. Defaults to 24 hours before `until`.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// The end of the range, exclusive. The range ends with the bucket that contains the last moment before this time. Defaults
    /// to now.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// The length of a bucket: `5m`, `1h` or `1d`, aligned to the clock in UTC. Defaults to `5m` for ranges of up to 6 hours, `1h`
    /// up to 7 days, and `1d` beyond. There are at most 2,000 buckets.
    #[param(value_type = Option<String>, pattern = "^(5m|1h|1d)$")]
    step: Option<Step>,
    /// Only sessions of this user.
    #[param(value_type = Option<String>, min_length = 1, max_length = 256)]
    user_id: Option<UserId>,
}

/// The length of one bucket.
#[derive(Debug, Clone, Copy, Deserialize, clap::ValueEnum)]
pub(crate) enum Step {
    #[serde(rename = "5m")]
    #[value(name = "5m")]
    FiveMinutes,
    #[serde(rename = "1h")]
    #[value(name = "1h")]
    Hour,
    #[serde(rename = "1d")]
    #[value(name = "1d")]
    Day,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FiveMinutes => "5m",
            Self::Hour => "1h",
            Self::Day => "1d",
        })
    }
}

/// Statistics of a range of time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Statistics {
    /// The start of the first bucket.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// The end of the last bucket, exclusive.
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
    /// The length of each bucket, in seconds.
    #[schema(example = 3600)]
    step_seconds: u64,
    /// What is stored and not counted yet.
    behind: NotCounted,
    /// The figures of the whole range.
    totals: Figures,
    /// The figures of each bucket, in the order of time, including buckets in which nothing happened.
    buckets: Vec<Bucket>,
}

/// What is stored and not counted yet: the server counts in the background. If all three are 0, the figures cover everything
/// that is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NotCounted {
    /// Messages that are stored and not counted yet, of any time.
    messages: u64,
    /// Sessions that began, ended or were deleted, and messages that were revised, that are not processed yet, of any time.
    /// 10,000 if there are more.
    changes: u64,
    /// Five-minute buckets of this range that are being recomputed, because something in them ended, was revised or was deleted.
    slices: u64,
}

/// The figures of one bucket of time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Bucket {
    /// The start of the bucket.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    #[serde(flatten)]
    figures: Figures,
}

/// The figures of a period of time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Figures {
    sessions: SessionFigures,
    messages: MessageFigures,
    /// Messages that were interrupted.
    interruptions: u64,
    /// Messages that the store refused permanently in this period and that have not been replayed or dropped since. `null` in the
    /// figures of one user.
    dead_letters: Option<u64>,
    /// The durations in seconds of the sessions that began in this period and are over.
    duration_seconds: Spread,
    /// What the `metrics` of the messages measured, by key: times in milliseconds, numbers of tokens, a probability. Keys without
    /// a number are left out.
    metrics: BTreeMap<&'static str, Spread>,
}

/// Sessions that began in this period, by their current state.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionFigures {
    begun: u64,
    active: u64,
    ended: u64,
    abandoned: u64,
}

/// Messages that were said in this period, by role.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageFigures {
    total: u64,
    user: u64,
    assistant: u64,
    system: u64,
    developer: u64,
    tool: u64,
}

/// The distribution of a measured value. Percentiles are accurate to one percent of their value. If there are no values, all fields
/// but `count` and `sum` are `null`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Spread {
    count: u64,
    sum: f64,
    min: Option<f64>,
    max: Option<f64>,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

/// Counts sessions and messages over time
///
/// Returns how many sessions and messages there were, how long they took and what they measured, over time. A session counts in
/// the bucket in which it began, a message in the bucket in which it was said.
#[utoipa::path(
    get, path = "/v1/stats", operation_id = "stats", tag = "reading", params(StatsQuery),
    responses(
        (status = 200, description = "The figures.", body = Statistics),
        Problem,
    )
)]
pub(crate) async fn get_stats(
    State(state): State<AppState>,
    caller: Caller,
    QueryParams(wanted): QueryParams<StatsQuery>,
) -> Result<Json<Statistics>, Problem> {
    let StatsQuery { since, until, step, user_id } = wanted;
    let range = TimeRange::new(since, until, step.map(Resolution::from), SystemClock.now())
        .map_err(Problem::invalid)?;
    let (stats, letters) = read_stats(&state, &caller, user_id, &range).await?;
    Ok(Json(Statistics::new(&stats, letters.as_deref())))
}

/// Returns the statistics that the caller may see. For a caller who acts for all users and asks for no single one, also
/// returns the number of dead letters in each bucket.
pub(crate) async fn read_stats(
    state: &AppState,
    caller: &Caller,
    user_id: Option<UserId>,
    range: &TimeRange,
) -> Result<(Stats, Option<Vec<u64>>), Problem> {
    let rows = access::open_rows(state, caller)?;
    if let Some(user) = caller.resolve_user(user_id)? {
        return Ok((rows.user_stats(&user, range).await.map_err(to_problem)?, None));
    }
    let stats = state.tracker().reader().stats(range).await.map_err(to_problem)?;
    let letters =
        state.local().dead_letters().count_over(range).await.map_err(|error| Problem::read_failed(&error))?;
    Ok((stats, Some(letters)))
}

fn to_problem(error: StatsError) -> Problem {
    match error {
        StatsError::Read(error) => Problem::read_failed(&error),
        StatsError::TooMuch => Problem::invalid(format_args!("since: {error}")),
        error => Problem::unavailable(error.to_string(), COUNTING_BEGINS),
    }
}

impl From<Step> for Resolution {
    fn from(step: Step) -> Self {
        match step {
            Step::FiveMinutes => Self::FiveMinutes,
            Step::Hour => Self::Hour,
            Step::Day => Self::Day,
        }
    }
}

impl Statistics {
    /// Makes the document. `letters` is the number of dead letters in each bucket.
    pub(crate) fn new(stats: &Stats, letters: Option<&[u64]>) -> Self {
        let Lag { messages, changes, stale_buckets: slices, .. } = stats.lag;
        let letters_at = |place| letters.map(|letters| letters.get(place).copied().unwrap_or(0));
        let bucket = |(place, (at, tally))| Bucket { at, figures: Figures::new(tally, letters_at(place)) };
        Self {
            since: stats.range.since(),
            until: stats.range.until(),
            step_seconds: stats.range.resolution().duration().as_secs(),
            behind: NotCounted { messages, changes, slices },
            totals: Figures::new(&stats.total(), letters.map(|letters| letters.iter().sum())),
            buckets: stats.buckets().enumerate().map(bucket).collect(),
        }
    }
}

impl Figures {
    fn new(StatsBucket { sessions, messages, .. }: &StatsBucket, dead_letters: Option<u64>) -> Self {
        let measured = messages.metrics().filter(|(_, numbers)| !numbers.is_empty());
        Self {
            sessions: SessionFigures {
                begun: sessions.begun,
                active: sessions.active(),
                ended: sessions.ended,
                abandoned: sessions.abandoned,
            },
            messages: MessageFigures {
                total: messages.total(),
                user: messages.count_of(Role::User),
                assistant: messages.count_of(Role::Assistant),
                system: messages.count_of(Role::System),
                developer: messages.count_of(Role::Developer),
                tool: messages.count_of(Role::Tool),
            },
            interruptions: messages.interruptions,
            dead_letters,
            duration_seconds: Spread::new(&sessions.duration_seconds),
            metrics: measured.map(|(key, numbers)| (key, Spread::new(numbers))).collect(),
        }
    }
}

impl Spread {
    fn new(numbers: &DdSketch) -> Self {
        Self {
            count: numbers.len(),
            sum: numbers.sum(),
            min: numbers.min(),
            max: numbers.max(),
            p50: numbers.quantile(0.5),
            p95: numbers.quantile(0.95),
            p99: numbers.quantile(0.99),
        }
    }
}
