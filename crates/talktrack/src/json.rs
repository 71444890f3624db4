//! JSON that travels as text: checked once at the edge, then carried and stored byte for byte.

use std::fmt;

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
#[derive(Clone, PartialEq, Eq)]
pub struct JsonObject(Box<str>);

/// The text of a JSON array.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonArray(Box<str>);

macro_rules! json_text {
    ($name:ident, $open:literal, $what:literal, $value:ty) => {
        impl $name {
            /// Checks the text and takes it as it is, surrounding white space aside.
            ///
            /// # Errors
            /// Where the text is not JSON, of another type, or nested too deeply.
            pub fn parse(text: &str) -> Result<Self, InvalidJson> {
                check(text, $open, $what).map(|text| Self(text.into()))
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

impl From<&Map<String, Value>> for JsonObject {
    fn from(map: &Map<String, Value>) -> Self {
        let mut text = String::from("{");
        for (index, (key, value)) in map.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            text.push_str(&format!("{comma}{}:{value}", Value::from(key.as_str())));
        }
        text.push('}');
        Self(text.into())
    }
}

fn check<'a>(text: &'a str, open: u8, what: &'static str) -> Result<&'a str, InvalidJson> {
    let text = text.trim();
    if text.as_bytes().first() != Some(&open) {
        return Err(InvalidJson::WrongType(what));
    }
    if depth(text) > MAX_DEPTH {
        return Err(InvalidJson::TooDeep);
    }
    let syntax = |error: serde_json::Error| InvalidJson::Syntax(error.to_string());
    if text.contains("\\u") {
        // Only a full parse notices half a surrogate pair.
        serde_json::from_str::<Value>(text).map_err(syntax)?;
    } else {
        serde_json::from_str::<IgnoredAny>(text).map_err(syntax)?;
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

fn replace_nul(text: &str) -> Option<Box<str>> {
    if !text.contains("\\u0000") {
        return None;
    }
    let before: Value = serde_json::from_str(text).ok()?;
    let after = without_nul(before.clone());
    (after != before).then(|| after.to_string().into())
}

fn without_nul(value: Value) -> Value {
    let clean = |text: String| text.replace('\0', "\u{FFFD}");
    match value {
        Value::String(text) => Value::String(clean(text)),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nul).collect()),
        Value::Object(map) => map.into_iter().map(|(key, value)| (clean(key), without_nul(value))).collect(),
        other => other,
    }
}
