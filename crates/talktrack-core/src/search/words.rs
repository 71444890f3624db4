//! Splits text into words.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// The most words of a text that are indexed. The limit keeps one message from holding up all others.
pub const MAX_WORDS: usize = 10_000;

/// The most bytes of a word that are compared. Longer words are often encoded data.
const MAX_WORD_BYTES: usize = 64;

/// The words of a text, each in its folded form and with its place.
#[derive(Debug, Default)]
pub struct Words {
    folded: String,
    spans: Vec<WordSpan>,
}

#[derive(Debug)]
struct WordSpan {
    folded: Range<usize>,
    text: Range<usize>,
    /// True for a letter of a script without spaces that is not followed by another such letter.
    is_lone: bool,
}

/// The role of a character in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CharClass {
    Letter,
    /// A letter of a script that writes no spaces between words.
    Spaceless,
    /// A mark that belongs to the letter before it.
    Mark,
    Other,
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
        words
    }

    fn push(&mut self, text: &str, place: Range<usize>, is_lone: bool) {
        let from = self.folded.len();
        fold(&text[place.clone()], &mut self.folded);
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
}

/// Returns the next word at or after this place, or the next letter of a script without spaces.
fn next_unit(text: &str, from: usize) -> Option<(CharClass, Range<usize>)> {
    let mut characters = text[from..].char_indices().map(|(at, character)| (from + at, classify(character)));
    let is_letter = |class| matches!(class, CharClass::Letter | CharClass::Spaceless);
    let (start, kind) = characters.by_ref().find(|(_, class)| is_letter(*class))?;
    let goes_on =
        |next: CharClass| next == CharClass::Mark || (kind == CharClass::Letter && next == CharClass::Letter);
    let end = characters.find(|(_, next)| !goes_on(*next)).map_or(text.len(), |(end, _)| end);
    Some((kind, start..end))
}

fn classify(character: char) -> CharClass {
    match character {
        _ if character.is_ascii_alphanumeric() => CharClass::Letter,
        _ if character.is_ascii() => CharClass::Other,
        // The voicing marks of half-width Kana are letters only according to Unicode.
        _ if is_combining_mark(character) || matches!(character, '\u{ff9e}' | '\u{ff9f}') => CharClass::Mark,
        _ if !character.is_alphanumeric() => CharClass::Other,
        // Thai to Myanmar; Hangul, including half-width; Khmer; Kana and Han, with their extensions.
        '\u{0e00}'..='\u{0eff}'
        | '\u{1000}'..='\u{11ff}'
        | '\u{1780}'..='\u{17ff}'
        | '\u{2e80}'..='\u{d7ff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ffdc}'
        | '\u{1b000}'..='\u{1b16f}'
        | '\u{20000}'..='\u{3ffff}' => CharClass::Spaceless,
        _ => CharClass::Letter,
    }
}

/// Folds a word: lower case, without accents, and with one spelling for equivalent characters.
fn fold(word: &str, into: &mut String) {
    if word.is_ascii() {
        into.extend(word.chars().map(|letter| letter.to_ascii_lowercase()));
        return;
    }
    let letters = word.nfkd().flat_map(char::to_lowercase).filter(|letter| !is_accent(*letter)).nfc();
    for letter in letters.filter(|letter| letter.is_alphanumeric() || is_combining_mark(*letter)) {
        match letter {
            'ß' => into.push_str("ss"),
            // Greek uses another sigma at the end of a word.
            'ς' => into.push('σ'),
            letter => into.push(letter),
        }
    }
}

/// True for marks above and below letters in Latin, Greek, Cyrillic, Hebrew and Arabic, which writers often
/// omit.
fn is_accent(character: char) -> bool {
    matches!(character, '\u{0300}'..='\u{036f}' | '\u{0591}'..='\u{05c7}' | '\u{064b}'..='\u{065f}' | '\u{0670}' | '\u{0640}')
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
        assert_eq!(split_words(" \u{e000}…🎉\0"), [] as [&str; 0]);
    }

    #[test]
    fn scripts_without_spaces_are_taken_two_letters_at_a_time() {
        assert_eq!(split_words("東京都はABC、京"), ["東京", "京都", "都は", "は", "abc", "京"]);
        assert_eq!(split_words("한국어 ที่ดี"), ["한국", "국어", "어", "ที่ดี", "ดี"]);
        assert_eq!(split_words("ｶﾞｷﾞ"), ["ガギ", "ギ"]);
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
