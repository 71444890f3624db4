//! The slow second pass over an invalid frame. It finds the invalid field and says what is expected.

use std::collections::HashSet;

use serde::de::{DeserializeOwned, IgnoredAny};
use talktrack_core::ids::{InvalidUserId, UserId};
use talktrack_core::{Kind, Role, json};
use uuid::Uuid;

use crate::borrowed::Members;
use crate::content::SentContent;
use crate::fields::NAMES;
use crate::reference::{FrameRef, WireError};
use crate::sent_role::SentRole;
use crate::sent_time::{InvalidSentTime, SentTime};
use crate::session_name::SessionName;

/// The error for JSON that is not an object.
pub(super) const NOT_AN_OBJECT: &str = "a frame must be a JSON object";

/// Explains why `text` is invalid. `error` is the error of the first pass.
pub(super) fn explain(text: &str, error: &serde_json::Error) -> WireError {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let is_json = |value: &&str| serde_json::from_str::<IgnoredAny>(value).is_ok();
        let reference = json::find_member(text, "ref").filter(is_json);
        let reference = reference.and_then(|value| FrameRef::from_json(value).ok());
        let session_id =
            json::find_member(text, "session_id").and_then(|name| serde_json::from_str(name).ok());
        return WireError { reference, session_id, ..WireError::json(format!("not valid JSON: {error}")) };
    }
    let fields = match serde_json::from_str::<Members<'_>>(text) {
        Ok(fields) => fields,
        // A field name that is not a valid string: it contains a lone surrogate.
        Err(error) if text.trim_ascii_start().starts_with('{') => {
            return WireError::json(format!("not valid JSON: {error}"));
        }
        Err(_) => return WireError::json(NOT_AN_OBJECT),
    };
    let reference = find_reference(&fields);
    let problem = find_repeated_field(&fields)
        .or_else(|| fields.0.iter().find_map(|(name, value)| check_field(name, value.get())));
    WireError::message(problem.unwrap_or_else(|| error.to_string()), reference, find_session(&fields))
}

/// Makes the error for a frame whose fields were not examined. The frame's `ref` and session are found nevertheless.
pub(super) fn unread_frame(text: &str, problem: String) -> WireError {
    let fields = serde_json::from_str::<Members<'_>>(text).ok();
    let reference = fields.as_ref().and_then(find_reference);
    let session_id = fields.as_ref().and_then(find_session);
    WireError { reference, session_id, ..WireError::json(problem) }
}

fn find_reference(fields: &Members<'_>) -> Option<FrameRef> {
    FrameRef::from_json(fields.find("ref")?.get()).ok()
}

fn find_session(fields: &Members<'_>) -> Option<SessionName> {
    SessionName::parse(&fields.find_string("session_id")?).ok()
}

fn find_repeated_field(fields: &Members<'_>) -> Option<String> {
    let mut seen = HashSet::new();
    let known = fields.0.iter().map(|(name, _)| name.as_ref()).filter(|name| NAMES.contains(name));
    let mut repeated = known.filter(|name| !seen.insert(*name));
    repeated.next().map(|name| format!("{name}: occurs twice"))
}

fn check_field(name: &str, value: &str) -> Option<String> {
    let (fits, expected) = expected_value(name)?;
    if value == "null" || fits(value) {
        return None;
    }
    if name == "created_at" {
        return Some(format!("{name}: {}", InvalidSentTime::of(value)));
    }
    if name == "session_id"
        && let Ok(text) = serde_json::from_str::<String>(value)
    {
        return SessionName::parse(&text).err().map(|problem| format!("{name}: {problem}"));
    }
    // A string that does not parse contains an invalid escape.
    match serde_json::from_str::<String>(value) {
        Err(error) if value.starts_with('"') => Some(format!("{name}: not a valid string: {error}")),
        _ => Some(format!("{name}: {expected}")),
    }
}

type Fits = fn(&str) -> bool;

/// Returns how to check the JSON text of a field's value, and the error if it does not match. `None` for unknown fields, and
/// for those that only one type of frame parses.
fn expected_value(name: &str) -> Option<(Fits, String)> {
    let (fits, expected): (Fits, String) = match name {
        "type" | "external_id" | "audio_url" | "content_generated" => {
            (parses_as::<String>, "must be a string".into())
        }
        "content" => (
            |value| serde_json::from_str::<SentContent<'_>>(value).is_ok(),
            "must be a string or an array of parts".into(),
        ),
        "session_id" => (parses_as::<SessionName>, "must be a UUID or external:NAME".into()),
        "id" => (parses_as::<Uuid>, "must be a UUID".into()),
        "user_id" => (parses_as::<UserId>, InvalidUserId.to_string()),
        "role" => (|value| serde_json::from_str::<SentRole<'_>>(value).is_ok(), problem_of::<Role>()),
        "kind" => (parses_as::<Kind>, problem_of::<Kind>()),
        "created_at" => (parses_as::<SentTime>, String::new()),
        "revision" => (parses_as::<u32>, "must be a whole number from 0 to 2147483647".into()),
        "interrupted" => (parses_as::<bool>, "must be true or false".into()),
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
