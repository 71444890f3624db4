//! Splits text into words.

use std::ops::Range;

use crate::search::NUMBER;
use crate::search::fold::{CharClass, fold_word};
use crate::search::numbers::{DigitGroup, DigitRun, find_runs};

/// The most words of a text that are indexed. The limit keeps one message from holding up all others.
pub const MAX_WORDS: usize = 10_000;

/// The most numbers with punctuation of a text that are indexed.
const MAX_NUMBERS: usize = 1_000;

/// The most bytes of a word that are compared. Longer words are often encoded data.
const MAX_WORD_BYTES: usize = 64;

/// The words of a text, each in its folded form and with its place.
#[derive(Debug, Default)]
pub struct Words {
    folded: String,
    spans: Vec<WordSpan>,
    /// Numbers, which are also among the words group by group.
    numbers: Vec<NumberSpan>,
}

#[derive(Debug)]
struct WordSpan {
    folded: Range<usize>,
    text: Range<usize>,
    /// True for a letter of a script without spaces that is not followed by another such letter.
    is_lone: bool,
}

#[derive(Debug)]
struct NumberSpan {
    /// The marker and the digits, last one first.
    folded: Range<usize>,
    text: Range<usize>,
}

impl Words {
    /// Splits a text into words.
    pub fn split(text: &str) -> Self {
        let mut words = Self::default();
        let mut rest = 0;
        while words.spans.len() < MAX_WORDS
            && let Some((kind, unit)) = next_unit(text, rest)
        {
            rest = unit.end;
            if kind == CharClass::Spaceless {
                let second = next_unit(text, unit.end)
                    .filter(|(next, there)| *next == CharClass::Spaceless && there.start == unit.end);
                let end = second.as_ref().map_or(unit.end, |(_, second)| second.end);
                words.push(text, unit.start..end, second.is_none());
            } else {
                words.push(text, unit, false);
            }
        }
        words.add_numbers(text);
        words
    }

    fn add_numbers(&mut self, text: &str) {
        let numbers = self.digit_runs(text).iter().flat_map(DigitRun::numbers).collect::<Vec<_>>();
        for number in numbers.into_iter().take(MAX_NUMBERS) {
            let from = self.folded.len();
            self.folded.push(NUMBER);
            self.folded.push_str(&number.reversed);
            self.numbers.push(NumberSpan { folded: from..self.folded.len(), text: number.place });
        }
    }

    /// Returns the groups of digits with only punctuation between them. The text must be the one that was split.
    pub(super) fn digit_runs(&self, text: &str) -> Vec<DigitRun<'_>> {
        let groups = (0..self.len()).map(|at| DigitGroup { digits: self.word(at), place: self.span(at) });
        find_runs(text, groups.filter(|group| group.digits.bytes().all(|byte| byte.is_ascii_digit())))
    }

    fn push(&mut self, text: &str, place: Range<usize>, is_lone: bool) {
        let from = self.folded.len();
        fold_word(&text[place.clone()], &mut self.folded);
        let mut end = (from + MAX_WORD_BYTES).min(self.folded.len());
        while !self.folded.is_char_boundary(end) {
            end -= 1;
        }
        self.folded.truncate(end);
        if end > from {
            self.spans.push(WordSpan { folded: from..end, text: place, is_lone });
        }
    }

    /// True if there is no word.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Returns the number of words.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Returns a word in its folded form, in which words are compared.
    pub fn word(&self, at: usize) -> &str {
        &self.folded[self.spans[at].folded.clone()]
    }

    /// Returns the word's place in the text, in bytes.
    pub fn span(&self, at: usize) -> Range<usize> {
        self.spans[at].text.clone()
    }

    /// True if the word is a single letter of a script without spaces.
    pub fn is_lone(&self, at: usize) -> bool {
        self.spans[at].is_lone
    }

    /// Returns the words in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|at| self.word(at))
    }

    /// Returns what an index contains of the text: the words in order, then the numbers. These begin with [`NUMBER`].
    pub fn terms(&self) -> impl Iterator<Item = &str> {
        self.iter().chain(self.numbers.iter().map(|number| &self.folded[number.folded.clone()]))
    }

    /// Returns the numbers, with their last digits first, and their places in the text, in bytes.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        let digits =
            |number: &NumberSpan| &self.folded[number.folded.start + NUMBER.len_utf8()..number.folded.end];
        self.numbers.iter().map(move |number| (digits(number), number.text.clone()))
    }
}

/// Returns the next word at or after this place, or the next letter of a script without spaces.
fn next_unit(text: &str, from: usize) -> Option<(CharClass, Range<usize>)> {
    let mut characters =
        text[from..].char_indices().map(|(at, character)| (from + at, CharClass::of(character)));
    let (start, kind) =
        characters.by_ref().find(|(_, class)| !matches!(class, CharClass::Mark | CharClass::Other))?;
    let mut flag_letters = 1;
    let mut goes_on = |next: CharClass| match next {
        CharClass::Mark => true,
        CharClass::Letter => kind == CharClass::Letter,
        CharClass::FlagLetter if kind == CharClass::FlagLetter => {
            flag_letters += 1;
            flag_letters <= 2
        }
        _ => false,
    };
    let end = characters.find(|(_, next)| !goes_on(*next)).map_or(text.len(), |(end, _)| end);
    Some((kind, start..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_words(text: &str) -> Vec<String> {
        Words::split(text).iter().map(str::to_owned).collect()
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case_without_accents() {
        assert_eq!(
            split_words("Don't e-mail ME@Example.org, 2x!"),
            ["don", "t", "e", "mail", "me", "example", "org", "2x"]
        );
        assert_eq!(
            split_words("Äpfel straße ÇA Ｆｕｌｌ Ελλάς ЁЖ İzmir"),
            ["apfel", "strasse", "ca", "full", "ελλασ", "еж", "izmir"]
        );
        assert_eq!(split_words("e\u{301}te\u{301} été हिन्दी"), ["ete", "ete", "हिन्दी"]);
        assert_eq!(split_words(" \u{e000}…€\0"), [] as [&str; 0]);
    }

    #[test]
    fn scripts_without_spaces_are_taken_two_letters_at_a_time() {
        assert_eq!(split_words("東京都はABC、京"), ["東京", "京都", "都は", "は", "abc", "京"]);
        assert_eq!(split_words("한국어 ที่ดี"), ["한국", "국어", "어", "ที่ดี", "ดี"]);
        assert_eq!(split_words("ｶﾞｷﾞ"), ["ガギ", "ギ"]);
    }

    #[test]
    fn digits_are_words_in_scripts_without_spaces_too() {
        assert_eq!(split_words("โทร๑๒๓ครับ"), ["โท", "ทร", "ร", "123", "คร\u{e31}", "ร\u{e31}บ", "บ"]);
    }

    #[test]
    fn an_emoji_is_a_word_in_each_of_its_variants() {
        assert_eq!(split_words("great🎉🎉!👍🏽 ❤\u{fe0f}"), ["great", "🎉", "🎉", "👍", "❤"]);
        assert_eq!(
            split_words("👩🏽\u{200d}🔬 🤷\u{200d}♀\u{fe0f} 1\u{fe0f}\u{20e3}"),
            ["👩", "🔬", "🤷", "♀", "1"]
        );
        assert_eq!(split_words("🇩🇪🇦🇹 🇩"), ["🇩🇪", "🇦🇹", "🇩"]);
        assert_eq!(split_words("🏴\u{e0067}\u{e007f} ™"), ["🏴", "tm"]);
    }

    #[test]
    fn numbers_with_punctuation_are_terms_after_the_words() {
        let numbers = |text: &str| {
            let words = Words::split(text);
            let reverse = |digits: &str| digits.chars().rev().collect::<String>();
            words
                .numbers()
                .map(|(digits, place)| (reverse(digits), text[place].to_owned()))
                .collect::<Vec<_>>()
        };
        let found = |digits: &str, text: &str| (digits.to_owned(), text.to_owned());
        assert_eq!(
            numbers("call +49 (170) 123-45.67!").last(),
            Some(&found("491701234567", "49 (170) 123-45.67"))
        );
        assert!(numbers("+44 (0)20 7946 0958").contains(&found("442079460958", "44 (0)20 7946 0958")));
        assert_eq!(numbers("٠١٧٠ ١٢٣٤٥٦٧"), [found("1701234567", "٠١٧٠ ١٢٣٤٥٦٧")]);
        for text in ["", "12-34", "1, 2, 3, 4, 5, 6, 7", "10:20:30:40", "a1234567", "0000000"] {
            assert_eq!(numbers(text), [], "{text}");
        }
        let words = Words::split("1234567");
        assert_eq!(words.terms().collect::<Vec<_>>(), ["1234567", "\u{e002}7654321"]);
    }

    #[test]
    fn each_word_knows_where_it_stands() {
        let text = "¡Ça, 東京!";
        let words = Words::split(text);
        let spans: Vec<_> = (0..words.len()).map(|at| &text[words.span(at)]).collect();
        assert_eq!(spans, ["Ça", "東京", "京"]);
    }

    #[test]
    fn a_long_text_and_a_long_word_are_cut() {
        assert_eq!(Words::split(&"a ".repeat(MAX_WORDS + 5)).len(), MAX_WORDS);
        assert_eq!(split_words(&"é".repeat(100)), ["e".repeat(64)]);
        assert_eq!(split_words(&"ж".repeat(100)), ["ж".repeat(32)]);
    }
}
