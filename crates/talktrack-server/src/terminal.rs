//! Output for people on a terminal: tables, wrapped text, short times. Control characters in text of others are made
//! visible before they reach the terminal.

use std::borrow::Cow;
use std::io::IsTerminal as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use talktrack::{StoredTime, UserId};
use terminal_size::{Width, terminal_size};

use crate::visible::{DIM, PLAIN};
pub(crate) use crate::visible::{escape_json, escape_line, escape_text};

/// The minimum width of wrapped text, even on a narrower terminal.
const NARROWEST: usize = 20;

/// How the output will be displayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    /// The columns of the terminal; `None` if the output is not a terminal, so that nothing is wrapped.
    pub(crate) columns: Option<usize>,
    /// True if secondary text may be dimmed.
    pub(crate) colour: bool,
}

impl View {
    /// Returns the view of the current standard output.
    pub(crate) fn for_stdout() -> Self {
        if !std::io::stdout().is_terminal() {
            return Self { columns: None, colour: false };
        }
        let columns = terminal_size().map(|(Width(columns), _)| usize::from(columns));
        // https://no-color.org: any value that is not empty.
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { columns: columns.filter(|columns| *columns > 0), colour }
    }

    /// True if a row of this many characters fits on one line.
    pub(crate) fn fits(self, characters: usize) -> bool {
        self.columns.is_none_or(|columns| columns >= characters)
    }

    /// Formats secondary text.
    pub(crate) fn dim(self, text: &str) -> Cow<'_, str> {
        if self.colour { format!("{DIM}{text}{PLAIN}").into() } else { text.into() }
    }

    /// Wraps a text that is already escaped by [`escape_text`] and is displayed after `indent` characters.
    pub(crate) fn wrap(self, text: &str, indent: usize) -> Vec<Cow<'_, str>> {
        match self.columns {
            Some(columns) => textwrap::wrap(text, columns.saturating_sub(indent).max(NARROWEST)),
            None => text.lines().map(Cow::Borrowed).collect(),
        }
    }
}

/// Makes a table without lines. Columns whose heading begins with `>` are aligned to the right.
pub(crate) fn new_table(view: View, heads: &[&str]) -> Table {
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

/// Returns the text, shortened to this many characters if necessary.
pub(crate) fn truncate(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some(_) => text.chars().take(characters.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Formats a time to the second. A time outside the years 0000 to 9999 is returned unchanged.
pub(crate) fn format_time(time: &StoredTime) -> String {
    let exact = time.to_string();
    match (time, exact.split_once('.')) {
        (StoredTime::Known(_), Some((seconds, _))) => format!("{seconds}Z"),
        _ => escape_line(&exact).into_owned(),
    }
}

/// Formats a user's id; a dash if another program left it out.
pub(crate) fn format_user(id: Option<&UserId>) -> String {
    id.map_or_else(|| "-".to_owned(), |id| id.to_string())
}

/// Formats a duration in its two largest units.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what a u64 holds")]
pub(crate) fn format_duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return seconds.to_string();
    }
    if seconds < 60.0 {
        return format!("{seconds:.1}s");
    }
    let seconds = seconds.clamp(0.0, 1e15) as u64;
    let minutes = seconds / 60;
    let hours = seconds / 3_600;
    let days = seconds / 86_400;
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
    fn what_does_not_fit_is_cut_with_a_mark() {
        assert_eq!((truncate("grüße", 5), truncate("grüßen", 5)), ("grüße".to_owned(), "grüß…".to_owned()));
    }

    #[test]
    fn durations_name_the_two_units_that_matter() {
        let read: Vec<_> = [0.0, 45.24, 60.0, 725.0, 7_380.0, 200_000.0].map(format_duration).into();
        assert_eq!(read, ["0.0s", "45.2s", "1m00s", "12m05s", "2h03m", "2d07h"]);
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(
            format_time(&StoredTime::Known("2026-11-23T08:00:00.123456Z".parse().unwrap())),
            "2026-11-23T08:00:00Z"
        );
    }

    #[test]
    fn text_is_wrapped_on_a_terminal_only() {
        let narrow = View { columns: Some(30), colour: false };
        assert_eq!(narrow.wrap("one two three four five", 10), ["one two three four", "five"]);
        let none = View { columns: None, colour: false };
        assert_eq!(none.wrap("one two three four five\nsix", 10), ["one two three four five", "six"]);
    }
}
