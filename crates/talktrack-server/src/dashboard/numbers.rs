//! `/stats`: statistics over time as cards and charts: how many, how long, how fast.

use std::time::Duration;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use talktrack::Timestamp;
use talktrack::clock::{Clock as _, SystemClock};
use talktrack::stats::{Distribution, MEASURES, Range, Stats, Tally};
use uuid::Uuid;

use super::chart::{Along, Chart, Series};
use super::page::{Frame, Here, Trouble, shown};
use super::visitor::Visitor;
use super::words::{duration, grouped};
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
pub(super) struct Wanted {
    range: String,
    from: String,
    to: String,
    measure: String,
    user: String,
}

#[derive(Template)]
#[template(path = "numbers.html")]
struct NumbersPage {
    frame: Frame,
    wanted: Wanted,
    trouble: Option<String>,
    numbers: Option<Numbers>,
}

/// The statistics for the template.
struct Numbers {
    cards: Vec<(&'static str, String)>,
    charts: Vec<Chart>,
    /// What is not counted yet.
    behind: Option<String>,
}

/// Returns the page with the statistics of a range.
pub(super) async fn page(
    State(state): State<AppState>,
    visitor: Visitor,
    Query(mut wanted): Query<Wanted>,
) -> Result<Response, Trouble> {
    if !MEASURES.contains(&wanted.measure.as_str()) {
        "e2e_ms".clone_into(&mut wanted.measure);
    }
    let counted = count(&state, &visitor, &wanted).await;
    let (status, trouble, numbers) = match counted {
        Ok(numbers) => (StatusCode::OK, None, Some(numbers)),
        Err(problem) => (problem.status(), Some(problem.into_detail()), None),
    };
    let frame = Frame::of(&visitor, Here::Numbers);
    Ok(shown(status, &NumbersPage { frame, wanted, trouble, numbers }))
}

async fn count(state: &AppState, visitor: &Visitor, wanted: &Wanted) -> Result<Numbers, Problem> {
    let user = Some(wanted.user.trim()).filter(|user| !user.is_empty()).map(str::parse::<Uuid>).transpose();
    let user = user.map_err(|_| Problem::invalid("User: must be a whole user id (a UUID)"))?;
    let range = wanted.range()?;
    let (stats, letters) = api::stats::read_stats(state, &visitor.caller, user, &range).await?;
    Ok(Numbers::of(&stats, letters.as_deref(), &wanted.measure))
}

impl Wanted {
    fn range(&self) -> Result<Range, Problem> {
        let now = SystemClock.now();
        let day = |field: &str, name: &str| super::sessions::day(field, name);
        let (from, to) = (day(&self.from, "From")?, day(&self.to, "To")?);
        let until = to.map(|day| day.plus(Duration::from_secs(24 * HOUR)));
        let since = from.or_else(|| until.is_none().then(|| self.since(now)));
        Range::new(since, until, None, now).map_err(Problem::invalid)
    }

    fn since(&self, now: Timestamp) -> Timestamp {
        let hours = RANGES.iter().find(|(name, ..)| *name == self.named()).map_or(24, |(.., hours)| *hours);
        now.minus(Duration::from_secs(hours * HOUR))
    }

    /// Returns the name of the selected range that ends now; empty if the form gives days instead.
    fn named(&self) -> &str {
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
        MEASURES.into_iter().map(|measure| (measure, called(measure)))
    }
}

impl Numbers {
    fn of(stats: &Stats, letters: Option<&[u64]>, measure: &str) -> Self {
        let along = Along::time(stats.stretches().map(|(at, _)| at), stats.range.grain());
        let number = |of: &dyn Fn(&Tally) -> u64| {
            stats.stretches.iter().map(|tally| Some(real(of(tally)))).collect::<Vec<_>>()
        };
        let total = stats.total();
        let mut charts = vec![
            Chart::bars(
                "Conversations",
                &along,
                &series("conversations", number(&|tally| tally.sessions.begun)),
            ),
            Chart::bars("Messages", &along, &series("messages", number(&|tally| tally.messages.total()))),
            Chart::lines(called(measure), &along, &percentiles(stats, measure)),
            Chart::bars(
                "How long conversations last",
                &durations_along(),
                &durations(&total.sessions.duration_seconds),
            ),
            Chart::bars(
                "Interruptions",
                &along,
                &series("interruptions", number(&|tally| tally.messages.interruptions)),
            ),
        ];
        if let Some(letters) = letters {
            let values = letters.iter().map(|letters| Some(real(*letters))).collect();
            charts.push(Chart::bars("Dead letters", &along, &series("dead letters", values)));
        }
        let behind = Some(stats.behind).filter(|behind| *behind != talktrack::stats::Behind::default());
        let behind = behind.map(|behind| {
            format!(
                "Still being counted: {} messages, {} changes, {} stretches of five minutes.",
                grouped(behind.messages),
                grouped(behind.changes),
                behind.slices
            )
        });
        Self { cards: cards(&total, letters), charts, behind }
    }
}

fn cards(total: &Tally, letters: Option<&[u64]>) -> Vec<(&'static str, String)> {
    let e2e = of(total, "e2e_ms");
    let part = |numbers: &Distribution, part, show: fn(f64) -> String| {
        numbers.quantile(part).map_or_else(|| "–".to_owned(), show)
    };
    let mut cards = vec![
        ("Conversations", grouped(total.sessions.begun)),
        ("Messages", grouped(total.messages.total())),
        ("Interruptions", grouped(total.messages.interruptions)),
        ("Duration, p50", part(&total.sessions.duration_seconds, 0.5, duration)),
        ("Answer, p50", part(&e2e, 0.5, milliseconds)),
        ("Answer, p95", part(&e2e, 0.95, milliseconds)),
    ];
    if let Some(letters) = letters {
        cards.push(("Dead letters", grouped(letters.iter().sum())));
    }
    cards
}

fn milliseconds(ms: f64) -> String {
    format!("{ms:.0} ms")
}

fn series(name: &'static str, values: Vec<Option<f64>>) -> Series {
    Series { name, values }
}

fn percentiles(stats: &Stats, measure: &str) -> Vec<Series> {
    [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]
        .map(|(name, part)| {
            series(name, stats.stretches.iter().map(|tally| of(tally, measure).quantile(part)).collect())
        })
        .into()
}

fn of(tally: &Tally, measure: &str) -> Distribution {
    tally
        .messages
        .metrics()
        .find(|(key, _)| *key == measure)
        .map(|(_, numbers)| numbers.clone())
        .unwrap_or_default()
}

fn durations_along() -> Along {
    Along::names(&DURATIONS.map(|(name, _)| name))
}

fn durations(numbers: &Distribution) -> Series {
    let mut before = 0;
    let values = DURATIONS.iter().map(|(_, end)| {
        let up_to = if end.is_finite() { numbers.up_to(*end) } else { numbers.len() };
        let within = up_to.saturating_sub(std::mem::replace(&mut before, up_to));
        Some(real(within))
    });
    series("conversations", values.collect())
}

#[expect(clippy::cast_precision_loss, reason = "a bar's height need not be exact beyond 2^53")]
fn real(number: u64) -> f64 {
    number as f64
}

/// Returns the name of a measure for people.
fn called(measure: &str) -> &'static str {
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
