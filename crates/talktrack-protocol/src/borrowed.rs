//! Pieces of a JSON text, borrowed from it. Each value keeps its spelling.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A string. It borrows from the text unless it has escapes, which `Option<Cow<str>>` alone would not do.
#[derive(Debug, Deserialize)]
pub(crate) struct Word<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// The members of an object in order, including repeated ones.
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Returns the first member with this name, unless it is null.
    pub(crate) fn find(&self, name: &str) -> Option<&'a RawValue> {
        let (_, value) = self.0.iter().find(|(member, _)| member == name)?;
        Some(*value).filter(|value| !is_null(value))
    }

    /// Returns the first member with this name, if it is a string.
    pub(crate) fn find_string(&self, name: &str) -> Option<Cow<'a, str>> {
        serde_json::from_str::<Word<'a>>(self.find(name)?.get()).ok().map(|Word(text)| text)
    }
}

/// True if the value is `null`, which is the same as a missing field.
pub(crate) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// Appends a member to the text of an object that begins with `{`.
pub(crate) fn push_member(object: &mut String, name: &str, value: &str) {
    if object.len() > 1 {
        object.push(',');
    }
    object.push_str(&to_json_string(name));
    object.push(':');
    object.push_str(value);
}

/// Returns the text as a JSON string.
pub(crate) fn to_json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Vec::new();
                while let Some((Word(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
