//! The destinations of log lines. A separate thread writes to each sink, so that a slow terminal or disk never delays
//! the thread that logs, which may be the journal's. Lines that a sink cannot accept in time are lost and counted.

use std::io::Write;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;

use super::format::{Look, json_line, text_line};
use crate::config::LogFormat;
use crate::error::Failure;

/// The maximum number of lines that wait for one sink: about a second's worth at the highest rates. Each slot takes 40
/// bytes in advance.
const WAITING_LINES: usize = 32_768;

/// The log: a layer that writes each event as one line to every sink.
pub(super) struct Log {
    format: LogFormat,
    sinks: Vec<Sink>,
}

/// One destination of log lines.
pub(super) struct Sink {
    writer: NonBlocking,
    look: Look,
}

impl Sink {
    /// Makes a sink. Dropping the guard waits until all lines are written.
    pub(super) fn to_writer(writer: impl Write + Send + 'static, look: Look) -> (Self, WorkerGuard) {
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES);
        let (writer, guard) = builder.thread_name("talktrack-log").finish(writer);
        (Self { writer, look }, guard)
    }

    /// Returns the counter of lines that this sink has lost.
    pub(super) fn lost_lines(&self) -> ErrorCounter {
        self.writer.error_counter()
    }
}

impl Log {
    pub(super) fn new(format: LogFormat, sinks: Vec<Sink>) -> Self {
        Self { format, sinks }
    }

    /// Installs this as the log of the process. The level applies to talktrack's own events; events of other crates are
    /// logged from warnings on.
    pub(super) fn install(self, level: LevelFilter) -> Result<(), Failure> {
        let others = level.min(LevelFilter::WARN);
        // The writer itself logs each lost connection with its cause, so these crates log only errors.
        let told_already = level.min(LevelFilter::ERROR);
        let filter = Targets::new().with_default(others).with_target("talktrack", level);
        let filter = ["deadpool", "tokio_postgres"]
            .iter()
            .fold(filter, |filter, name| filter.with_target(*name, told_already));
        let subscriber = Registry::default().with(filter).with(self);
        tracing::subscriber::set_global_default(subscriber).map_err(Failure::new)
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        for sink in &self.sinks {
            let line = match self.format {
                LogFormat::Text => text_line(event, sink.look),
                LogFormat::Json => json_line(event),
            };
            // The sink counts a line that it cannot accept, so the error is ignored.
            let _ = sink.writer.clone().write_all(line.as_bytes());
        }
    }
}
