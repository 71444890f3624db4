//! Standard output, whose reader may close it early (`talktrack tail | head`). This is not an error: the command ends
//! silently.

use std::collections::HashSet;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

use crate::error::Failure;
use crate::terminal::View;
use crate::visible;

/// Why a command stops early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The reader of standard output has closed it.
    ReaderGone,
    /// Something went wrong.
    Failed(Failure),
}

impl Stop {
    /// Converts this to the outcome of the command. A closed standard output is a success.
    pub(crate) fn into_outcome(self) -> Result<ExitCode, Failure> {
        match self {
            Self::ReaderGone => Ok(ExitCode::SUCCESS),
            Self::Failed(failure) => Err(failure),
        }
    }
}

impl<E: Into<Failure>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Returns when the reader closes standard output, for commands that rarely write. Never returns if standard output
/// cannot be watched, such as a file.
pub(crate) async fn wait_until_reader_gone() {
    // The descriptor is only watched, never written to, so it may stay in blocking mode.
    if let Ok(descriptor) = io::stdout().as_fd().try_clone_to_owned()
        && let Ok(pipe) = Sender::from_owned_fd_unchecked(descriptor)
        && pipe.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Ends a command with its results, as one line of JSON or as text.
pub(crate) fn print_summary(
    json: bool,
    summary: &impl Serialize,
    describe: impl FnOnce(View) -> String,
    code: ExitCode,
) -> Result<ExitCode, Failure> {
    let mut output = Output::stdout();
    let written =
        if json { output.write_json(summary) } else { output.write_line(&describe(View::for_stdout())) };
    match written.and_then(|()| output.flush()) {
        Ok(()) | Err(Stop::ReaderGone) => Ok(code),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

/// The maximum number of different warnings that a command prints.
const MAX_WARNINGS: usize = 50;

/// Which warnings a command has printed. A file with a million lines may have the same warning about each of them.
#[derive(Debug, Default)]
pub(crate) struct WarningLog(Mutex<HashSet<String>>);

impl WarningLog {
    /// True if the warning should be printed: it is new, and not too many were printed.
    pub(crate) fn is_news(&self, warning: &str) -> bool {
        let mut printed = self.0.lock();
        printed.len() < MAX_WARNINGS && printed.insert(warning.to_owned())
    }
}

/// The output of a command.
pub(crate) struct Output {
    target: Box<dyn Write>,
    /// True for a terminal: text from others must then not control the terminal.
    is_terminal: bool,
}

impl Output {
    /// Returns standard output.
    pub(crate) fn stdout() -> Self {
        Self { is_terminal: io::stdout().is_terminal(), ..Self::to_writer(io::stdout()) }
    }

    /// Returns the output to a file or any other writer.
    pub(crate) fn to_writer(target: impl Write + 'static) -> Self {
        Self { target: Box::new(BufWriter::with_capacity(1 << 16, target)), is_terminal: false }
    }

    /// Writes one line.
    pub(crate) fn write_line(&mut self, text: &str) -> Result<(), Stop> {
        self.write_text(text).and_then(|()| self.write_text("\n"))
    }

    /// Writes text unchanged, or for a terminal with harmful characters made visible.
    pub(crate) fn write_text(&mut self, text: &str) -> Result<(), Stop> {
        let text = if self.is_terminal { visible::escape_except_dim(text) } else { text.into() };
        self.target.write_all(text.as_bytes()).map_err(|error| stop_for(&error))
    }

    /// Writes a value as one line of JSON.
    pub(crate) fn write_json(&mut self, value: &impl Serialize) -> Result<(), Stop> {
        if self.is_terminal {
            let json = serde_json::to_string(value).map_err(|error| stop_for(&error.into()))?;
            return self.write_line(&visible::escape_json(&json));
        }
        serde_json::to_writer(&mut self.target, value).map_err(|error| stop_for(&error.into()))?;
        self.target.write_all(b"\n").map_err(|error| stop_for(&error))
    }

    /// Flushes what was written so far.
    pub(crate) fn flush(&mut self) -> Result<(), Stop> {
        self.target.flush().map_err(|error| stop_for(&error))
    }
}

fn stop_for(error: &io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Stop::ReaderGone,
        _ => Stop::Failed(Failure::new(format_args!("cannot write the output: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    fn write_to(kind: io::ErrorKind) -> Stop {
        let mut output = Output::to_writer(Broken(kind));
        output.write_json(&[1, 2]).and_then(|()| output.flush()).unwrap_err()
    }

    #[test]
    fn a_reader_that_left_is_no_failure_and_a_full_disk_is_one() {
        assert_eq!(write_to(io::ErrorKind::BrokenPipe), Stop::ReaderGone);
        assert!(matches!(write_to(io::ErrorKind::StorageFull), Stop::Failed(_)));
    }
}
