//! What people read on a terminal: tables, wrapped text, short times. What others have said is shown, never obeyed: control
//! characters become visible before they reach the terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::IsTerminal as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use talktrack::Timestamp;
use terminal_size::{Width, terminal_size};

/// Text on a terminal is not wrapped narrower than this, however narrow the terminal is.
const NARROWEST: usize = 20;

/// How what is written will be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    /// Columns of the terminal; `None` where it is none, and nothing is wrapped.
    pub(crate) columns: Option<usize>,
    /// Side remarks may be dimmed.
    pub(crate) colour: bool,
}

impl View {
    /// Standard output as it is now.
    pub(crate) fn of_stdout() -> Self {
        if !std::io::stdout().is_terminal() {
            return Self { columns: None, colour: false };
        }
        let columns = terminal_size().map(|(Width(columns), _)| usize::from(columns));
        // https://no-color.org: any value that is not empty.
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { columns: columns.filter(|columns| *columns > 0), colour }
    }

    /// Whether a row of so many characters stays on one line.
    pub(crate) fn fits(self, characters: usize) -> bool {
        self.columns.is_none_or(|columns| columns >= characters)
    }

    /// A side remark.
    pub(crate) fn dim(self, text: &str) -> Cow<'_, str> {
        if self.colour { format!("\x1b[2m{text}\x1b[0m").into() } else { text.into() }
    }

    /// The lines of a text (already [`safe`]) that stands after `indent` characters.
    pub(crate) fn wrap(self, text: &str, indent: usize) -> Vec<Cow<'_, str>> {
        match self.columns {
            Some(columns) => textwrap::wrap(text, columns.saturating_sub(indent).max(NARROWEST)),
            None => text.lines().map(Cow::Borrowed).collect(),
        }
    }
}

/// A table without lines. Columns whose head begins with `>` are aligned to the right.
pub(crate) fn table(view: View, heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(columns) = view.columns {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(u16::try_from(columns).unwrap_or(u16::MAX));
    }
    table.set_header(heads.iter().map(|head| head.trim_start_matches('>').to_uppercase()));
    for (column, head) in table.column_iter_mut().zip(heads) {
        column.set_padding((0, 2));
        if head.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The text with every control character in visible form, so that it cannot move the cursor, change the window's title
/// or turn the line around. Line feeds stay.
pub(crate) fn safe(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return text.into();
    }
    let mut visible = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\t' => visible.push_str("    "),
            // The end of a line as some systems write it; the line feed follows.
            '\r' => visible.push_str("\\r"),
            unsafe_one if is_unsafe(unsafe_one) => {
                // Writing into a string cannot fail.
                let _ = write!(visible, "\\u{{{:x}}}", u32::from(unsafe_one));
            }
            harmless => visible.push(harmless),
        }
    }
    visible.into()
}

/// JSON that stays on its line and is safe on a terminal, and still says the same.
pub(crate) fn safe_json(json: &str) -> Cow<'_, str> {
    let harms = |character: char| character == '\n' || is_unsafe(character);
    if !json.contains(harms) {
        return json.into();
    }
    let mut visible = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        match character {
            // Not in a string, where it would be escaped, but between two values.
            '\t' | '\r' | '\n' => visible.push(' '),
            // Writing into a string cannot fail. No unsafe character needs more than four digits.
            harmful if harms(harmful) => drop(write!(visible, "\\u{:04x}", u32::from(harmful))),
            harmless => visible.push(harmless),
        }
    }
    visible.into()
}

/// The same on one line.
pub(crate) fn safe_line(text: &str) -> Cow<'_, str> {
    match safe(text) {
        lines if lines.contains('\n') => lines.replace('\n', "\\n").into(),
        line => line,
    }
}

fn is_unsafe(character: char) -> bool {
    match character {
        '\n' => false,
        // Line and paragraph separators, marks, embeddings, overrides and isolates of the writing direction.
        '\u{2028}'
        | '\u{2029}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => true,
        _ => character.is_control(),
    }
}

/// The text, or as much of its beginning as fits.
pub(crate) fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some(_) => text.chars().take(characters.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A time, to the second.
pub(crate) fn moment(time: Timestamp) -> String {
    let exact = time.to_string();
    match exact.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => exact,
    }
}

/// A duration, in the two units that matter.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what a u64 holds")]
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1}s");
    }
    let seconds = seconds.clamp(0.0, 1e15) as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        ..3_600 => format!("{minutes}m{:02}s", seconds % 60),
        3_600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_reach_no_terminal() {
        assert_eq!(safe("plain, with ünïcödé 👩‍👩‍👧"), "plain, with ünïcödé 👩‍👩‍👧");
        assert_eq!(safe("\x1b]0;pwned\x07\x1b[2J"), "\\u{1b}]0;pwned\\u{7}\\u{1b}[2J");
        assert_eq!(safe("a\tb\r\nc\u{9b}1m\u{202e}d"), "a    b\\r\nc\\u{9b}1m\\u{202e}d");
        assert_eq!(safe_line("a\nb"), "a\\nb");
    }

    #[test]
    fn json_is_made_safe_and_says_the_same() {
        let json = "{\"a\":\n[\"x\u{9b}\u{202e}\u{7f}ü\"]}";
        let safe = safe_json(json);
        assert_eq!(safe, r#"{"a": ["x\u009b\u202e\u007fü"]}"#);
        let value = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(value(&safe), value(json));
    }

    #[test]
    fn what_does_not_fit_is_cut_with_a_mark() {
        assert_eq!((cut("grüße", 5), cut("grüßen", 5)), ("grüße".to_owned(), "grüß…".to_owned()));
    }

    #[test]
    fn durations_name_the_two_units_that_matter() {
        let read: Vec<_> = [0.0, 45.24, 60.0, 725.0, 7_380.0, 200_000.0].map(duration).into();
        assert_eq!(read, ["0.0s", "45.2s", "1m00s", "12m05s", "2h03m", "2d07h"]);
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(moment("2026-11-23T08:00:00.123456Z".parse().unwrap()), "2026-11-23T08:00:00Z");
    }

    #[test]
    fn text_is_wrapped_on_a_terminal_only() {
        let narrow = View { columns: Some(30), colour: false };
        assert_eq!(narrow.wrap("one two three four five", 10), ["one two three four", "five"]);
        let none = View { columns: None, colour: false };
        assert_eq!(none.wrap("one two three four five\nsix", 10), ["one two three four five", "six"]);
    }
}
