//! Snippets: the part of a found message that is shown.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::search::query::Query;
use crate::search::words::Words;

/// The approximate length of a snippet, in bytes.
const LENGTH: usize = 240;
/// How many of these bytes are before the first match.
const BEFORE: usize = 60;
/// How far a cut may move to avoid splitting a word, in bytes.
const SPARE: usize = 20;

/// A piece of a message's text, unchanged. A client shows it as text and highlights matches. The piece is
/// never markup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// True if the piece matches the query.
    pub hit: bool,
}

impl Query {
    /// Returns the part of the text around the first match, in pieces; `…` stands for omitted text before
    /// and after it. `None` if the text does not contain all parts of the query.
    pub fn snippet(&self, text: &str) -> Option<Vec<Piece>> {
        let hits = self.find_hits(&Words::split(text))?;
        let shown = excerpt_range(text, hits.first().map_or(0..0, Clone::clone));
        let mut pieces = Vec::new();
        let mut add = |piece: &str, hit| {
            if !piece.is_empty() {
                pieces.push(Piece { text: piece.to_owned(), hit });
            }
        };
        let mut at = shown.start;
        add(if shown.start > 0 { "…" } else { "" }, false);
        for hit in hits.iter().filter(|hit| hit.end <= shown.end) {
            add(&text[at..hit.start], false);
            add(&text[hit.clone()], true);
            at = hit.end;
        }
        add(&text[at..shown.end], false);
        add(if shown.end < text.len() { "…" } else { "" }, false);
        Some(pieces)
    }

    /// Returns the places of all matches, in order and without overlaps.
    fn find_hits(&self, words: &Words) -> Option<Vec<Range<usize>>> {
        let mut hits: Vec<Range<usize>> = Vec::new();
        for clause in self.clauses() {
            let phrases: Vec<_> = clause.phrases.iter().map(|phrase| phrase.find_all(words)).collect();
            let numbers =
                words.numbers().filter(|(number, _)| clause.is_number(number)).map(|(_, place)| place);
            let before = hits.len();
            hits.extend(numbers);
            if phrases.iter().all(|hits| !hits.is_empty()) {
                hits.extend(phrases.into_iter().flatten());
            } else if hits.len() == before {
                return None;
            }
        }
        hits.sort_unstable_by_key(|hit| (hit.start, hit.end));
        hits.dedup_by(|next, last| {
            let is_joined = last.end >= next.start;
            last.end = if is_joined { last.end.max(next.end) } else { last.end };
            is_joined
        });
        Some(hits)
    }
}

/// Returns the part of the text that is shown.
fn excerpt_range(text: &str, first: Range<usize>) -> Range<usize> {
    let start = match first.start.saturating_sub(BEFORE) {
        0 => 0,
        start => {
            let start = char_boundary(text, start);
            let near = &text[start..char_boundary(text, start + SPARE).min(first.start)];
            near.find(char::is_whitespace).map_or(start, |space| char_boundary(text, start + space + 1))
        }
    };
    let end = char_boundary(text, start + LENGTH).max(first.end);
    if end == text.len() {
        return start..end;
    }
    let near = char_boundary(text, end - SPARE).clamp(first.end, end);
    start..text[near..end].rfind(char::is_whitespace).map_or(end, |space| near + space)
}

/// Returns the first character boundary at or after this place.
fn char_boundary(text: &str, from: usize) -> usize {
    (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(query: &str, text: &str) -> Option<String> {
        let pieces = query.parse::<Query>().unwrap().snippet(text)?;
        let mark = |piece: Piece| if piece.hit { format!("[{}]", piece.text) } else { piece.text };
        Some(pieces.into_iter().map(mark).collect())
    }

    #[test]
    fn hits_are_set_off_where_they_stand() {
        assert_eq!(
            shown("order my*", "<b>My ORDER</b>, the order.").unwrap(),
            "<b>[My] [ORDER]</b>, the [order]."
        );
        assert_eq!(shown("東京都 京都に", "私は東京都に").unwrap(), "私は[東京都に]");
        assert_eq!(shown("order", "orders"), None);
        assert_eq!(
            shown("+49 170 1234567 call", "call (0170) 123-4567 or 49").unwrap(),
            "[call] ([0170) 123-4567] or 49"
        );
        assert_eq!(shown("1234567", "1234567 👍🏽 0170-1234567").unwrap(), "[1234567] 👍🏽 [0170-1234567]");
    }

    #[test]
    fn of_a_long_text_the_part_with_the_first_hit_is_shown() {
        let text = format!("{} needle {}", "hay ".repeat(100), "straw ".repeat(100));
        let snippet = shown("needle", &text).unwrap();
        assert!(snippet.starts_with("…hay hay ") && snippet.ends_with(" straw…"), "{snippet}");
        assert!(snippet.contains(" [needle] ") && snippet.len() < LENGTH + 20, "{snippet}");
    }
}
