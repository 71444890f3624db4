//! JSONL files: one frame a line. They are read as a stream, with line numbers, which people need to find an invalid
//! line.

use std::fmt;
use std::io::{self, BufRead};

/// The maximum length of a line; a longer one is skipped. The largest valid message (1 MiB) takes at most six bytes of
/// JSON for each of its own.
const MAX_LINE_BYTES: usize = 8 << 20;

/// The lines of a file in order. Blank lines are skipped.
pub struct Lines<R> {
    input: R,
    name: String,
    number: u64,
    buffer: Vec<u8>,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line<'a> {
    /// The place of the line.
    pub place: LinePosition<'a>,
    /// The text, or why the line is unreadable.
    pub text: Result<&'a str, &'static str>,
}

/// A place in a file. `Display` gives `file:line`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinePosition<'a> {
    /// The file's name.
    pub file: &'a str,
    /// The line's number, from 1.
    pub line: u64,
}

impl fmt::Display for LinePosition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl<R: BufRead> Lines<R> {
    /// Reads lines from any input. `name` is its name in [`LinePosition`].
    pub fn new(input: R, name: impl Into<String>) -> Self {
        Self { input, name: name.into(), number: 0, buffer: Vec::new() }
    }

    /// Returns the next line that is not blank; `None` at the end.
    ///
    /// # Errors
    /// If the input cannot be read; the text names it.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            self.buffer.clear();
            let fits = self.read_line().map_err(|error| self.name_in(&error))?;
            if self.buffer.is_empty() {
                return Ok(None);
            }
            self.number += 1;
            if !fits || !self.buffer.trim_ascii().is_empty() {
                let place = LinePosition { file: &self.name, line: self.number };
                return Ok(Some(Line { place, text: decode_line(&self.buffer, fits) }));
            }
        }
    }

    fn name_in(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("cannot read {}: {error}", self.name))
    }

    /// Reads a line into the buffer. Returns false if the line is too long, so that only its beginning is in the
    /// buffer.
    fn read_line(&mut self) -> io::Result<bool> {
        let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
        let mut limited = io::Read::take(&mut self.input, limit);
        let read = limited.read_until(b'\n', &mut self.buffer)?;
        let fits = read < MAX_LINE_BYTES || self.buffer.ends_with(b"\n");
        if !fits {
            self.input.skip_until(b'\n')?;
        }
        Ok(fits)
    }
}

fn decode_line(line: &[u8], fits: bool) -> Result<&str, &'static str> {
    if !fits {
        return Err("longer than 8 MiB");
    }
    let text = std::str::from_utf8(line).map_err(|_| "not valid UTF-8")?;
    // Some editors begin a file with a byte order mark.
    Ok(text.trim_start_matches('\u{FEFF}').trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<(u64, Result<String, &'static str>)> {
        let mut lines = Lines::new(bytes, "f");
        let mut read = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            read.push((line.place.line, line.text.map(str::to_owned)));
        }
        read
    }

    #[test]
    fn lines_keep_their_numbers_where_blank_ones_are_passed_over() {
        let read = read("\u{FEFF}{\"a\":1}\r\n\n  \t\n{}".as_bytes());
        assert_eq!(read, [(1, Ok("{\"a\":1}".into())), (4, Ok("{}".into()))]);
    }

    #[test]
    fn a_line_that_is_no_text_or_too_long_does_not_stop_the_next_one() {
        let mut bytes = b"\xff\n".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', MAX_LINE_BYTES + 1));
        bytes.extend(b"\n{}\n");
        let expected = [(1, Err("not valid UTF-8")), (2, Err("longer than 8 MiB")), (3, Ok("{}".into()))];
        assert_eq!(read(&bytes), expected);
    }

    #[test]
    fn a_place_reads_as_editors_know_it() {
        assert_eq!(LinePosition { file: "conv.jsonl", line: 7 }.to_string(), "conv.jsonl:7");
    }
}
