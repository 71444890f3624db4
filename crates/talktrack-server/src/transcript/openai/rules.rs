//! The rules of the API for an array of messages, as its documentation and its refusals state them.

use std::collections::HashSet;

use serde_json::Value;
use serde_json::value::RawValue;

/// Returns the messages of an export.
///
/// # Panics
/// Panics if the export is no array, or if the API would refuse it.
pub(super) fn accepted(export: &str) -> Vec<Value> {
    let messages: Vec<Value> =
        serde_json::from_str(export).unwrap_or_else(|error| panic!("{error}: {export}"));
    let mut open: Vec<String> = Vec::new();
    for (place, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap();
        assert_eq!(role == "tool", !open.is_empty(), "message {place} of {export}");
        match role {
            "tool" => {
                assert!(message["content"].is_string(), "{message}");
                let id = message["tool_call_id"].as_str().unwrap();
                let at = open.iter().position(|open| open == id);
                open.remove(at.unwrap_or_else(|| panic!("{id} is open at message {place} of {export}")));
            }
            "assistant" => open = check_assistant(message),
            "user" | "system" | "developer" => {
                assert!(message["content"].as_str().is_some_and(|text| !text.is_empty()), "{message}");
                let name = message.get("name").map(|name| name.as_str().unwrap());
                assert!(name.is_none_or(is_name), "{message}");
            }
            _ => panic!("{message}"),
        }
    }
    assert!(open.is_empty(), "{open:?} at the end of {export}");
    messages
}

/// Checks a message of the assistant, and returns the ids of its calls.
fn check_assistant(message: &Value) -> Vec<String> {
    let content = &message["content"];
    assert!(content.is_null() || content.as_str().is_some_and(|text| !text.is_empty()), "{message}");
    let Some(calls) = message.get("tool_calls") else {
        assert!(content.is_string(), "{message}");
        return Vec::new();
    };
    let calls = calls.as_array().unwrap();
    assert!((1..=128).contains(&calls.len()), "{message}");
    let check = |call: &Value| {
        assert_eq!(call["type"], "function", "{message}");
        assert!(is_name(call["function"]["name"].as_str().unwrap()), "{message}");
        let arguments = call["function"]["arguments"].as_str().unwrap();
        assert!(serde_json::from_str::<&RawValue>(arguments).is_ok(), "{message}");
        let id = call["id"].as_str().unwrap();
        assert!((1..=40).contains(&id.chars().count()), "{message}");
        id.to_owned()
    };
    let ids: Vec<String> = calls.iter().map(check).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "{message}");
    ids
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}
