//! Telemetry of the server: its log and its metrics.

mod process;
mod prometheus;
mod log;
mod format;

use std::io::{IsTerminal as _, stdout};
use std::path::Path;
use std::time::Duration;

use format::Look;
use log::{Log, Sink};
use metrics::counter;
use metrics_exporter_prometheus::PrometheusHandle;
use talktrack::permissions;
use tokio::task::AbortHandle;
use tracing_appender::non_blocking::{ErrorCounter, WorkerGuard};

use crate::config::Config;
use crate::error::Failure;

/// How often histograms are maintained and lost log lines are counted.
const UPKEEP: Duration = Duration::from_secs(5);

/// The log and the metrics of this process. Dropping it writes the remaining log lines.
#[derive(Debug)]
pub(crate) struct Telemetry {
    metrics: PrometheusHandle,
    upkeep: AbortHandle,
    _guards: Vec<WorkerGuard>,
}

impl Telemetry {
    /// Starts the log and the metrics as the settings say. This must come before any counter is created, because
    /// counters look up their recorder at creation.
    ///
    /// # Errors
    /// Fails if the log file cannot be opened.
    pub(crate) fn start(config: &Config) -> Result<Self, Failure> {
        let metrics = prometheus::install_recorder()?;
        let look = if stdout().is_terminal() { Look::Coloured } else { Look::Plain };
        let mut outlets = vec![Sink::to_writer(stdout(), look)];
        if let Some(path) = &config.log_file {
            outlets.push(Sink::to_writer(open_log_file(path)?, Look::Plain));
        }
        let (sinks, guards): (Vec<_>, _) = outlets.into_iter().unzip();
        let lost = sinks.iter().map(Sink::lost_lines).collect();
        Log::new(config.log_format, sinks).install(config.log_level)?;
        let upkeep = tokio::spawn(run_upkeep(metrics.clone(), lost)).abort_handle();
        Ok(Self { metrics, upkeep, _guards: guards })
    }

    pub(crate) fn metrics(&self) -> PrometheusHandle {
        self.metrics.clone()
    }
}

/// Updates the metrics of this process: processor time, memory, open files.
pub(crate) fn collect_process_metrics() {
    process::collect_metrics();
}

/// Returns the metrics of a command that uses the parts of a server, and serves none.
pub(crate) fn unread_metrics() -> PrometheusHandle {
    prometheus::unread()
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}

fn open_log_file(path: &Path) -> Result<std::fs::File, Failure> {
    let opened = permissions::private_file().create(true).append(true).open(path);
    if let Err(error) = permissions::tighten(path) {
        eprintln!("talktrack: other users may read {}: {error}", path.display());
    }
    opened.map_err(|error| Failure::usage(format!("log_file: cannot open {}: {error}", path.display())))
}

async fn run_upkeep(metrics: PrometheusHandle, lost: Vec<ErrorCounter>) {
    let lines = counter!(prometheus::LOG_LINES_LOST);
    let mut ticks = tokio::time::interval(UPKEEP);
    let mut known = 0;
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
        let total = lost.iter().map(|sink| u64::try_from(sink.dropped_lines()).unwrap_or(u64::MAX)).sum();
        lines.absolute(total);
        if total > known {
            tracing::warn!(
                "{} log lines were lost: they came faster than they could be written",
                total - known
            );
            known = total;
        }
    }
}
