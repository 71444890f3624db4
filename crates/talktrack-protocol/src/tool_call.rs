//! Tool calls and their results as callers send them, in the shapes of the APIs of `OpenAI` and Anthropic, of `LangChain` and of the
//! Vercel AI SDK. They become message parts of OpenTelemetry
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/>).

use serde_json::value::RawValue;
use talktrack_core::error::Invalid;
use talktrack_core::{JsonObject, Kind};

use crate::borrowed::{Members, push_member, to_json_string};

/// The names that a member has in the different shapes, the first one being OpenTelemetry's.
type Names = &'static [&'static str];

const CALL_ID: Names = &["id", "call_id", "tool_call_id", "toolCallId"];
const CALL_NAME: Names = &["name", "toolName"];
const ARGUMENTS: Names = &["arguments", "args", "input"];
const RESULT_ID: Names = &["id", "call_id", "tool_call_id", "tool_use_id", "toolCallId"];
const RESPONSE: Names = &["response", "result", "output", "content"];

/// Returns the part for a tool call or a result among the parts of a content, and which of the two it is. `None` if it is
/// something else.
pub(crate) fn to_part(part_type: Option<&str>, members: &Members<'_>) -> Option<(Kind, String)> {
    match part_type? {
        "tool_call" | "tool-call" | "tool_use" | "function_call" => Some((Kind::ToolCall, to_call(members))),
        "tool_call_response" | "tool-result" | "tool_result" | "function_call_output" => {
            let renamed = [(RESULT_ID, "id"), (CALL_NAME, "name"), (RESPONSE, "response")];
            Some((Kind::ToolResult, rename(members, "tool_call_response", &renamed)))
        }
        _ => None,
    }
}

/// Reads the array `tool_calls` of a message.
///
/// # Errors
/// If it is not an array of objects.
pub(crate) fn read_calls(raw: &RawValue) -> Result<Vec<String>, Invalid> {
    let invalid = |_| Invalid::new("tool_calls", "must be an array of objects");
    let calls: Vec<Members<'_>> = serde_json::from_str(raw.get()).map_err(invalid)?;
    Ok(calls.iter().map(read_call).collect())
}

/// Reads `function_call` of a message, which came before `tool_calls` in `OpenAI`'s API.
///
/// # Errors
/// If it is not an object.
pub(crate) fn read_single_call(raw: &RawValue) -> Result<String, Invalid> {
    let call = serde_json::from_str(raw.get());
    call.map(|call| read_call(&call)).map_err(|_| Invalid::new("function_call", "must be an object"))
}

fn read_call(members: &Members<'_>) -> String {
    // In OpenAI's shape, `function` holds the name and the arguments.
    let function =
        members.find("function").and_then(|raw| serde_json::from_str::<Members<'_>>(raw.get()).ok());
    let Some(Members(function)) = function else { return to_call(members) };
    let outer = members.0.iter().filter(|(name, _)| name != "function").cloned();
    to_call(&Members(outer.chain(function).collect()))
}

fn to_call(members: &Members<'_>) -> String {
    rename(members, "tool_call", &[(CALL_ID, "id"), (CALL_NAME, "name"), (ARGUMENTS, "arguments")])
}

/// Returns the part with which a message answers the tool call with this id.
pub(crate) fn to_response(id: Option<&str>, name: Option<&str>) -> String {
    let members = [("id", id), ("name", name)].into_iter();
    let members = members.filter_map(|(member, text)| Some((member, to_json_string(text?))));
    let members: Vec<_> = members.collect();
    to_object("tool_call_response", members.iter().map(|(member, text)| (*member, text.as_str())))
}

/// Returns an object with this `type`, in which the first of the given names of each member is replaced.
fn rename(members: &Members<'_>, part_type: &str, renamed: &[(Names, &'static str)]) -> String {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    for (names, new) in renamed {
        let found = names.iter().find_map(|name| members.find(name));
        pairs.extend(found.map(|value| (*new, unpack_arguments(new, value))));
    }
    let chosen = |name: &str| {
        let of_member =
            |(names, _): &(Names, _)| names.iter().find(|name| members.find(name).is_some()) == Some(&name);
        renamed.iter().any(of_member)
    };
    let others =
        members.0.iter().filter(|(name, value)| name != "type" && !chosen(name) && value.get() != "null");
    pairs.extend(others.map(|(name, value)| (name.as_ref(), value.get().to_owned())));
    to_object(part_type, pairs.iter().map(|(name, value)| (*name, value.as_str())))
}

/// Arguments are often JSON within a string.
fn unpack_arguments(member: &str, value: &RawValue) -> String {
    let packed = (member == "arguments").then(|| serde_json::from_str::<String>(value.get()).ok()).flatten();
    let object = packed.and_then(|text| JsonObject::parse(&text).ok());
    object.map_or_else(|| value.get().to_owned(), |object| object.as_str().to_owned())
}

/// Returns an object with this `type` and these members. A member whose name was already there is left out.
pub(crate) fn to_object<'m>(part_type: &str, members: impl Iterator<Item = (&'m str, &'m str)>) -> String {
    let mut object = String::from("{");
    let mut names = vec!["type"];
    push_member(&mut object, "type", &to_json_string(part_type));
    for (name, value) in members {
        if !names.contains(&name) {
            push_member(&mut object, name, value);
            names.push(name);
        }
    }
    object.push('}');
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_every_shape_become_the_same_part() {
        let part = r#"{"type":"tool_call","id":"c1","name":"find","arguments":{"q":1.0}}"#;
        for call in [
            r#"{"id":"c1","type":"function","function":{"name":"find","arguments":"{\"q\":1.0}"}}"#,
            r#"{"name":"find","args":{"q":1.0},"id":"c1","type":"tool_call"}"#,
            r#"{"call_id":"c1","name":"find","arguments":"{\"q\":1.0}"}"#,
            r#"{"toolCallId":"c1","toolName":"find","input":{"q":1.0}}"#,
            part,
        ] {
            let raw: Box<RawValue> = serde_json::from_str(&format!("[{call}]")).unwrap();
            assert_eq!(read_calls(&raw), Ok(vec![part.to_owned()]), "{call}");
        }
    }

    #[test]
    fn nothing_of_a_call_is_lost() {
        let raw: Box<RawValue> = serde_json::from_str(
            r#"[{"id":"c1","index":0,"function":{"name":"find","arguments":"not {json","strict":true}},{"call_id":"x","id":"y"}]"#,
        )
        .unwrap();
        assert_eq!(
            read_calls(&raw).unwrap(),
            [
                r#"{"type":"tool_call","id":"c1","name":"find","arguments":"not {json","index":0,"strict":true}"#,
                r#"{"type":"tool_call","id":"y","call_id":"x"}"#,
            ]
        );
        for odd in ["{}", "[7]", "\"x\""] {
            let raw: Box<RawValue> = serde_json::from_str(odd).unwrap();
            assert_eq!(read_calls(&raw).unwrap_err().to_string(), "tool_calls: must be an array of objects");
        }
    }
}
