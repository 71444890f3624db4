//! Search queries.

use std::fmt::Write as _;
use std::iter;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use crate::search::NUMBER;
use crate::search::numbers::{self, MIN_DIGITS};
use crate::search::words::Words;

/// The longest query, in characters.
pub const MAX_QUERY_CHARS: usize = 500;

/// A search query. All of its words must be in a message: `order refund` finds messages with both words,
/// `"order number"` messages in which one follows the other, and `refund*` messages with a word that begins
/// with these letters. A number with at least seven digits also finds the same number with other punctuation. Everything
/// else is plain text, so no other syntax can be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    clauses: Vec<Clause>,
}

/// A part of a query: all of the phrases must be in a text, or one of the numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Clause {
    pub(super) phrases: Vec<Phrase>,
    /// Numbers with their last digits first.
    numbers: Vec<String>,
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
    #[error("must contain a letter, a digit or an emoji")]
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
        let mut clauses: Vec<Clause> = Vec::new();
        // The parts at odd places were between quotes. The last quote may be missing, because the user is
        // still typing.
        for (place, part) in text.split('"').enumerate() {
            let pieces: Vec<Range<usize>> =
                if place % 2 == 1 { iter::once(0..part.len()).collect() } else { find_pieces(part) };
            clauses.extend(Clause::parse_all(part, &pieces));
        }
        if clauses.is_empty() { Err(InvalidQuery::Empty) } else { Ok(Self { clauses }) }
    }
}

/// Returns the places of the pieces between white space.
fn find_pieces(text: &str) -> Vec<Range<usize>> {
    let start_of = |piece: &str| piece.as_ptr().addr() - text.as_ptr().addr();
    text.split_whitespace().map(|piece| start_of(piece)..start_of(piece) + piece.len()).collect()
}

impl Clause {
    /// Parses the pieces of a text. Pieces that make a number together become one clause.
    fn parse_all(text: &str, pieces: &[Range<usize>]) -> Vec<Self> {
        let words = Words::split(text);
        let mut runs = words.digit_runs(text).into_iter().peekable();
        let mut clauses: Vec<Self> = Vec::new();
        // The end of the number to which the last clause belongs.
        let mut end_of_number = 0;
        for piece in pieces {
            let phrase = Phrase::parse(&text[piece.clone()]);
            if piece.start < end_of_number
                && let Some(clause) = clauses.last_mut()
            {
                clause.phrases.extend(phrase);
                continue;
            }
            while runs.next_if(|run| run.place().end <= piece.start).is_some() {}
            let run = runs.next_if(|run| run.place().start < piece.end);
            let run = run.filter(|run| {
                is_all_there(&words, pieces, &run.place()) && !text[run.place().end..].starts_with('*')
            });
            let numbers = run.as_ref().map(|run| run.whole_numbers()).unwrap_or_default();
            if let (Some(run), false) = (&run, numbers.is_empty()) {
                end_of_number = run.place().end;
            }
            let numbers: Vec<_> = numbers.into_iter().map(|number| number.reversed).collect();
            if phrase.is_some() || !numbers.is_empty() {
                clauses.push(Self { phrases: phrase.into_iter().collect(), numbers });
            }
        }
        clauses
    }

    /// True if the text contains one of the numbers.
    fn has_number(&self, words: &Words) -> bool {
        words.numbers().any(|(number, _)| self.is_number(number))
    }

    /// True if a number of a text agrees with one of the numbers.
    pub(super) fn is_number(&self, number: &str) -> bool {
        self.numbers.iter().any(|wanted| numbers::agree(wanted, number))
    }

    /// Returns the terms of an index with which the numbers agree, and whether the term is a prefix.
    fn number_terms(&self) -> Vec<(&str, bool)> {
        let mut terms: Vec<(&str, bool)> = Vec::new();
        for number in &self.numbers {
            let shorter = (MIN_DIGITS..number.len()).map(|length| (&number[..length], false));
            terms.extend(shorter.chain([(number.as_str(), true)]));
        }
        terms.sort_unstable();
        terms.dedup();
        terms
    }
}

/// True if the pieces in which a number stands contain nothing else.
fn is_all_there(words: &Words, pieces: &[Range<usize>], number: &Range<usize>) -> bool {
    let is_touched = |piece: &&Range<usize>| piece.start < number.end && number.start < piece.end;
    pieces.iter().filter(is_touched).all(|piece| {
        let in_piece = (0..words.len())
            .map(|at| words.span(at))
            .filter(|word| piece.start <= word.start && word.end <= piece.end);
        in_piece.into_iter().all(|word| number.start <= word.start && word.end <= number.end)
    })
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

    /// Returns the places in the text at which the phrase is, in bytes.
    pub(super) fn find_all(&self, words: &Words) -> Vec<Range<usize>> {
        let hit = |at: usize| {
            let length = self.matches_at(words, at)?;
            Some(words.span(at).start..words.span(at + length - 1).end)
        };
        (0..words.len()).filter_map(hit).collect()
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
    pub(super) fn clauses(&self) -> &[Clause] {
        &self.clauses
    }

    /// True if the text contains all parts of the query.
    pub fn matches(&self, text: &str) -> bool {
        let words = Words::split(text);
        let is_there = |phrase: &Phrase| (0..words.len()).any(|at| phrase.matches_at(&words, at).is_some());
        self.clauses.iter().all(|clause| clause.phrases.iter().all(is_there) || clause.has_number(&words))
    }

    /// Returns the query in the syntax of FTS5.
    #[doc(hidden)]
    pub fn to_fts5(&self) -> String {
        // Words contain no quotes and no other characters with a meaning in FTS5.
        let star = |is_prefix: bool| if is_prefix { " *" } else { "" };
        let phrase = |phrase: &Phrase| format!("\"{}\"{}", phrase.words.join(" "), star(phrase.is_prefix));
        let number = |(term, is_prefix): (&str, bool)| format!("\"{NUMBER}{term}\"{}", star(is_prefix));
        self.join(" AND ", " OR ", phrase, number)
    }

    /// Returns the query in the syntax of PostgreSQL's `tsquery`.
    #[doc(hidden)]
    pub fn to_tsquery(&self) -> String {
        let star = |is_prefix: bool| if is_prefix { ":*" } else { "" };
        let phrase = |phrase: &Phrase| {
            let words: Vec<_> = phrase.words.iter().map(|word| format!("'{word}'")).collect();
            format!("({}{})", words.join(" <-> "), star(phrase.is_prefix))
        };
        let number = |(term, is_prefix): (&str, bool)| format!("'{NUMBER}{term}'{}", star(is_prefix));
        self.join(" & ", " | ", phrase, number)
    }

    /// Joins the clauses with these operators.
    fn join(
        &self,
        and: &str,
        or: &str,
        phrase: impl Fn(&Phrase) -> String,
        number: impl Fn((&str, bool)) -> String,
    ) -> String {
        let mut joined = String::new();
        for (place, clause) in self.clauses.iter().enumerate() {
            joined.push_str(if place > 0 { and } else { "" });
            let phrases = clause.phrases.iter().map(&phrase).collect::<Vec<_>>().join(and);
            if clause.numbers.is_empty() {
                joined.push_str(&phrases);
                continue;
            }
            let numbers: Vec<_> = clause.number_terms().into_iter().map(&number).collect();
            // Writing to a string cannot fail.
            let _ = write!(joined, "(({phrases}){or}{})", numbers.join(or));
        }
        joined
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
    fn a_number_is_found_with_other_punctuation() {
        let writings = [
            "+49 (170) 123-45.67",
            "0170 1234567",
            "0049 170 1234567",
            "01701234567",
            "tel:+49-170-1234567",
            "+49 (0)170 / 12 34 567",
            "٠١٧٠ ١٢٣٤٥٦٧",
            "1701234567",
            "in 2026 0170–1234567 2 times",
            "123 4567",
        ];
        for text in writings {
            for query in writings.iter().filter(|query| !query.contains(['t', 'e'])) {
                for query in [(*query).to_owned(), format!("\"{query}\""), format!("{query} number")] {
                    let text = format!("my number: {text}, please");
                    assert!(parse(&query).matches(&text), "{query} in {text}");
                }
            }
            for missed in ["01701234568", "+49 (170) 123-45.6", "0171 1234567 number"] {
                assert!(!parse(missed).matches(text), "{missed} in {text}");
            }
        }
        assert!(
            parse("01701234567 4111-1111-1111-1111").matches("card 4111 1111 1111 1111, phone 0170/1234567")
        );
        assert!(
            parse("2026-11-23").matches("on 2026.11.23") && !parse("2026-11-23").matches("on 2026-11-24")
        );
        assert!(parse("0171 1234567").matches("123-4567"), "a number without its prefix may be this one");
        assert!(!parse("0170 1234*").matches("01701234567"), "an unfinished number is only words");
        assert!(!parse("4567").matches("01701234567"), "too few digits for a number");
    }

    #[test]
    fn an_emoji_is_found() {
        let text = "well done👍🏽, 👩‍🔬 from 🇩🇪! ❤️";
        for found in ["👍", "👍🏿", "done👍", "👩‍🔬", "🔬", "🇩🇪", "❤", "❤️", "\"from 🇩🇪\""]
        {
            assert!(parse(found).matches(text), "{found}");
        }
        for missed in ["👎", "🇩🇰", "🔬👩", "🇪🇩"] {
            assert!(!parse(missed).matches(text), "{missed}");
        }
    }

    #[test]
    fn it_is_put_in_the_words_of_each_database() {
        let query = parse("Foo \"bar b*\" 東 東京都");
        assert_eq!(query.to_fts5(), r#""foo" AND "bar b" AND "東" * AND "東京 京都""#);
        assert_eq!(query.to_tsquery(), "('foo') & ('bar' <-> 'b') & ('東':*) & ('東京' <-> '京都')");
        let query = parse("a 12 345678");
        assert_eq!(
            query.to_fts5(),
            "\"a\" AND ((\"12\" AND \"345678\") OR \"\u{e002}8765432\" OR \"\u{e002}87654321\" *)"
        );
        assert_eq!(
            query.to_tsquery(),
            "('a') & ((('12') & ('345678')) | '\u{e002}8765432' | '\u{e002}87654321':*)"
        );
    }

    #[test]
    fn what_has_no_word_and_what_is_too_long_is_no_query() {
        for empty in ["", " ", "\"\"", "* - ( )", "€", "\u{ad}\u{fe0f}"] {
            assert_eq!(empty.parse::<Query>(), Err(InvalidQuery::Empty), "{empty}");
        }
        assert!("é".repeat(MAX_QUERY_CHARS).parse::<Query>().is_ok());
        assert_eq!("é".repeat(MAX_QUERY_CHARS + 1).parse::<Query>(), Err(InvalidQuery::TooLong));
    }
}
