//! JSON that travels as text: it is checked once at the edge and then carried byte for byte. Two texts are equal if
//! they have the same meaning, because some databases keep the bytes and others rewrite the value.

mod meaning;
mod pieces;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{self, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub use pieces::{find_member, split_array};

/// The maximum nesting depth. Deeper JSON is refused, because databases and readers parse recursively and could
/// overflow their stack.
pub const MAX_DEPTH: usize = 100;

/// The maximum number of digits of a number before and after the decimal point, written without an exponent.
/// PostgreSQL's `numeric`, which `jsonb` uses for numbers, holds no more.
/// <https://www.postgresql.org/docs/current/datatype-numeric.html>
pub const MAX_DIGITS: (usize, usize) = (131_072, 16_383);

/// The maximum size of a session's metadata in bytes, after all updates are merged. Each update rewrites all of them.
pub const MAX_SESSION_METADATA: usize = 64 << 10;

/// The maximum number of digits of all numbers in a text, written without an exponent. PostgreSQL returns them in this
/// form, in which eight bytes such as `1e131071` become 131,072.
pub const MAX_DIGITS_IN_ALL: usize = 1 << 20;

/// Why a text is not the expected JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJson {
    /// The text is not JSON, or a string contains a lone surrogate, which no database stores.
    #[error("not valid JSON: {0}")]
    Syntax(String),
    /// The text is valid JSON of another type.
    #[error("must be a JSON {0}")]
    WrongType(&'static str),
    /// The JSON is nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// The JSON contains a number that PostgreSQL cannot hold: see [`MAX_DIGITS`].
    #[error("a number has more than {} digits before the decimal point, or more than {} after it", MAX_DIGITS.0, MAX_DIGITS.1)]
    NumberOutOfRange,
    /// All numbers together are too long: see [`MAX_DIGITS_IN_ALL`].
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
            /// Checks the text and keeps it unchanged, without surrounding white space. Line breaks between its parts
            /// become spaces, so that it fits on one line.
            ///
            /// # Errors
            /// An [`InvalidJson`] if the text is not JSON, is of another type, is nested too deeply, or has numbers
            /// beyond the limits.
            pub fn parse(text: &str) -> Result<Self, InvalidJson> {
                validate_json(text, $open, $what).map(|text| Self(in_one_line(text)))
            }

            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Returns the text as a tree.
            pub fn to_value(&self) -> $value {
                serde_json::from_str(&self.0).unwrap_or_default()
            }

            /// Returns a copy in which each U+0000 in a string is replaced by U+FFFD, or `None` if there is none.
            pub fn without_nul(&self) -> Option<Self> {
                replace_nul(&self.0).map(Self)
            }
        }

        /// Two texts are equal if they have the same meaning, however they are written.
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                meaning::is_same_value(&self.0, &other.0)
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
    /// Returns the members by key. Each value keeps its spelling, so that numbers beyond an `f64` survive.
    pub fn members(&self) -> BTreeMap<String, &RawValue> {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// Returns this object with the members of `added`. A member replaces an existing one of the same key. Each value
    /// keeps its spelling.
    pub fn merged(&self, added: &Self) -> Self {
        let mut members = self.members();
        members.extend(added.members());
        Self::from_members(members.iter().map(|(key, value)| (key.as_str(), value.get())))
    }

    /// Returns this object with the members of `patch`. A member replaces an existing one of the same key, and a member with
    /// the value `null` removes it, as in RFC 7396 (JSON Merge Patch).
    pub fn patched(&self, patch: &Self) -> Self {
        let mut members = self.members();
        for (key, value) in patch.members() {
            if is_null(value) {
                members.remove(&key);
            } else {
                members.insert(key, value);
            }
        }
        Self::from_members(members.iter().map(|(key, value)| (key.as_str(), value.get())))
    }

    /// Returns this object with those members of `added` that it does not have. Members of `added` with the value `null` add
    /// nothing.
    pub fn filled_in(&self, added: &Self) -> Self {
        let mut members = added.members();
        members.retain(|_, value| !is_null(value));
        members.extend(self.members());
        Self::from_members(members.iter().map(|(key, value)| (key.as_str(), value.get())))
    }

    /// Creates an object that another program wrote, with numbers that [`JsonObject::parse`] may refuse. The text must
    /// be valid JSON.
    pub fn from_valid_json(text: &str) -> Option<Self> {
        text.starts_with('{').then(|| Self(text.into()))
    }

    fn from_members<'a>(members: impl Iterator<Item = (&'a str, impl fmt::Display)>) -> Self {
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
        Self::from_members(map.iter().map(|(key, value)| (key.as_str(), value)))
    }
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// Replaces line breaks by spaces. Valid JSON has line breaks only between its parts: inside a string they are escaped.
#[doc(hidden)]
pub fn in_one_line(text: &str) -> Box<str> {
    if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ").into() } else { text.into() }
}

fn validate_json<'a>(text: &'a str, open: u8, what: &'static str) -> Result<&'a str, InvalidJson> {
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
    for number in find_numbers(text) {
        let (before, after) = count_digits(number).ok_or(InvalidJson::NumberOutOfRange)?;
        in_all = in_all.saturating_add(before + after);
    }
    // A number without an exponent cannot have more digits than the text has bytes.
    if in_all > MAX_DIGITS_IN_ALL.max(text.len()) { Err(InvalidJson::TooManyDigits) } else { Ok(text) }
}

/// Returns the numbers of a valid JSON text in their spelling.
fn find_numbers(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut in_string = false;
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

/// Returns the number of digits before and after the decimal point, written without an exponent, or `None` if
/// PostgreSQL cannot hold the number.
fn count_digits(number: &str) -> Option<(usize, usize)> {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    // An exponent that does not fit an i64 is larger than any limit.
    let exponent = exponent.parse::<i64>().ok()?;
    let (before, after) = digits.split_once('.').unwrap_or((digits, ""));
    let len = |digits: &str| i64::try_from(digits.trim_start_matches('-').len()).unwrap_or(i64::MAX);
    let within = |digits: i64, most: usize| {
        // The exponent may move the point beyond the other end.
        usize::try_from(digits.max(0)).ok().filter(|digits| *digits <= most)
    };
    let before = within(len(before).saturating_add(exponent), MAX_DIGITS.0)?;
    let after = within(len(after).saturating_sub(exponent), MAX_DIGITS.1)?;
    Some((before, after))
}

/// Returns the nesting depth of objects and arrays in a text. Brackets inside strings do not count.
#[doc(hidden)]
pub fn depth(text: &str) -> usize {
    let mut deepest = 0usize;
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
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

/// Returns the position and the code unit of each `\uXXXX` in valid JSON. A parser would give the same, but lose the
/// spelling of numbers.
fn find_escapes(text: &str) -> impl Iterator<Item = (usize, u16)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            // In text that is not JSON, a character of several bytes may follow.
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

/// True if every `\u` escape of half a surrogate pair in this JSON has its other half.
#[doc(hidden)]
pub fn surrogates_are_paired(text: &str) -> bool {
    find_lone_surrogates(text).next().is_none()
}

/// Replaces each lone surrogate (such as `\ud800`) by U+FFFD. Returns `None` if there is none. No other byte moves,
/// because both escapes have six bytes. Text that is not JSON does not become JSON.
#[doc(hidden)]
pub fn replace_lone_surrogates(text: &str) -> Option<Box<str>> {
    replace_escapes(text, || find_lone_surrogates(text))
}

/// Returns the positions of lone surrogates.
fn find_lone_surrogates(text: &str) -> impl Iterator<Item = usize> {
    const HIGH: RangeInclusive<u16> = 0xD800..=0xDBFF;
    const LOW: RangeInclusive<u16> = 0xDC00..=0xDFFF;
    let mut units =
        find_escapes(text).filter(|(_, unit)| HIGH.contains(unit) || LOW.contains(unit)).peekable();
    std::iter::from_fn(move || {
        loop {
            let (at, unit) = units.next()?;
            // The second half must directly follow the first one.
            let is_second = |(next, unit): &(usize, u16)| *next == at + 6 && LOW.contains(unit);
            if !HIGH.contains(&unit) || units.next_if(is_second).is_none() {
                return Some(at);
            }
        }
    })
}

fn replace_nul(text: &str) -> Option<Box<str>> {
    replace_escapes(text, || find_escapes(text).filter(|(_, unit)| *unit == 0).map(|(at, _)| at))
}

/// Replaces the escapes at these positions by U+FFFD. Returns `None` if there are none. All escapes have six bytes.
fn replace_escapes<P: Iterator<Item = usize>>(text: &str, places: impl Fn() -> P) -> Option<Box<str>> {
    places().next()?;
    let mut clean = text.to_owned();
    places().for_each(|at| clean.replace_range(at..at + 6, "\\ufffd"));
    Some(clean.into())
}
