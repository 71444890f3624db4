//! Makes text from others safe for a terminal: characters that could move the cursor, change the window's title or
//! reverse the writing direction are shown by their code points.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The sequence that starts dimmed text. This and [`PLAIN`] are the only escape sequences that reach a terminal.
pub(crate) const DIM: &str = "\x1b[2m";
/// The sequence that ends dimmed text.
pub(crate) const PLAIN: &str = "\x1b[0m";

/// Returns the text with every control character in a visible form, so that it cannot move the cursor, change the
/// window's title or reverse the writing direction. Line feeds stay.
pub(crate) fn escape_text(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return text.into();
    }
    let mut visible = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\t' => visible.push_str("    "),
            // Part of the line ending on some systems, followed by a line feed.
            '\r' => visible.push_str("\\r"),
            unsafe_one if is_unsafe(unsafe_one) => {
                // Writing to a string cannot fail.
                let _ = write!(visible, "\\u{{{:x}}}", u32::from(unsafe_one));
            }
            harmless => visible.push(harmless),
        }
    }
    visible.into()
}

/// Returns equivalent JSON that is on one line and safe for a terminal.
pub(crate) fn escape_json(json: &str) -> Cow<'_, str> {
    let harms = |character: char| character == '\n' || is_unsafe(character);
    if !json.contains(harms) {
        return json.into();
    }
    let mut visible = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        match character {
            // Only between values: within a string it would be escaped.
            '\t' | '\r' | '\n' => visible.push(' '),
            // Writing to a string cannot fail. No unsafe character needs more than four digits.
            harmful if harms(harmful) => drop(write!(visible, "\\u{:04x}", u32::from(harmful))),
            harmless => visible.push(harmless),
        }
    }
    visible.into()
}

/// Makes text safe as [`escape_text`] does, and keeps it on one line.
pub(crate) fn escape_line(text: &str) -> Cow<'_, str> {
    match escape_text(text) {
        lines if lines.contains('\n') => lines.replace('\n', "\\n").into(),
        line => line,
    }
}

fn is_unsafe(character: char) -> bool {
    match character {
        '\n' => false,
        // Line and paragraph separators; marks, embeddings, overrides and isolates of the writing direction.
        '\u{2028}'
        | '\u{2029}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{61c}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => true,
        _ => character.is_control(),
    }
}

/// Makes the output of a command safe except for [`DIM`] and [`PLAIN`], so that text that was not made safe before does
/// not reach a terminal either.
pub(crate) fn escape_except_dim(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return text.into();
    }
    let dimmed = |part: &str| part.split(PLAIN).map(escape_text).collect::<Vec<_>>().join(PLAIN);
    text.split(DIM).map(dimmed).collect::<Vec<_>>().join(DIM).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_reach_no_terminal() {
        assert_eq!(escape_text("plain, with ünïcödé 👩‍👩‍👧"), "plain, with ünïcödé 👩‍👩‍👧");
        assert_eq!(escape_text("\x1b]0;pwned\x07\x1b[2J"), "\\u{1b}]0;pwned\\u{7}\\u{1b}[2J");
        assert_eq!(escape_text("a\tb\r\nc\u{9b}1m\u{202e}d"), "a    b\\r\nc\\u{9b}1m\\u{202e}d");
        assert_eq!(escape_line("a\nb"), "a\\nb");
    }

    #[test]
    fn json_is_made_safe_and_says_the_same() {
        let json = "{\"a\":\n[\"x\u{9b}\u{202e}\u{7f}ü\"]}";
        let escaped = escape_json(json);
        assert_eq!(escaped, r#"{"a": ["x\u009b\u202e\u007fü"]}"#);
        let value = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(value(&escaped), value(json));
    }

    #[test]
    fn only_our_own_sequences_are_left_in_what_is_said() {
        let said = format!("{DIM}a side remark{PLAIN}\n\x1b[31mred\x1b]0;title\x07{DIM}\u{202e}");
        let expected =
            format!("{DIM}a side remark{PLAIN}\n\\u{{1b}}[31mred\\u{{1b}}]0;title\\u{{7}}{DIM}\\u{{202e}}");
        assert_eq!(escape_except_dim(&said), expected);
    }
}
