//! `GET /v1/stats`: statistics over time.

#![expect(unused_qualifications, reason = "in what the macro makes of the parameters")]

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use talktrack::clock::{Clock as _, SystemClock};
use talktrack::stats::{Behind, Distribution, Grain, Range, Stats, StatsError, Tally};
use talktrack::{Role, Timestamp};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

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
    /// From the stretch in which this moment is; 24 hours before `until` where it is left out.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// To the stretch in which the moment before this one is; up to now where it is left out.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// How long each stretch is: five minutes, an hour, or a day, each as a clock in UTC has them. Where it is left out, one
    /// that suits the range: up to 6 hours, up to 7 days, longer. There are 2,000 at most.
    #[param(value_type = Option<String>, pattern = "^(5m|1h|1d)$")]
    step: Option<Step>,
    /// In sessions of this user.
    user_id: Option<Uuid>,
}

/// The length of one bucket.
#[derive(Debug, Clone, Copy, Deserialize)]
enum Step {
    #[serde(rename = "5m")]
    FiveMinutes,
    #[serde(rename = "1h")]
    Hour,
    #[serde(rename = "1d")]
    Day,
}

/// What happened in a range of time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Statistics {
    /// Where the first stretch begins.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Where the last stretch ends.
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
    /// How long each is.
    #[schema(example = 3600)]
    step_seconds: u64,
    behind: NotCounted,
    /// All of it.
    totals: Figures,
    /// Stretch by stretch, in the order of time; also those in which nothing happened.
    buckets: Vec<Bucket>,
}

/// What the figures do not tell yet: they are counted behind the ingestion. Zeros where they tell everything.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NotCounted {
    /// Messages that are stored and not counted yet, whenever they were said.
    messages: u64,
    /// Sessions that began, ended or were deleted and messages that were revised, whenever that was, and are not looked at yet;
    /// 10,000 where there are more.
    changes: u64,
    /// Stretches of five minutes in this range that are being counted anew, since something in them ended, or was revised or
    /// deleted.
    slices: u64,
}

/// A stretch of time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Bucket {
    /// When it begins.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    #[serde(flatten)]
    figures: Figures,
}

/// What happened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Figures {
    sessions: SessionFigures,
    messages: MessageFigures,
    /// Messages that were cut short.
    interruptions: u64,
    /// Messages that the store refused for good then, and that nobody has taken out since. Null where one user's figures are
    /// told.
    dead_letters: Option<u64>,
    /// How long the sessions took that began then and are over, in seconds.
    duration_seconds: Spread,
    /// What the messages' `metrics` measured, by key: times in milliseconds, numbers of tokens, a probability. Keys of which
    /// there is no number are left out.
    metrics: BTreeMap<&'static str, Spread>,
}

/// Sessions that began then, as they are now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionFigures {
    begun: u64,
    active: u64,
    ended: u64,
    abandoned: u64,
}

/// Messages that were said then, by role.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageFigures {
    total: u64,
    user: u64,
    assistant: u64,
    system: u64,
    developer: u64,
    tool: u64,
}

/// How numbers are spread. Percentiles are right to within one percent; where there is no number, all but the first two are
/// null.
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

/// Counts what happened
///
/// Sessions, messages, how long they took and what they measured, over time. All figures are of the moment at which something
/// happened: a session counts when it began, a message when it was said.
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
    let range =
        Range::new(since, until, step.map(Grain::from), SystemClock.now()).map_err(Problem::invalid)?;
    let (stats, letters) = read_stats(&state, &caller, user_id, &range).await?;
    Ok(Json(Statistics::new(&stats, letters.as_deref())))
}

/// Returns the statistics that the caller may see. For a caller who acts for all users and asks for no single one, also
/// returns the number of dead letters in each bucket.
pub(crate) async fn read_stats(
    state: &AppState,
    caller: &Caller,
    user_id: Option<Uuid>,
    range: &Range,
) -> Result<(Stats, Option<Vec<u64>>), Problem> {
    let rows = access::open_rows(state, caller)?;
    if let Some(user) = caller.resolve_user(user_id)? {
        return Ok((rows.stats_of(user, range).await.map_err(to_problem)?, None));
    }
    let stats = state.tracker().reader().stats(range).await.map_err(to_problem)?;
    let letters =
        state.local().dead_letters_over(range).await.map_err(|error| Problem::store_unavailable(&error))?;
    Ok((stats, Some(letters)))
}

fn to_problem(error: StatsError) -> Problem {
    match error {
        StatsError::Read(error) => Problem::store_unavailable(&error),
        StatsError::TooMuch => Problem::invalid(format_args!("since: {error}")),
        error => Problem::unavailable(error.to_string(), COUNTING_BEGINS),
    }
}

impl From<Step> for Grain {
    fn from(step: Step) -> Self {
        match step {
            Step::FiveMinutes => Self::Slice,
            Step::Hour => Self::Hour,
            Step::Day => Self::Day,
        }
    }
}

impl Statistics {
    fn new(stats: &Stats, letters: Option<&[u64]>) -> Self {
        let Behind { messages, changes, slices } = stats.behind;
        let letters_at = |place| letters.map(|letters| letters.get(place).copied().unwrap_or(0));
        let bucket = |(place, (at, tally))| Bucket { at, figures: Figures::new(tally, letters_at(place)) };
        Self {
            since: stats.range.since(),
            until: stats.range.until(),
            step_seconds: stats.range.grain().duration().as_secs(),
            behind: NotCounted { messages, changes, slices },
            totals: Figures::new(&stats.total(), letters.map(|letters| letters.iter().sum())),
            buckets: stats.stretches().enumerate().map(bucket).collect(),
        }
    }
}

impl Figures {
    fn new(Tally { sessions, messages }: &Tally, dead_letters: Option<u64>) -> Self {
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
                user: messages.of(Role::User),
                assistant: messages.of(Role::Assistant),
                system: messages.of(Role::System),
                developer: messages.of(Role::Developer),
                tool: messages.of(Role::Tool),
            },
            interruptions: messages.interruptions,
            dead_letters,
            duration_seconds: Spread::new(&sessions.duration_seconds),
            metrics: measured.map(|(key, numbers)| (key, Spread::new(numbers))).collect(),
        }
    }
}

impl Spread {
    fn new(numbers: &Distribution) -> Self {
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
