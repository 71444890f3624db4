//! The report of a replay: counters while it runs, a progress bar, and a summary at the end.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use serde::Serialize;
use talktrack::MessageId;

use super::recording::ReplayInput;
use crate::error::Failure;
use crate::output::WarningLog;
use crate::terminal::{self, View};
use crate::visible;

/// The maximum number of complaints that are printed. More would hide the first, which is the most informative.
const COMPLAINTS: u64 = 10;

/// The counters of all connections together.
pub(super) struct ReplayReport {
    sessions: u64,
    messages: u64,
    acked: AtomicU64,
    refused: AtomicU64,
    retried: AtomicU64,
    lost: AtomicU64,
    complaints: AtomicU64,
    warnings: WarningLog,
    /// The file to which the id of each acknowledged message is appended.
    ledger: Option<Mutex<File>>,
    bar: ProgressBar,
}

/// The results, for programs.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct ReplaySummary {
    sessions: u64,
    messages: u64,
    acked: u64,
    refused: u64,
    retried: u64,
    lost: u64,
    /// The number of complaints of any kind, including those beyond the first few, which were not printed.
    complaints: u64,
    seconds: f64,
    messages_per_second: f64,
    ack_p50_ms: f64,
    ack_p99_ms: f64,
}

impl ReplayReport {
    /// Makes an empty report.
    ///
    /// # Errors
    /// Fails if the file for acknowledged ids cannot be opened.
    pub(super) fn new(recording: &ReplayInput, ledger: Option<&Path>) -> Result<Self, Failure> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.map_err(|error| {
                Failure::new(format_args!("--acked: cannot write {}: {error}", path.display()))
            })
        };
        let bar =
            ProgressBar::with_draw_target(Some(recording.messages), ProgressDrawTarget::stderr_with_hz(5));
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} acked, {per_sec}, {eta} to go")
        {
            bar.set_style(style);
        }
        Ok(Self {
            sessions: u64::try_from(recording.sessions.len()).unwrap_or(u64::MAX),
            messages: recording.messages,
            acked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            complaints: AtomicU64::new(0),
            warnings: WarningLog::default(),
            ledger: ledger.map(open).transpose()?.map(Mutex::new),
            bar,
        })
    }

    /// Counts durable messages. Their ids are in the file when this returns.
    pub(super) fn acked(&self, ids: &[MessageId]) {
        if let Some(ledger) = &self.ledger {
            let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
            if let Err(error) = ledger.lock().write_all(text.as_bytes()) {
                self.complain(format_args!("--acked: cannot write: {error}"));
            }
        }
        let count = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        self.acked.fetch_add(count, Ordering::Relaxed);
        self.bar.inc(count);
    }

    /// Counts a permanently refused message.
    pub(super) fn refused(&self, why: impl Display) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.complain(why);
    }

    /// Counts a message that is sent again.
    pub(super) fn retried(&self) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts messages that will not be answered.
    pub(super) fn lost(&self, messages: u64, why: impl Display) {
        self.lost.fetch_add(messages, Ordering::Relaxed);
        self.complain(why);
    }

    /// Prints a warning about a durable message, unless it was printed before.
    pub(super) fn warn(&self, warning: &str) {
        if self.warnings.is_news(warning) {
            self.bar.suspend(|| eprintln!("warning: {}", visible::escape_line(warning)));
        }
    }

    /// Counts a complaint, and prints it if it is among the first.
    pub(super) fn complain(&self, what: impl Display) {
        if self.complaints.fetch_add(1, Ordering::Relaxed) < COMPLAINTS {
            self.bar.suspend(|| eprintln!("{}", visible::escape_line(&what.to_string())));
        }
    }

    /// Removes the progress bar and returns the results.
    pub(super) fn summarize(&self, took: Duration, latencies: &Histogram<u64>) -> ReplaySummary {
        self.bar.finish_and_clear();
        let untold = self.complaints.load(Ordering::Relaxed).saturating_sub(COMPLAINTS);
        if untold > 0 {
            eprintln!("and {untold} more");
        }
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let acked = read(&self.acked);
        ReplaySummary {
            sessions: self.sessions,
            messages: self.messages,
            acked,
            refused: read(&self.refused),
            retried: read(&self.retried),
            lost: read(&self.lost),
            complaints: read(&self.complaints),
            seconds: took.as_secs_f64(),
            messages_per_second: to_f64(acked) / took.as_secs_f64().max(1e-9),
            ack_p50_ms: to_f64(latencies.value_at_quantile(0.5)) / 1e3,
            ack_p99_ms: to_f64(latencies.value_at_quantile(0.99)) / 1e3,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people; nobody counts 2^53 messages")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

impl ReplaySummary {
    /// True if every message is durable and there were no complaints.
    pub(super) fn is_complete(&self) -> bool {
        self.acked == self.messages && self.complaints == 0
    }

    /// Formats the results as a table for people.
    pub(super) fn describe(&self, view: View) -> String {
        let mut table = terminal::new_table(view, &["what", ">count"]);
        for (what, figure) in [
            ("sessions", self.sessions.to_string()),
            ("messages", self.messages.to_string()),
            ("acked", self.acked.to_string()),
            ("refused", self.refused.to_string()),
            ("retried", self.retried.to_string()),
            ("lost", self.lost.to_string()),
            ("seconds", format!("{:.2}", self.seconds)),
            ("messages/s", format!("{:.0}", self.messages_per_second)),
            ("ack p50 ms", format!("{:.2}", self.ack_p50_ms)),
            ("ack p99 ms", format!("{:.2}", self.ack_p99_ms)),
        ] {
            table.add_row([what, &figure]);
        }
        table.trim_fmt()
    }
}
