//! `/stats`: statistics over time as cards and charts: how many, how long, how fast.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use talktrack::clock::{Clock as _, SystemClock};
use talktrack::stats::{DdSketch, MEASURES, Stats, StatsBucket, TimeRange};
use talktrack::{Timestamp, UserId};

use super::chart::{Chart, Series, XAxis};
use super::format::{format_duration, group_digits};
use super::page::{ErrorPage, Layout, NavItem, render_page};
use super::sessions_query::parse_day;
use super::visitor::{PageQuery, Visitor};
use crate::api;
use crate::error::Problem;
use crate::state::AppState;

const HOUR: u64 = 3_600;

/// The ranges that end now: the name in the URL, the name for people, and the length in hours.
const RANGES: [(&str, &str, u64); 6] = [
    ("6h", "6 hours", 6),
    ("24h", "24 hours", 24),
    ("7d", "7 days", 7 * 24),
    ("30d", "30 days", 30 * 24),
    ("90d", "90 days", 90 * 24),
    ("1y", "1 year", 365 * 24),
];

/// The bars of the duration chart, with the upper end of each in seconds.
const DURATIONS: [(&str, f64); 8] = [
    ("up to 10 s", 10.0),
    ("30 s", 30.0),
    ("1 min", 60.0),
    ("2 min", 120.0),
    ("5 min", 300.0),
    ("10 min", 600.0),
    ("30 min", 1_800.0),
    ("longer", f64::INFINITY),
];

/// The fields of the form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StatsPageQuery {
    range: String,
    from: String,
    to: String,
    measure: String,
    user: String,
}

#[derive(Template)]
#[template(path = "stats.html")]
struct StatsPage {
    layout: Layout,
    query: StatsPageQuery,
    error: Option<String>,
    stats: Option<StatsView>,
}

/// The statistics for the template.
struct StatsView {
    cards: Vec<(&'static str, String)>,
    charts: Vec<Chart>,
    /// What is not counted yet.
    behind: Option<String>,
}

/// Returns the page with the statistics of a range.
pub(super) async fn show_stats(
    State(state): State<AppState>,
    visitor: Visitor,
    PageQuery(mut query): PageQuery<StatsPageQuery>,
) -> Result<Response, ErrorPage> {
    if !MEASURES.contains(&query.measure.as_str()) {
        "e2e_ms".clone_into(&mut query.measure);
    }
    let counted = load_stats(&state, &visitor, &query).await;
    let (status, error, stats) = match counted {
        Ok(stats) => (StatusCode::OK, None, Some(stats)),
        Err(problem) => (problem.status(), Some(problem.into_detail()), None),
    };
    let layout = visitor.layout(NavItem::Stats);
    Ok(render_page(status, &StatsPage { layout, query, error, stats }))
}

async fn load_stats(
    state: &AppState,
    visitor: &Visitor,
    query: &StatsPageQuery,
) -> Result<StatsView, Problem> {
    let user = Some(query.user.trim()).filter(|user| !user.is_empty()).map(str::parse::<UserId>).transpose();
    let user = user.map_err(|_| Problem::invalid("User: must be a complete user id, 1 to 256 bytes"))?;
    let range = query.range()?;
    let (stats, letters) = api::stats::read_stats(state, &visitor.caller, user, &range).await?;
    Ok(StatsView::new(&stats, letters.as_deref(), &query.measure))
}

impl StatsPageQuery {
    fn range(&self) -> Result<TimeRange, Problem> {
        let now = SystemClock.now();
        let (from, to) = (parse_day(&self.from, "From")?, parse_day(&self.to, "To")?);
        let until = to.map(|day| day.plus(Duration::from_secs(24 * HOUR)));
        let since = from.or_else(|| until.is_none().then(|| self.since(now)));
        TimeRange::new(since, until, None, now).map_err(Problem::invalid)
    }

    fn since(&self, now: Timestamp) -> Timestamp {
        let hours =
            RANGES.iter().find(|(name, ..)| *name == self.range_name()).map_or(24, |(.., hours)| *hours);
        now.minus(Duration::from_secs(hours * HOUR))
    }

    /// Returns the name of the selected range that ends now; empty if the form gives days instead.
    fn range_name(&self) -> &str {
        match self.range.as_str() {
            _ if !self.from.is_empty() || !self.to.is_empty() => "",
            "" => "7d",
            range => range,
        }
    }

    fn ranges(&self) -> &'static [(&'static str, &'static str, u64)] {
        &RANGES
    }

    /// Returns the measures that can be selected, with their names for people.
    fn measures(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        MEASURES.into_iter().map(|measure| (measure, measure_label(measure)))
    }
}

impl StatsView {
    fn new(stats: &Stats, letters: Option<&[u64]>, measure: &str) -> Self {
        let axis = XAxis::from_times(stats.buckets().map(|(at, _)| at), stats.range.resolution());
        let number = |count: &dyn Fn(&StatsBucket) -> u64| {
            stats.buckets.iter().map(|tally| Some(to_f64(count(tally)))).collect::<Vec<_>>()
        };
        let total = stats.total();
        let mut charts = vec![
            Chart::bar_chart(
                "Conversations",
                &axis,
                &new_series("conversations", number(&|tally| tally.sessions.begun)),
            ),
            Chart::bar_chart(
                "Messages",
                &axis,
                &new_series("messages", number(&|tally| tally.messages.total())),
            ),
            Chart::line_chart(measure_label(measure), &axis, &percentile_series(stats, measure)),
            Chart::bar_chart(
                "How long conversations last",
                &duration_axis(),
                &duration_series(&total.sessions.duration_seconds),
            ),
            Chart::bar_chart(
                "Interruptions",
                &axis,
                &new_series("interruptions", number(&|tally| tally.messages.interruptions)),
            ),
        ];
        if let Some(letters) = letters {
            let values = letters.iter().map(|letters| Some(to_f64(*letters))).collect();
            charts.push(Chart::bar_chart("Dead letters", &axis, &new_series("dead letters", values)));
        }
        let behind = Some(stats.lag).filter(|behind| *behind != talktrack::stats::Lag::default());
        let behind = behind.map(|behind| {
            format!(
                "Still being counted: {} messages, {} changes, {} five-minute buckets.",
                group_digits(behind.messages),
                group_digits(behind.changes),
                behind.stale_buckets
            )
        });
        Self { cards: summary_cards(&total, letters), charts, behind }
    }
}

fn summary_cards(total: &StatsBucket, letters: Option<&[u64]>) -> Vec<(&'static str, String)> {
    let e2e = find_distribution(total, "e2e_ms");
    let part = |numbers: &DdSketch, part, show: fn(f64) -> String| {
        numbers.quantile(part).map_or_else(|| "–".to_owned(), show)
    };
    let mut cards = vec![
        ("Conversations", group_digits(total.sessions.begun)),
        ("Messages", group_digits(total.messages.total())),
        ("Interruptions", group_digits(total.messages.interruptions)),
        ("Duration, p50", part(&total.sessions.duration_seconds, 0.5, format_duration)),
        ("Answer, p50", part(&e2e, 0.5, format_ms)),
        ("Answer, p95", part(&e2e, 0.95, format_ms)),
    ];
    if let Some(letters) = letters {
        cards.push(("Dead letters", group_digits(letters.iter().sum())));
    }
    cards
}

fn format_ms(ms: f64) -> String {
    format!("{ms:.0} ms")
}

fn new_series(name: &'static str, values: Vec<Option<f64>>) -> Series {
    Series { name, values }
}

fn percentile_series(stats: &Stats, measure: &str) -> Vec<Series> {
    [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]
        .map(|(name, part)| {
            new_series(
                name,
                stats
                    .buckets
                    .iter()
                    .map(|bucket| find_distribution(bucket, measure).quantile(part))
                    .collect(),
            )
        })
        .into()
}

fn find_distribution(tally: &StatsBucket, measure: &str) -> DdSketch {
    tally
        .messages
        .metrics()
        .find(|(key, _)| *key == measure)
        .map(|(_, numbers)| numbers.clone())
        .unwrap_or_default()
}

fn duration_axis() -> XAxis {
    XAxis::from_names(&DURATIONS.map(|(name, _)| name))
}

fn duration_series(numbers: &DdSketch) -> Series {
    let mut before = 0;
    let values = DURATIONS.iter().map(|(_, end)| {
        let up_to = if end.is_finite() { numbers.count_up_to(*end) } else { numbers.len() };
        let within = up_to.saturating_sub(std::mem::replace(&mut before, up_to));
        Some(to_f64(within))
    });
    new_series("conversations", values.collect())
}

#[expect(clippy::cast_precision_loss, reason = "a bar's height need not be exact beyond 2^53")]
fn to_f64(number: u64) -> f64 {
    number as f64
}

/// Returns the name of a measure for people.
fn measure_label(measure: &str) -> &'static str {
    match measure {
        "stt_ms" => "Transcript (stt_ms)",
        "eou_ms" => "End of speech (eou_ms)",
        "llm_ttft_ms" => "First token of the model (llm_ttft_ms)",
        "tts_ttfb_ms" => "First sound (tts_ttfb_ms)",
        "heard_ms" => "Heard of the answer (heard_ms)",
        "input_tokens" => "Tokens in (input_tokens)",
        "output_tokens" => "Tokens out (output_tokens)",
        "confidence" => "Confidence of the transcript (confidence)",
        _ => "Time to the answer (e2e_ms)",
    }
}
