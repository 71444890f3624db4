//! Search queries.

use std::fmt::Write as _;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use crate::search::words::Words;

/// The longest query, in characters.
pub const MAX_QUERY_CHARS: usize = 500;

/// A search query. All of its words must be in a message: `order refund` finds messages with both words,
/// `"order number"` messages in which one follows the other, and `refund*` messages with a word that begins
/// with these letters. Everything else is plain text, so no other syntax can be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    phrases: Vec<Phrase>,
}

/// Words that must follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Phrase {
    pub(super) words: Vec<String>,
    /// True if the last word is a prefix.
    pub(super) is_prefix: bool,
}

/// A text that is not a valid query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidQuery {
    /// The text contains no word.
    #[error("must contain a letter or a digit")]
    Empty,
    /// The text is longer than [`MAX_QUERY_CHARS`].
    #[error("must have at most {MAX_QUERY_CHARS} characters")]
    TooLong,
}

/// The fewest letters before a `*`. A shorter prefix would match too many words.
const MIN_PREFIX_CHARS: usize = 2;

impl FromStr for Query {
    type Err = InvalidQuery;

    fn from_str(text: &str) -> Result<Self, InvalidQuery> {
        if text.chars().nth(MAX_QUERY_CHARS).is_some() {
            return Err(InvalidQuery::TooLong);
        }
        let mut phrases: Vec<Phrase> = Vec::new();
        // The parts at odd places were between quotes. The last quote may be missing, because the user is
        // still typing.
        for (place, part) in text.split('"').enumerate() {
            if place % 2 == 1 {
                phrases.extend(Phrase::parse(part));
            } else {
                phrases.extend(part.split_whitespace().filter_map(Phrase::parse));
            }
        }
        if phrases.is_empty() { Err(InvalidQuery::Empty) } else { Ok(Self { phrases }) }
    }
}

impl<'de> Deserialize<'de> for Query {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Phrase {
    fn parse(text: &str) -> Option<Self> {
        let words = Words::split(text);
        let last = words.len().checked_sub(1)?;
        let starred =
            text.trim_end().ends_with('*') && words.word(last).chars().nth(MIN_PREFIX_CHARS - 1).is_some();
        let mut phrase = Self { words: words.iter().map(str::to_owned).collect(), is_prefix: starred };
        // In a script without spaces, the last letter of the query need not be the last letter of the
        // sentence. Either the pair before already covers the letter, or the letter becomes a prefix.
        if words.is_lone(last) {
            let is_covered_by_previous_pair = last > 0 && words.span(last - 1).end == words.span(last).end;
            if is_covered_by_previous_pair {
                phrase.words.pop();
            }
            phrase.is_prefix = !is_covered_by_previous_pair;
        }
        Some(phrase)
    }

    /// Returns the number of words of this phrase if the phrase is at this place, otherwise `None`.
    pub(super) fn matches_at(&self, words: &Words, at: usize) -> Option<usize> {
        let (last, first) = self.words.split_last()?;
        let end = at + first.len();
        let is_there = end < words.len()
            && first.iter().zip(at..).all(|(word, at)| words.word(at) == word)
            && (words.word(end) == last || self.is_prefix && words.word(end).starts_with(last.as_str()));
        is_there.then_some(self.words.len())
    }
}

impl Query {
    pub(super) fn phrases(&self) -> &[Phrase] {
        &self.phrases
    }

    /// True if the text contains all parts of the query.
    pub fn matches(&self, text: &str) -> bool {
        let words = Words::split(text);
        let is_there = |phrase: &Phrase| (0..words.len()).any(|at| phrase.matches_at(&words, at).is_some());
        self.phrases.iter().all(is_there)
    }

    /// Returns the query in the syntax of FTS5.
    #[doc(hidden)]
    pub fn to_fts5(&self) -> String {
        let mut sql = String::new();
        for (place, phrase) in self.phrases.iter().enumerate() {
            let and = if place > 0 { " AND " } else { "" };
            let star = if phrase.is_prefix { " *" } else { "" };
            // Words contain no quotes and no other characters with a meaning in FTS5.
            let _ = write!(sql, "{and}\"{}\"{star}", phrase.words.join(" "));
        }
        sql
    }

    /// Returns the query in the syntax of PostgreSQL's `tsquery`.
    #[doc(hidden)]
    pub fn to_tsquery(&self) -> String {
        let phrases = self.phrases.iter().map(|phrase| {
            let words: Vec<_> = phrase.words.iter().map(|word| format!("'{word}'")).collect();
            format!("({}{})", words.join(" <-> "), if phrase.is_prefix { ":*" } else { "" })
        });
        phrases.collect::<Vec<_>>().join(" & ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Query {
        text.parse().unwrap()
    }

    #[test]
    fn all_words_must_be_there_in_any_order_and_phrases_as_they_are() {
        let text = "Please change the order number of my E-Mail order.";
        for found in [
            "order",
            "ORDER change",
            "\"order number\"",
            "e-mail",
            "numb*",
            "\"the ord*\"",
            "\"order num*",
            "order-number",
            "...please!",
        ] {
            assert!(parse(found).matches(text), "{found}");
        }
        for missed in ["orders", "ord", "order refund", "\"number order\"", "mail-e", "\"order numb\""] {
            assert!(!parse(missed).matches(text), "{missed}");
        }
    }

    #[test]
    fn any_part_of_a_sentence_without_spaces_is_found() {
        let text = "私は東京都に住んでいますiPhone";
        for found in ["東", "東京", "京都に", "すiphone", "住んで 東京都", "都*", "iphone"] {
            assert!(parse(found).matches(text), "{found}");
        }
        for missed in ["都京", "大", "東都", "京iphone"] {
            assert!(!parse(missed).matches(text), "{missed}");
        }
    }

    #[test]
    fn it_is_put_in_the_words_of_each_database() {
        let query = parse("Foo \"bar b*\" 東 東京都");
        assert_eq!(query.to_fts5(), r#""foo" AND "bar b" AND "東" * AND "東京 京都""#);
        assert_eq!(query.to_tsquery(), "('foo') & ('bar' <-> 'b') & ('東':*) & ('東京' <-> '京都')");
    }

    #[test]
    fn what_has_no_word_and_what_is_too_long_is_no_query() {
        for empty in ["", " ", "\"\"", "* - ( )", "🎉"] {
            assert_eq!(empty.parse::<Query>(), Err(InvalidQuery::Empty), "{empty}");
        }
        assert!("é".repeat(MAX_QUERY_CHARS).parse::<Query>().is_ok());
        assert_eq!("é".repeat(MAX_QUERY_CHARS + 1).parse::<Query>(), Err(InvalidQuery::TooLong));
    }
}
