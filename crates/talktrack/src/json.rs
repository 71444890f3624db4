//! JSON that travels as text: checked once at the edge, then carried byte for byte. Two texts are equal where they mean the
//! same: some databases keep the bytes, others spell the value anew.

mod meaning;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{self, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Deeper JSON is refused: databases and readers recurse, and theirs is not our stack to overflow.
pub const MAX_DEPTH: usize = 100;

/// Digits of a number before and after the decimal point, written without exponent: PostgreSQL's `numeric`, in which `jsonb`
/// keeps numbers, holds no more. <https://www.postgresql.org/docs/current/datatype-numeric.html>
pub const MAX_DIGITS: (usize, usize) = (131_072, 16_383);

/// The longest metadata of a session, in bytes, after all updates are merged. Each update writes all of them again.
pub const MAX_SESSION_METADATA: usize = 64 << 10;

/// Digits of all numbers of a text together, written without exponent: that is how PostgreSQL gives them back, and eight bytes such
/// as `1e131071` become 131,072.
pub const MAX_DIGITS_IN_ALL: usize = 1 << 20;

/// Why a text is not the JSON that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJson {
    /// Not JSON at all, or with half a surrogate pair in a string, which no database stores.
    #[error("not valid JSON: {0}")]
    Syntax(String),
    /// Valid JSON of another type.
    #[error("must be a JSON {0}")]
    WrongType(&'static str),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// With a number that PostgreSQL cannot hold: see [`MAX_DIGITS`].
    #[error("a number has more than {} digits before the decimal point, or more than {} after it", MAX_DIGITS.0, MAX_DIGITS.1)]
    NumberOutOfRange,
    /// With numbers that are too long together: see [`MAX_DIGITS_IN_ALL`].
    #[error("all numbers together have more than {MAX_DIGITS_IN_ALL} digits, written without exponent")]
    TooManyDigits,
}

/// The text of a JSON object.
#[derive(Clone)]
pub struct JsonObject(Box<str>);

/// The text of a JSON array.
#[derive(Clone)]
pub struct JsonArray(Box<str>);

macro_rules! json_text {
    ($name:ident, $open:literal, $what:literal, $value:ty) => {
        impl $name {
            /// Checks the text and takes it as it is, surrounding white space aside. Line breaks between its parts become
            /// spaces, so that it fits into a line.
            ///
            /// # Errors
            /// Where the text is not JSON, of another type, or nested too deeply.
            pub fn parse(text: &str) -> Result<Self, InvalidJson> {
                check(text, $open, $what).map(|text| Self(in_one_line(text)))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text as a tree.
            pub fn to_value(&self) -> $value {
                serde_json::from_str(&self.0).unwrap_or_default()
            }

            /// The same with each U+0000 in its strings replaced by U+FFFD; `None` where there is none.
            pub(crate) fn without_nul(&self) -> Option<Self> {
                replace_nul(&self.0).map(Self)
            }
        }

        /// Equal is what means the same, however it is spelled.
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                meaning::same(&self.0, &other.0)
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
                raw.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let raw = <Box<RawValue>>::deserialize(deserializer)?;
                Self::parse(raw.get()).map_err(de::Error::custom)
            }
        }
    };
}

json_text!(JsonObject, b'{', "object", Map<String, Value>);
json_text!(JsonArray, b'[', "array", Vec<Value>);

impl JsonObject {
    /// The members by their keys, each value as it is spelled: numbers beyond an `f64` survive.
    pub fn members(&self) -> BTreeMap<String, &RawValue> {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// This object with the members of `added`, each replacing the one of its key; every value as it is spelled.
    pub fn merged(&self, added: &Self) -> Self {
        let mut members = self.members();
        members.extend(added.members());
        Self::of(members.iter().map(|(key, value)| (key.as_str(), value.get())))
    }

    /// An object of another program, with numbers that [`JsonObject::parse`] may refuse. The text is valid JSON.
    pub(crate) fn of_valid_json(text: &str) -> Option<Self> {
        text.starts_with('{').then(|| Self(text.into()))
    }

    fn of<'a>(members: impl Iterator<Item = (&'a str, impl fmt::Display)>) -> Self {
        let mut text = String::from("{");
        for (key, value) in members {
            let comma = if text.len() == 1 { "" } else { "," };
            text.push_str(&format!("{comma}{}:{value}", Value::from(key)));
        }
        text.push('}');
        Self(text.into())
    }
}

impl Default for JsonObject {
    fn default() -> Self {
        Self("{}".into())
    }
}

impl From<&Map<String, Value>> for JsonObject {
    fn from(map: &Map<String, Value>) -> Self {
        Self::of(map.iter().map(|(key, value)| (key.as_str(), value)))
    }
}

/// Valid JSON has line breaks between its parts only: inside a string they are escaped.
pub(crate) fn in_one_line(text: &str) -> Box<str> {
    if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ").into() } else { text.into() }
}

fn check<'a>(text: &'a str, open: u8, what: &'static str) -> Result<&'a str, InvalidJson> {
    let text = text.trim();
    if text.as_bytes().first() != Some(&open) {
        return Err(InvalidJson::WrongType(what));
    }
    if depth(text) > MAX_DEPTH {
        return Err(InvalidJson::TooDeep);
    }
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| InvalidJson::Syntax(error.to_string()))?;
    if !surrogates_are_paired(text) {
        return Err(InvalidJson::Syntax("half a surrogate pair in a string".into()));
    }
    let mut in_all = 0_usize;
    for number in numbers(text) {
        let (before, after) = digits(number).ok_or(InvalidJson::NumberOutOfRange)?;
        in_all = in_all.saturating_add(before + after);
    }
    // Numbers that are spelled out are bounded by the text itself.
    if in_all > MAX_DIGITS_IN_ALL.max(text.len()) { Err(InvalidJson::TooManyDigits) } else { Ok(text) }
}

/// The numbers of a valid JSON text, as they are spelled.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let (mut at, mut in_string) = (0, false);
    std::iter::from_fn(move || {
        while let Some(byte) = bytes.get(at) {
            let start = at;
            at += 1;
            match byte {
                b'\\' if in_string => at += 1,
                b'"' => in_string = !in_string,
                b'-' | b'0'..=b'9' if !in_string => {
                    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                    at += bytes[at..].iter().take_while(|byte| is_part(byte)).count();
                    return Some(&text[start..at]);
                }
                _ => {}
            }
        }
        None
    })
}

/// The digits of a number before and after its point, written without exponent; `None` if PostgreSQL cannot hold it.
fn digits(number: &str) -> Option<(usize, usize)> {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    // An exponent that is no i64 is larger than any limit.
    let exponent = exponent.parse::<i64>().ok()?;
    let (before, after) = digits.split_once('.').unwrap_or((digits, ""));
    let len = |digits: &str| i64::try_from(digits.trim_start_matches('-').len()).unwrap_or(i64::MAX);
    let within = |digits: i64, most: usize| {
        // The point may move beyond the other end.
        usize::try_from(digits.max(0)).ok().filter(|digits| *digits <= most)
    };
    let before = within(len(before).saturating_add(exponent), MAX_DIGITS.0)?;
    let after = within(len(after).saturating_sub(exponent), MAX_DIGITS.1)?;
    Some((before, after))
}

/// The deepest nesting of objects and arrays in a text, brackets inside strings aside.
pub fn depth(text: &str) -> usize {
    let (mut deepest, mut depth, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Where valid JSON has `\uXXXX`, and what it stands for. A parse would tell the same, and lose how numbers are spelled.
fn escapes(text: &str) -> impl Iterator<Item = (usize, u16)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            // In what is no JSON a character of several bytes may follow.
            let at = from + text.get(from..)?.find('\\')?;
            from = at + 2;
            let digits = text.get(at + 1..).and_then(|rest| rest.strip_prefix('u')?.get(..4));
            let is_hex = |digits: &&str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if let Some(digits) = digits.filter(is_hex) {
                return Some((at, u16::from_str_radix(digits, 16).ok()?));
            }
        }
    })
}

pub(crate) fn surrogates_are_paired(text: &str) -> bool {
    lone_surrogates(text).next().is_none()
}

/// The text with each half of a surrogate pair that has no other half (`\ud800`) replaced by U+FFFD; `None` if there is none. No
/// byte moves: both spellings have six bytes. What is no JSON stays none.
pub fn replace_lone_surrogates(text: &str) -> Option<Box<str>> {
    replace(text, || lone_surrogates(text))
}

/// The places of halves of surrogate pairs without their other half.
fn lone_surrogates(text: &str) -> impl Iterator<Item = usize> {
    const HIGH: RangeInclusive<u16> = 0xD800..=0xDBFF;
    const LOW: RangeInclusive<u16> = 0xDC00..=0xDFFF;
    let mut units = escapes(text).filter(|(_, unit)| HIGH.contains(unit) || LOW.contains(unit)).peekable();
    std::iter::from_fn(move || {
        loop {
            let (at, unit) = units.next()?;
            // The second half has to begin where the first one ends.
            let is_second = |(next, unit): &(usize, u16)| *next == at + 6 && LOW.contains(unit);
            if !HIGH.contains(&unit) || units.next_if(is_second).is_none() {
                return Some(at);
            }
        }
    })
}

fn replace_nul(text: &str) -> Option<Box<str>> {
    replace(text, || escapes(text).filter(|(_, unit)| *unit == 0).map(|(at, _)| at))
}

/// The text with U+FFFD instead of the escapes at these places; `None` if there are none. All escapes have six bytes.
fn replace<P: Iterator<Item = usize>>(text: &str, places: impl Fn() -> P) -> Option<Box<str>> {
    places().next()?;
    let mut clean = text.to_owned();
    places().for_each(|at| clean.replace_range(at..at + 6, "\\ufffd"));
    Some(clean.into())
}
