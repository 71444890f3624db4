//! Folds characters: how a character takes part in a word, and the spelling in which words are compared.
//!
//! The properties of characters are those of Unicode, from ICU4X. Latin letters that have no decomposition, such as `ł`, get
//! the ASCII letters that `any_ascii` names; Unicode has no table for them.

use icu_properties::props::{
    DefaultIgnorableCodePoint, Emoji, EmojiModifier, ExtendedPictographic, GeneralCategory,
    RegionalIndicator, Script,
};
use icu_properties::{CodePointMapData, CodePointSetData};
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// The version of the rules by which texts become words. It increases with every change of them. An index that was made
/// with an older version is rebuilt.
pub const FOLDING: i16 = 3;

/// The role of a character in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CharClass {
    Letter,
    /// A letter of a script that writes no spaces between words.
    Spaceless,
    /// A pictograph, which is a word of its own.
    Emoji,
    /// One of the two letters that make a flag.
    FlagLetter,
    /// A mark that belongs to the letter before it, or a character that is not seen.
    Mark,
    Other,
}

impl CharClass {
    pub(super) fn of(character: char) -> Self {
        match character {
            _ if character.is_ascii_alphanumeric() => Self::Letter,
            _ if character.is_ascii() => Self::Other,
            // The voicing marks of half-width Kana are letters only according to Unicode.
            _ if is_combining_mark(character) || matches!(character, '\u{ff9e}' | '\u{ff9f}') => Self::Mark,
            _ if is_ignored(character) => Self::Mark,
            _ if CodePointSetData::new::<RegionalIndicator>().contains(character) => Self::FlagLetter,
            _ if !character.is_alphanumeric() => {
                if is_emoji(character) {
                    Self::Emoji
                } else {
                    Self::Other
                }
            }
            // A number is a word in every script.
            _ if is_digit(character) => Self::Letter,
            // Thai to Myanmar; Hangul, including half-width; Khmer; Kana and Han, with their extensions.
            '\u{0e00}'..='\u{0eff}'
            | '\u{1000}'..='\u{11ff}'
            | '\u{1780}'..='\u{17ff}'
            | '\u{2e80}'..='\u{d7ff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{ff66}'..='\u{ffdc}'
            | '\u{1b000}'..='\u{1b16f}'
            | '\u{20000}'..='\u{3ffff}' => Self::Spaceless,
            _ => Self::Letter,
        }
    }
}

/// Folds a word: lower case, without accents, and with one spelling for equivalent characters.
pub(super) fn fold_word(word: &str, into: &mut String) {
    if word.is_ascii() {
        into.extend(word.chars().map(|letter| letter.to_ascii_lowercase()));
        return;
    }
    let letters = word.nfkd().filter(|letter| !is_ignored(*letter)).flat_map(char::to_lowercase);
    letters.filter(|letter| !is_accent(*letter)).nfc().for_each(|letter| fold_letter(letter, into));
}

fn fold_letter(letter: char, into: &mut String) {
    match fold_form(letter) {
        letter if letter.is_ascii_alphanumeric() => into.push(letter),
        letter if letter.is_ascii() => {}
        letter if is_digit(letter) => into.push(to_ascii_digit(letter)),
        letter if CodePointMapData::<Script>::new().get(letter) == Script::Latin => {
            let before = into.len();
            let ascii = any_ascii::any_ascii_char(letter).chars().filter(char::is_ascii_alphanumeric);
            into.extend(ascii.map(|letter| letter.to_ascii_lowercase()));
            if into.len() == before && letter.is_alphanumeric() {
                into.push(letter);
            }
        }
        letter if letter.is_alphanumeric() || is_combining_mark(letter) || is_emoji(letter) => {
            into.push(letter)
        }
        letter if CodePointSetData::new::<RegionalIndicator>().contains(letter) => into.push(letter),
        _ => {}
    }
}

/// Returns the letter for which this is another form. Writers of Arabic, Persian and Urdu use different characters for one
/// letter, depending on their keyboards.
fn fold_form(letter: char) -> char {
    match letter {
        // Greek uses another sigma at the end of a word.
        'ς' => 'σ',
        // Alef with wasla, wavy hamza or high hamza. Those with other hamzas and madda decompose.
        'ٱ' | 'ٲ' | 'ٳ' => 'ا',
        // Alef maksura, Farsi yeh, yeh with tail, yeh barree.
        'ى' | 'ی' | 'ۍ' | 'ے' => 'ي',
        // Keheh and swash kaf.
        'ک' | 'ڪ' => 'ك',
        // Teh marbuta, heh doachashmee, heh goal, teh marbuta goal, ae.
        'ة' | 'ھ' | 'ہ' | 'ۃ' | 'ە' => 'ه',
        _ => letter,
    }
}

/// True for characters that are not seen, such as the soft hyphen, joiners and variation selectors, and for the colours of
/// skin of emoji.
fn is_ignored(character: char) -> bool {
    !character.is_ascii()
        && (CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
            || CodePointSetData::new::<EmojiModifier>().contains(character))
}

/// True for marks above and below letters in Latin, Greek, Cyrillic, Hebrew and Arabic, which writers often omit, for the
/// marks of symbols, and for letters that only stretch a word or carry a hamza.
fn is_accent(character: char) -> bool {
    matches!(
        character,
        '\u{0300}'..='\u{036f}'
            | '\u{0483}'..='\u{0489}'
            | '\u{0591}'..='\u{05c7}'
            | '\u{0610}'..='\u{061a}'
            | '\u{0640}'
            | '\u{064b}'..='\u{065f}'
            | '\u{0670}'
            | '\u{0674}'
            | '\u{06d6}'..='\u{06dc}'
            | '\u{06df}'..='\u{06e4}'
            | '\u{06e7}'..='\u{06e8}'
            | '\u{06ea}'..='\u{06ed}'
            | '\u{0898}'..='\u{089f}'
            | '\u{08ca}'..='\u{08e1}'
            | '\u{08e3}'..='\u{08ff}'
            | '\u{1ab0}'..='\u{1aff}'
            | '\u{1dc0}'..='\u{1dff}'
            | '\u{20d0}'..='\u{20ff}'
            | '\u{fe20}'..='\u{fe2f}'
    )
}

fn is_emoji(character: char) -> bool {
    CodePointSetData::new::<Emoji>().contains(character)
        || CodePointSetData::new::<ExtendedPictographic>().contains(character)
}

fn is_digit(character: char) -> bool {
    CodePointMapData::<GeneralCategory>::new().get(character) == GeneralCategory::DecimalNumber
}

/// Returns the ASCII digit with the value of this digit. In Unicode the digits of a script stand in order, from 0 to 9.
fn to_ascii_digit(digit: char) -> char {
    let before = |back: u32| u32::from(digit).checked_sub(back).and_then(char::from_u32);
    // Sets of digits may follow one another.
    let value = (1..).take_while(|back| before(*back).is_some_and(is_digit)).count() % 10;
    u32::try_from(value).ok().and_then(|value| char::from_digit(value, 10)).unwrap_or(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(word: &str) -> String {
        let mut folded = String::new();
        fold_word(word, &mut folded);
        folded
    }

    #[test]
    fn words_of_one_spelling_are_equal_in_every_script() {
        for (spellings, expected) in [
            (&["Straße", "STRASSE", "ſtraße", "STRAẞE"][..], "strasse"),
            (&["Łódź", "łódź", "ŁÓDŹ"], "lodz"),
            (&["Øre", "ǿre", "ore"], "ore"),
            (&["Œuvre", "œuvre"], "oeuvre"),
            (&["Æther", "ǽther"], "aether"),
            (&["Đặng", "đặng", "Ðang"], "dang"),
            (&["Þór", "þor"], "thor"),
            (&["Ħal", "ħal"], "hal"),
            (&["ŋ", "Ŋ"], "ng"),
            (&["Diyarbakır", "DİYARBAKIR", "diyarbakir", "DIYARBAKIR"], "diyarbakir"),
            (&["Əli", "əli"], "eli"),
            (&["Ｆｕｌｌ", "ﬀull"][..1], "full"),
            (&["ﬁle", "FILE"], "file"),
            (&["Ελλάς", "ΕΛΛΑΣ", "ελλάσ"], "ελλασ"),
            (&["Ёж", "еж"], "еж"),
            (&["שָׁלוֹם", "שלום"], "שלום"),
            (&["كتاب", "کتاب", "ڪتاب", "كِتَاب", "كـتـاب", "ﻛﺘﺎﺏ"], "كتاب"),
            (&["علي", "على", "علی", "ﻋﻠﻲ"], "علي"),
            (&["مدرسة", "مدرسه", "مدرسۃ", "مدرسە"], "مدرسه"),
            (&["أحمد", "إحمد", "آحمد", "ٱحمد", "ٲحمد", "احمد"], "احمد"),
            (&["مسئول", "مسيول"], "مسيول"),
            (&["خانۀ", "خانه", "خانہ"], "خانه"),
            (&["می\u{200c}خواهم", "ميخواهم"], "ميخواهم"),
            (&["गर्म", "गर्म"], "गर्म"),
            (&["ガ", "ｶﾞ", "カ\u{3099}"], "ガ"),
            (&["가", "\u{1100}\u{1161}", "가\u{3164}"], "가"),
        ] {
            for spelling in spellings {
                assert_eq!(folded(spelling), expected, "{spelling}");
            }
        }
    }

    #[test]
    fn digits_of_every_script_are_equal() {
        for digits in [
            "0123456789",
            "٠١٢٣٤٥٦٧٨٩",
            "۰۱۲۳۴۵۶۷۸۹",
            "०१२३४५६७८९",
            "০১২৩৪৫৬৭৮৯",
            "๐๑๒๓๔๕๖๗๘๙",
            "၀၁၂၃၄၅၆၇၈၉",
            "០១២៣៤៥៦៧៨៩",
            "０１２３４５６７８９",
            "⓪①②③④⑤⑥⑦⑧⑨",
            "\u{116da}\u{116db}\u{116dc}\u{116dd}\u{116de}\u{116df}\u{116e0}\u{116e1}\u{116e2}\u{116e3}",
            "𝟎𝟏𝟐𝟑𝟜𝟝𝟞𝟟𝟠𝟡",
        ] {
            assert_eq!(folded(digits), "0123456789", "{digits}");
            assert!(digits.chars().all(|digit| CharClass::of(digit) == CharClass::Letter), "{digits}");
        }
    }

    /// Every script's digits, not only those named above: a set begins with a zero, and none is skipped.
    #[test]
    fn every_decimal_digit_of_unicode_has_a_value() {
        let digits: Vec<char> =
            (0x80..=0x10_ffff).filter_map(char::from_u32).filter(|digit| is_digit(*digit)).collect();
        assert!(digits.len() >= 600 && digits.len().is_multiple_of(10), "{}", digits.len());
        for (place, digit) in digits.iter().enumerate() {
            let value = u32::try_from(place % 10).unwrap();
            assert_eq!(folded(&digit.to_string()).parse::<u32>(), Ok(value), "{digit:?}");
        }
    }

    #[test]
    fn nothing_of_a_word_depends_on_characters_that_are_not_seen() {
        let unseen: Vec<char> = (0x80..=0x10_ffff)
            .filter_map(char::from_u32)
            .filter(|character| CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(*character))
            .collect();
        assert!(unseen.len() > 4_000 && unseen.contains(&'\u{ad}'), "{}", unseen.len());
        for character in unseen {
            assert_eq!(CharClass::of(character), CharClass::Mark, "{character:?}");
            assert_eq!(folded(&format!("wo{character}rd{character}")), "word", "{character:?}");
        }
    }

    /// A folded letter is folded already, so that a query may be made of words of the index.
    #[test]
    fn folding_twice_is_folding_once() {
        for letter in (0..=0x10_ffff).filter_map(char::from_u32) {
            let once = folded(&letter.to_string());
            assert_eq!(folded(&once), once, "{letter:?}");
        }
    }
}
