//! Where log lines go. Each sink has a thread of its own that writes, so that a slow terminal or disk never holds up the
//! thread that logs (it may be the journal's). What such a sink cannot take in time is lost, and counted.

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

/// Lines that may wait for one sink: a second's worth at the highest rates. Each place costs 40 bytes in advance.
const WAITING_LINES: usize = 32_768;

/// The log: a layer that writes each event as one line to every sink.
pub(super) struct Log {
    format: LogFormat,
    sinks: Vec<Sink>,
}

/// One place where lines go.
pub(super) struct Sink {
    writer: NonBlocking,
    look: Look,
}

impl Sink {
    /// Whoever drops the guard waits until everything logged is written there.
    pub(super) fn to(writer: impl Write + Send + 'static, look: Look) -> (Self, WorkerGuard) {
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES);
        let (writer, guard) = builder.thread_name("talktrack-log").finish(writer);
        (Self { writer, look }, guard)
    }

    /// Counts the lines that were lost here.
    pub(super) fn lost_lines(&self) -> ErrorCounter {
        self.writer.error_counter()
    }
}

impl Log {
    pub(super) fn new(format: LogFormat, sinks: Vec<Sink>) -> Self {
        Self { format, sinks }
    }

    /// Makes it the log of this process. The level is for talktrack's own events; others speak up from a warning on.
    pub(super) fn install(self, level: LevelFilter) -> Result<(), Failure> {
        let others = level.min(LevelFilter::WARN);
        // The writer tells of each lost connection in its own words, with the cause.
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
            // A line that finds no place is counted by the sink; there is nobody else to tell.
            let _ = sink.writer.clone().write_all(line.as_bytes());
        }
    }
}
