//! The fields of all frames, as they were sent.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use talktrack_core::error::Invalid;
use talktrack_core::ids::{MessageId, UserId};
use talktrack_core::{JsonObject, Kind, Timestamp};

use crate::borrowed::{Word, is_null};
use crate::content::SentContent;
use crate::sent_role::SentRole;
use crate::sent_time::{InvalidSentTime, SentTime};
use crate::session_name::SessionName;

/// Declares the fields: the name on the wire, the name here, and the type.
macro_rules! fields {
    ($($(#[$doc:meta])* $name:literal $field:ident: $type:ty),+ $(,)?) => {
        /// The fields of a frame. `null` is the same as a missing field.
        #[derive(Default)]
        pub(crate) struct FrameFields<'a> {
            $($(#[$doc])* pub(crate) $field: Option<$type>,)+
            /// The fields that no frame has, without those that are null.
            pub(crate) unknown: Vec<(Cow<'a, str>, &'a RawValue)>,
        }

        /// The names of all fields.
        pub(crate) const NAMES: &[&str] = &[$($name),+];

        impl FrameFields<'_> {
            /// Returns the names of the fields that the frame has.
            fn present(&self) -> impl Iterator<Item = &str> {
                let known = [$(self.$field.is_some().then_some($name)),+];
                known.into_iter().flatten().chain(self.unknown.iter().map(|(name, _)| name.as_ref()))
            }
        }

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = FrameFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<FrameFields<'de>, M::Error> {
                let mut fields = FrameFields::default();
                while let Some(Word(name)) = map.next_key()? {
                    match name.as_ref() {
                        $($name if fields.$field.is_some() => return Err(M::Error::duplicate_field($name)),
                        $name => fields.$field = map.next_value()?,)+
                        _ => {
                            let value: &RawValue = map.next_value()?;
                            if !is_null(value) {
                                fields.unknown.push((name, value));
                            }
                        }
                    }
                }
                Ok(fields)
            }
        }
    };
}

struct FieldsVisitor;

fields! {
    "type" frame_type: Word<'a>,
    "ref" reference: &'a RawValue,
    "session_id" session_id: SessionName,
    "user_id" user_id: UserId,
    "role" role: SentRole<'a>,
    "content" content: SentContent<'a>,
    "id" id: MessageId,
    "external_id" external_id: String,
    "created_at" created_at: SentTime,
    "kind" kind: Kind,
    "revision" revision: u32,
    "interrupted" interrupted: bool,
    "audio_url" audio_url: String,
    "metadata" metadata: &'a RawValue,
    "content_generated" content_generated: String,
    "parts" parts: &'a RawValue,
    "metrics" metrics: &'a RawValue,
    "extra" extra: &'a RawValue,
    "tool_calls" tool_calls: &'a RawValue,
    "function_call" function_call: &'a RawValue,
    "tool_call_id" tool_call_id: &'a RawValue,
    "name" name: &'a RawValue,
    // These belong to one type of frame, and tools use their names for other things. Only that type parses them.
    "reason" reason: &'a RawValue,
    "resume" resume: &'a RawValue,
    "started_at" started_at: &'a RawValue,
    "ended_at" ended_at: &'a RawValue,
    "status" status: &'a RawValue,
    "agent" agent: &'a RawValue,
    "agent_version" agent_version: &'a RawValue,
    "channel" channel: &'a RawValue,
    "environment" environment: &'a RawValue,
    "parent_session_id" parent_session_id: &'a RawValue,
    "tags" tags: &'a RawValue,
    "token" token: &'a RawValue,
}

impl<'de> Deserialize<'de> for FrameFields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

impl FrameFields<'_> {
    /// Returns an error that names the first field that a frame of this type does not have. `own` are the fields that it has
    /// beside those of every frame.
    pub(crate) fn check_only(&self, frame_type: &str, own: &[&str]) -> Result<(), Invalid> {
        let is_own =
            |name: &&str| matches!(*name, "type" | "ref" | "session_id" | "user_id") || own.contains(name);
        match self.present().find(|name| !is_own(name)) {
            None => Ok(()),
            Some(name) => {
                let meant = own.iter().find(|own| is_nearly(name, own));
                let hint = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
                Err(Invalid::new(shown(name), format!("{frame_type} has no such field{hint}")))
            }
        }
    }

    /// Returns an error if the name of an unknown field is nearly the name of a field that the frame may have: all but `foreign`.
    pub(crate) fn check_spelling(&self, foreign: &[&str]) -> Result<(), Invalid> {
        let misspelt = |(name, _): &(Cow<'_, str>, _)| {
            let own = NAMES.iter().filter(|known| !foreign.contains(known));
            let meant = own.into_iter().find(|known| is_nearly(name, known))?;
            Some(Invalid::new(shown(name), format!("unknown field; did you mean {meant}?")))
        };
        self.unknown.iter().find_map(misspelt).map_or(Ok(()), Err)
    }
}

pub(crate) fn missing_field(field: &'static str) -> Invalid {
    Invalid::new(field, "missing")
}

/// Parses the value of a field that must be an object.
pub(crate) fn parse_object(
    field: &'static str,
    raw: Option<&RawValue>,
) -> Result<Option<JsonObject>, Invalid> {
    let object = raw.map(|raw| JsonObject::parse(raw.get())).transpose();
    object.map_err(|error| Invalid::new(field, error.to_string()))
}

/// Parses the value of a field that must be a string.
pub(crate) fn parse_string(field: &'static str, raw: Option<&RawValue>) -> Result<Option<String>, Invalid> {
    parse_value(field, raw, "must be a string")
}

/// Parses the value of a field that must be `true` or `false`.
pub(crate) fn parse_bool(field: &'static str, raw: Option<&RawValue>) -> Result<Option<bool>, Invalid> {
    parse_value(field, raw, "must be true or false")
}

/// Parses the value of a field, or returns an error with what is expected.
pub(crate) fn parse_value<T: DeserializeOwned>(
    field: &'static str,
    raw: Option<&RawValue>,
    expected: &'static str,
) -> Result<Option<T>, Invalid> {
    let value = raw.map(|raw| serde_json::from_str(raw.get())).transpose();
    value.map_err(|_| Invalid::new(field, expected))
}

/// Parses the value of a field that must be a time.
pub(crate) fn parse_time(field: &'static str, raw: Option<&RawValue>) -> Result<Option<Timestamp>, Invalid> {
    let Some(raw) = raw else { return Ok(None) };
    let time = serde_json::from_str::<SentTime>(raw.get());
    time.map(|time| Some(time.into()))
        .map_err(|_| Invalid::new(field, InvalidSentTime::of(raw.get()).to_string()))
}

/// The maximum number of bytes of a field's name in an error or a warning.
const MAX_SHOWN: usize = 64;

/// Returns the name of a field for an error or a warning.
pub(crate) fn shown(name: &str) -> String {
    let end = (0..=name.len().min(MAX_SHOWN)).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    let cut = if end < name.len() { "…" } else { "" };
    format!("{}{cut}", name[..end].escape_debug())
}

/// True if one inserted, removed or replaced character makes the two names equal.
fn is_nearly(name: &str, known: &str) -> bool {
    let (long, short) = if name.len() < known.len() { (known, name) } else { (name, known) };
    let (long, short) = (long.as_bytes(), short.as_bytes());
    if long.len() - short.len() > 1 {
        return false;
    }
    let same = long.iter().zip(short).take_while(|(one, other)| one == other).count();
    // The rest after the first difference must be equal.
    let skipped = usize::from(long.len() == short.len());
    long.get(same + 1..).unwrap_or_default() == short.get(same + skipped..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_one_wrong_character_is_nearly_a_known_one() {
        for (name, known) in [
            ("contents", "content"),
            ("cntent", "content"),
            ("contemt", "content"),
            ("content", "content"),
            ("rol", "role"),
        ] {
            assert!(is_nearly(name, known), "{name}");
        }
        for (name, known) in [
            ("meta", "metadata"),
            ("startedAt", "started_at"),
            ("text", "role"),
            ("", "id"),
            ("cotnent", "content"),
        ] {
            assert!(!is_nearly(name, known), "{name}");
        }
        assert!(NAMES.iter().all(|one| !NAMES.iter().any(|other| one != other && is_nearly(one, other))));
    }

    #[test]
    fn a_long_name_is_cut_for_an_error() {
        assert_eq!(shown("a\u{7}b"), "a\\u{7}b");
        assert_eq!(shown(&"é".repeat(40)), format!("{}…", "é".repeat(32)));
    }
}
