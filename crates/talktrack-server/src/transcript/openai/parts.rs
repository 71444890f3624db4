//! The tool calls and results among the parts of a message, in OpenTelemetry's shape
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/>). Other programs may have written other things there: what cannot
//! be read is left out, and everything beside it is read.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use talktrack::json;

/// The tool calls and results of a message.
#[derive(Debug, Default)]
pub(super) struct ToolParts {
    pub(super) calls: Vec<CallPart>,
    pub(super) responses: Vec<ResponsePart>,
}

#[derive(Debug)]
pub(super) struct CallPart {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    /// Arguments as JSON.
    pub(super) arguments: String,
}

#[derive(Debug)]
pub(super) struct ResponsePart {
    /// The id of the call that this answers.
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    /// The result as text. `None` if the content of the message is the result.
    pub(super) text: Option<String>,
}

type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

impl ToolParts {
    /// Reads the parts from the JSON of the column.
    pub(super) fn read(json: &str) -> Self {
        let mut read = Self::default();
        let parts: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
        for part in parts {
            let Ok(members) = serde_json::from_str::<Members<'_>>(part.get()) else { continue };
            let text = |name: &str| find(&members, name).and_then(as_string);
            // An id is often a number, and an empty one is none.
            let id = find(&members, "id").map(as_text).filter(|id| !id.is_empty());
            match text("type").as_deref() {
                Some("tool_call") => {
                    let arguments = to_arguments(find(&members, "arguments"));
                    read.calls.push(CallPart { id, name: text("name"), arguments });
                }
                Some("tool_call_response") => {
                    let response =
                        find(&members, "response").or_else(|| find(&members, "result")).map(as_result);
                    read.responses.push(ResponsePart { id, name: text("name"), text: response });
                }
                _ => {}
            }
        }
        read
    }
}

/// Returns the member, unless it is null.
fn find<'a>(members: &Members<'a>, name: &str) -> Option<&'a RawValue> {
    members.get(name).copied().filter(|value| value.get() != "null")
}

fn as_string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// Returns the text of a string, and the JSON of any other value.
fn as_text(value: &RawValue) -> String {
    as_string(value).unwrap_or_else(|| value.get().to_owned())
}

/// Returns a result as text. Some tools answer with an array of texts.
fn as_result(value: &RawValue) -> String {
    let parts: Vec<Members<'_>> = serde_json::from_str(value.get()).unwrap_or_default();
    let text = |part: &Members<'_>| {
        let is_text = find(part, "type").and_then(as_string).is_some_and(|part_type| part_type == "text");
        find(part, "text").filter(|_| is_text).and_then(as_string)
    };
    let texts: Option<Vec<_>> = parts.iter().map(text).collect();
    match texts {
        Some(texts) if !texts.is_empty() => texts.join("\n"),
        _ => as_text(value),
    }
}

/// Returns arguments as JSON. A string is JSON already, or becomes JSON.
fn to_arguments(value: Option<&RawValue>) -> String {
    let Some(value) = value else { return "{}".to_owned() };
    match as_string(value) {
        Some(text) if text.trim().is_empty() => "{}".to_owned(),
        Some(text) if is_json(&text) => text,
        // A lone surrogate is valid within JSON of other programs only.
        _ => json::replace_lone_surrogates(value.get()).map_or_else(|| value.get().to_owned(), Into::into),
    }
}

fn is_json(text: &str) -> bool {
    json::depth(text) <= json::MAX_DEPTH
        && json::surrogates_are_paired(text)
        && serde_json::from_str::<&RawValue>(text).is_ok()
}
