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
fn in_one_line(text: &str) -> Box<str> {
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
    Ok(text)
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
            let at = from + text[from..].find('\\')?;
            from = at + 2;
            if let Some(digits) = text.get(at + 1..).and_then(|rest| rest.strip_prefix('u')?.get(..4)) {
                return Some((at, u16::from_str_radix(digits, 16).ok()?));
            }
        }
    })
}

fn surrogates_are_paired(text: &str) -> bool {
    const HIGH: RangeInclusive<u16> = 0xD800..=0xDBFF;
    const LOW: RangeInclusive<u16> = 0xDC00..=0xDFFF;
    // Where the first half ended, the second has to begin.
    let mut open = None;
    for (at, unit) in escapes(text) {
        if LOW.contains(&unit) != (open == Some(at)) || open.is_some_and(|end| end != at) {
            return false;
        }
        open = HIGH.contains(&unit).then_some(at + 6);
    }
    open.is_none()
}

fn replace_nul(text: &str) -> Option<Box<str>> {
    let places = || escapes(text).filter(|(_, unit)| *unit == 0).map(|(at, _)| at);
    places().next()?;
    let mut clean = text.to_owned();
    // Both spellings have six bytes: the places stay where they are.
    places().for_each(|at| clean.replace_range(at..at + 6, "\\ufffd"));
    Some(clean.into())
}
