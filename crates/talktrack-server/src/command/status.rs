//! `talktrack status`: says whether a server runs and is ready, and how many messages it has and still has to deliver.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use talktrack::store::sqlite::BooksCheck;
use talktrack_client::api::{ApiClient, RequestError};

use super::Outcome;
use super::source::SourceArgs;
use crate::config::Config;
use crate::error::Failure;
use crate::output::print_summary;
use crate::serve;
use crate::store;
use crate::terminal;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The exit code is 0 if a server answers and is ready, otherwise 1. With --url, the token needs the scope metrics \
    to see causes and figures."
)]
pub(crate) struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// What is known.
#[derive(Debug, Serialize)]
struct StatusReport {
    /// The URL of the server; null if the data directory names none.
    url: Option<String>,
    /// True if messages would become durable and stored now.
    ready: bool,
    /// Why not.
    causes: Vec<String>,
    warnings: Vec<String>,
    /// Null if the figures cannot be read.
    messages: Option<MessageFigures>,
    /// The damaged databases that are kept; null if it is not known.
    quarantines: Option<u64>,
}

/// How many messages there are.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct MessageFigures {
    durable: u64,
    stored: u64,
    /// Dead letters that were neither replayed nor dropped.
    dead_letters: u64,
    pending: u64,
}

/// The answer of `GET /readyz`.
#[derive(Debug, Default, Deserialize)]
struct Readiness {
    status: String,
    #[serde(default)]
    causes: Vec<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

/// Runs the command.
pub(crate) async fn run(args: StatusArgs) -> Outcome {
    let report = match args.source.server()? {
        Some(api) => ask_url(&api).await?,
        None => look_in_directory(&args).await?,
    };
    let code = if report.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    print_summary(args.json, &report, |_| report.describe(), code)
}

/// Asks the server at a URL.
async fn ask_url(api: &ApiClient) -> Result<StatusReport, Failure> {
    let readiness = read_readiness(api).await?;
    let metrics = api.get_text("/metrics").await?;
    let page = metrics.status.is_success().then_some(metrics.body);
    let report = StatusReport::new(Some(api.url().to_owned()), readiness);
    Ok(StatusReport {
        messages: page.as_deref().and_then(MessageFigures::from_metrics),
        quarantines: page.as_deref().and_then(|page| read_metric(page, "quarantines")),
        ..report
    })
}

/// Reads the figures of a data directory, and asks the server that uses it.
async fn look_in_directory(args: &StatusArgs) -> Result<StatusReport, Failure> {
    let config = args.source.location().load()?;
    let figures = store::open_file(&config.local_file())?.check_books().await?;
    let url = serve::read_listen_address(&config.data_dir).map(|address| format!("http://{address}"));
    let asked = match &url {
        None => Err("no server uses this data directory".to_owned()),
        Some(url) => {
            let api = ApiClient::new(url, args.source.token().cloned())?;
            read_readiness(&api).await.map_err(|error| Failure::from(error).to_string())
        }
    };
    let readiness = asked.unwrap_or_else(|cause| Readiness { causes: vec![cause], ..Readiness::default() });
    Ok(StatusReport {
        messages: Some(MessageFigures::from_books(&figures)),
        quarantines: Some(count_quarantines(&config)),
        ..StatusReport::new(url, readiness)
    })
}

fn count_quarantines(config: &Config) -> u64 {
    u64::try_from(talktrack::quarantines(&config.local_file()).len()).unwrap_or(u64::MAX)
}

/// Asks a server whether it is ready. The answer "no" comes with the status 503.
async fn read_readiness(api: &ApiClient) -> Result<Readiness, RequestError> {
    let answer = api.get_text("/readyz").await?;
    match serde_json::from_str(&answer.body) {
        Ok(readiness) => Ok(readiness),
        // An answer of another program, or a refusal.
        Err(_) => api.get_as("/readyz").await,
    }
}

impl StatusReport {
    fn new(url: Option<String>, readiness: Readiness) -> Self {
        let Readiness { status, causes, warnings } = readiness;
        Self { url, ready: status == "ready", causes, warnings, messages: None, quarantines: None }
    }

    fn describe(&self) -> String {
        let state = match (&self.url, self.ready) {
            (Some(url), true) => format!("ready     {url}"),
            (Some(url), false) => format!("not ready {url}"),
            (None, _) => "not ready".to_owned(),
        };
        let mut lines = vec![state];
        lines.extend(self.causes.iter().map(|cause| format!("  ✗ {cause}")));
        lines.extend(self.warnings.iter().map(|warning| format!("  ! {warning}")));
        if let Some(MessageFigures { durable, stored, dead_letters, pending }) = &self.messages {
            lines.push(format!(
                "messages  {durable} durable, {stored} stored, {pending} pending, {dead_letters} in dead letters"
            ));
        }
        if let Some(kept @ 1..) = self.quarantines {
            lines.push(format!(
                "damaged databases that are kept: {kept}; see `talktrack quarantine list` and `talktrack verify`"
            ));
        }
        let safe = lines.iter().map(|line| terminal::escape_line(line));
        safe.collect::<Vec<_>>().join("\n")
    }
}

impl MessageFigures {
    fn from_books(check: &BooksCheck) -> Self {
        let BooksCheck { books, pending, letters, .. } = check;
        Self { durable: books.durable, stored: books.stored, dead_letters: *letters, pending: *pending }
    }

    /// Reads the page of `GET /metrics`.
    fn from_metrics(page: &str) -> Option<Self> {
        let dead = read_metric(page, "messages_dead_lettered_total")?;
        Some(Self {
            durable: read_metric(page, "messages_durable_total")?,
            stored: read_metric(page, "messages_stored_total")?,
            dead_letters: dead.saturating_sub(read_metric(page, "dead_letters_taken_out_total")?),
            pending: read_metric(page, "journal_pending")?,
        })
    }
}

fn read_metric(page: &str, name: &str) -> Option<u64> {
    let value =
        |line: &str| line.strip_prefix("talktrack_")?.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    page.lines().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_the_page_of_metrics() {
        let page = "# TYPE talktrack_messages_durable_total counter\ntalktrack_messages_durable_total 9\n\
                    talktrack_messages_stored_total 5\ntalktrack_messages_dead_lettered_total 3\n\
                    talktrack_dead_letters_taken_out_total 1\ntalktrack_journal_pending 1\n";
        let expected = MessageFigures { durable: 9, stored: 5, dead_letters: 2, pending: 1 };
        assert_eq!(MessageFigures::from_metrics(page), Some(expected));
        assert_eq!(MessageFigures::from_metrics("<html>"), None);
    }
}
