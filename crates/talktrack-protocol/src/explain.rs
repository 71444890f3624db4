//! The slow second pass over an invalid frame. It finds the invalid field and says what is expected.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use talktrack_core::clock::InvalidTimestamp;
use talktrack_core::{Kind, Role, Timestamp};
use uuid::Uuid;

use super::reference::{FrameRef, WireError};

/// The error for JSON that is not an object.
pub(super) const NOT_AN_OBJECT: &str = "a frame must be a JSON object";

/// Explains why `text` is invalid. `error` is the error of the first pass.
pub(super) fn explain(text: &str, error: &serde_json::Error) -> WireError {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return WireError::json(format!("not valid JSON: {error}"));
    }
    let pairs = match serde_json::from_str::<Pairs<'_>>(text) {
        Ok(Pairs(pairs)) => pairs,
        // A field name that is not a valid string: it contains a lone surrogate.
        Err(error) if text.trim_ascii_start().starts_with('{') => {
            return WireError::json(format!("not valid JSON: {error}"));
        }
        Err(_) => return WireError::json(NOT_AN_OBJECT),
    };
    let reference = find_reference(&pairs);
    let problem = find_repeated_field(&pairs)
        .or_else(|| pairs.iter().find_map(|(name, value)| check_field(name, value.get())));
    WireError::message(problem.unwrap_or_else(|| error.to_string()), reference)
}

/// Makes the error for a frame whose fields were not examined. The frame's `ref` is found nevertheless.
pub(super) fn unread_frame(text: &str, problem: String) -> WireError {
    let pairs = serde_json::from_str::<Pairs<'_>>(text).ok();
    WireError { reference: pairs.and_then(|Pairs(pairs)| find_reference(&pairs)), ..WireError::json(problem) }
}

fn find_reference(pairs: &[(String, &RawValue)]) -> Option<FrameRef> {
    let (_, value) = pairs.iter().find(|(name, _)| name == "ref")?;
    FrameRef::from_json(value.get()).ok()
}

/// The fields of an object in order, including repeated ones.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs<'de>, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

fn find_repeated_field(pairs: &[(String, &RawValue)]) -> Option<String> {
    let repeated = |(index, (name, _)): (usize, &(String, _))| {
        // Checks only the known fields, which are few: a frame may have a hundred thousand unknown ones.
        let again =
            expected_value(name).is_some() && pairs[..index].iter().any(|(earlier, _)| earlier == name);
        again.then(|| format!("{name}: occurs twice"))
    };
    pairs.iter().enumerate().find_map(repeated)
}

fn check_field(name: &str, value: &str) -> Option<String> {
    let (fits, expected) = expected_value(name)?;
    if value == "null" || fits(value) {
        return None;
    }
    if TIMES.contains(&name) {
        let problem = serde_json::from_str::<String>(value)
            .map_or(Err(InvalidTimestamp::Syntax), |text| text.parse::<Timestamp>());
        return problem.err().map(|problem| format!("{name}: {problem}"));
    }
    // A string that does not parse contains an invalid escape.
    match serde_json::from_str::<String>(value) {
        Err(error) if value.starts_with('"') => Some(format!("{name}: not a valid string: {error}")),
        _ => Some(format!("{name}: {expected}")),
    }
}

const TIMES: [&str; 3] = ["created_at", "started_at", "ended_at"];

type Fits = fn(&str) -> bool;

/// Returns how to check the JSON text of a field's value, and the error if it does not match. `None` for unknown
/// fields.
fn expected_value(name: &str) -> Option<(Fits, String)> {
    let (fits, expected): (Fits, String) = match name {
        "type" | "content" | "external_id" | "audio_url" | "content_generated" | "reason" => {
            (parses_as::<String>, "must be a string".into())
        }
        "session_id" | "user_id" | "id" => (parses_as::<Uuid>, "must be a UUID".into()),
        "role" => (parses_as::<Role>, problem_of::<Role>()),
        "kind" => (parses_as::<Kind>, problem_of::<Kind>()),
        name if TIMES.contains(&name) => (parses_as::<Timestamp>, String::new()),
        "revision" => (parses_as::<u32>, "must be a whole number from 0 to 2147483647".into()),
        "interrupted" => (parses_as::<bool>, "must be true or false".into()),
        "metadata" | "parts" | "metrics" | "ref" => (|_| true, String::new()),
        _ => return None,
    };
    Some((fits, expected))
}

fn parses_as<T: DeserializeOwned>(value: &str) -> bool {
    serde_json::from_str::<T>(value).is_ok()
}

/// Returns the allowed words of a type, as its own error lists them.
fn problem_of<T: std::str::FromStr<Err = talktrack_core::error::Invalid>>() -> String {
    T::from_str("").err().map(|invalid| invalid.problem.into_owned()).unwrap_or_default()
}
