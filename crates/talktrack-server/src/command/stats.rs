//! `talktrack stats`: counts sessions and messages over time, with their durations and measurements.

use std::process::ExitCode;

use serde_json::Value;
use talktrack::{StoredTime, UserId};

use super::Outcome;
use super::filter::PeriodArgs;
use super::source::{SourceArgs, StatsQuery};
use crate::api::stats::Step;
use crate::output::{Output, Stop};
use crate::terminal::{self, View};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    period: PeriodArgs,
    /// The length of the steps that --json prints; by default, it suits the length of the period
    #[arg(long, value_enum, requires = "json")]
    step: Option<Step>,
    /// Only sessions of this user
    #[arg(long, value_name = "UUID")]
    user: Option<UserId>,
    /// Print the answer of `GET /v1/stats`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs the command.
pub(crate) async fn run(args: StatsArgs) -> Outcome {
    show_stats(args).await.map_or_else(Stop::into_outcome, |()| Ok(ExitCode::SUCCESS))
}

async fn show_stats(args: StatsArgs) -> Result<(), Stop> {
    let PeriodArgs { since, until } = args.period;
    let query = StatsQuery { since, until, step: args.step, user: args.user.as_ref() };
    let stats = args.source.open()?.stats(&query).await?;
    let mut output = Output::stdout();
    if args.json {
        output.write_json(&stats)?;
    } else {
        let view = View::for_stdout();
        let moment = |key: &str| {
            let time = stats[key].as_str().and_then(|text| text.parse().ok()).map(StoredTime::Known);
            time.as_ref().map_or_else(String::new, terminal::format_time)
        };
        output.write_line(&format!("from {} until {}", moment("since"), moment("until")))?;
        output.write_line("")?;
        output.write_line(&render_counts(&stats["totals"], view))?;
        output.write_line("")?;
        output.write_line(&render_distributions(&stats["totals"], view))?;
        if let Some(told) = describe_lag(&stats["behind"]) {
            output.flush()?;
            eprintln!("{told}");
        }
    }
    output.flush()
}

fn render_counts(totals: &Value, view: View) -> String {
    let mut table = terminal::new_table(view, &["what", ">count"]);
    let sessions = ["begun", "active", "ended", "abandoned"].map(|key| (key, &totals["sessions"][key]));
    let messages = ["user", "assistant", "system", "developer", "tool"];
    let messages = messages.map(|key| (key, &totals["messages"][key]));
    for (key, number) in sessions {
        table.add_row([format!("sessions {key}"), format_number(number)]);
    }
    table.add_row(["messages".to_owned(), format_number(&totals["messages"]["total"])]);
    for (key, number) in messages.into_iter().filter(|(_, number)| number.as_u64() != Some(0)) {
        table.add_row([format!("  of {key}"), format_number(number)]);
    }
    table.add_row(["interruptions".to_owned(), format_number(&totals["interruptions"])]);
    if !totals["dead_letters"].is_null() {
        table.add_row(["dead letters".to_owned(), format_number(&totals["dead_letters"])]);
    }
    table.trim_fmt()
}

fn render_distributions(totals: &Value, view: View) -> String {
    let heads = ["measured", ">count", ">p50", ">p95", ">p99", ">max"];
    let mut table = terminal::new_table(view, &heads);
    let duration = ("duration (seconds)", &totals["duration_seconds"]);
    let metrics = totals["metrics"].as_object().into_iter().flatten();
    let metrics = metrics.map(|(key, spread)| (key.as_str(), spread));
    for (key, spread) in std::iter::once(duration).chain(metrics) {
        let numbers = ["count", "p50", "p95", "p99", "max"].map(|name| format_number(&spread[name]));
        let name = terminal::escape_line(key).into_owned();
        table.add_row(std::iter::once(name).chain(numbers));
    }
    table.trim_fmt()
}

/// Says what is not counted yet; `None` if the figures are complete.
fn describe_lag(behind: &Value) -> Option<String> {
    let parts = [("messages", "messages"), ("changes", "changes"), ("slices", "five-minute buckets")];
    let number = |key: &str| behind[key].as_u64().filter(|number| *number > 0);
    let parts: Vec<_> =
        parts.iter().filter_map(|(key, name)| Some(format!("{} {name}", number(key)?))).collect();
    (!parts.is_empty())
        .then(|| format!("not counted yet: {}; a running server counts them", parts.join(", ")))
}

fn format_number(number: &Value) -> String {
    match (number.as_u64(), number.as_f64()) {
        (Some(whole), _) => whole.to_string(),
        (None, Some(fraction)) if fraction < 10.0 => format!("{fraction:.3}"),
        (None, Some(fraction)) => format!("{fraction:.1}"),
        (None, None) => "-".to_owned(),
    }
}
