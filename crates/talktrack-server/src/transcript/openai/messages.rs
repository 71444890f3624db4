//! The API's messages of the assistant and of tools.

use serde::Serialize;

use crate::transcript::write_json;

#[derive(Serialize)]
pub(super) struct AssistantJson<'a> {
    pub(super) role: &'static str,
    pub(super) content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<CallJson<'a>>,
}

#[derive(Serialize)]
pub(super) struct CallJson<'a> {
    pub(super) id: &'a str,
    pub(super) r#type: &'static str,
    pub(super) function: FunctionJson<'a>,
}

#[derive(Serialize)]
pub(super) struct FunctionJson<'a> {
    pub(super) name: &'a str,
    pub(super) arguments: &'a str,
}

#[derive(Serialize)]
pub(super) struct ToolJson<'a> {
    pub(super) role: &'static str,
    pub(super) tool_call_id: &'a str,
    pub(super) content: &'a str,
}

/// Returns a message as JSON.
pub(super) fn to_json(message: &impl Serialize) -> String {
    let mut json = String::new();
    write_json(message, &mut json);
    json
}
