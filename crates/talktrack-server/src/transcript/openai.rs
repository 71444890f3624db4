//! The array of messages that chat models accept: `OpenAI`'s chat completions and compatible ones.
//!
//! The content is what was heard, not what was generated. Tool calls are made from the message's `parts`, which have
//! OpenTelemetry's shape (`{"type": "tool_call", "id", "name", "arguments"}`, `{"type": "tool_call_response", "id",
//! "response"}`, <https://opentelemetry.io/docs/specs/semconv/gen-ai/>). Events mean nothing to a model and are left
//! out.

use serde_json::{Value, json};
use talktrack::store::{MessageRow, SessionRow};
use talktrack::{Kind, Role};

use super::{TranscriptWriter, write_json};

#[derive(Default)]
pub(super) struct OpenAiTranscript {
    has_messages: bool,
    /// The last tool call. A result without an id belongs to it.
    last_call: Option<String>,
}

impl TranscriptWriter for OpenAiTranscript {
    fn write_start(&mut self, _: &SessionRow, out: &mut String) {
        out.push('[');
    }

    fn write_message(&mut self, row: &MessageRow, out: &mut String) {
        for message in self.convert_row(row) {
            out.push_str(if self.has_messages { ",\n" } else { "\n" });
            self.has_messages = true;
            write_json(&message, out);
        }
    }

    fn write_end(&mut self, _: &SessionRow, out: &mut String) {
        out.push_str(if self.has_messages { "\n]\n" } else { "]\n" });
        (self.has_messages, self.last_call) = (false, None);
    }
}

impl OpenAiTranscript {
    fn convert_row(&mut self, row: &MessageRow) -> Vec<Value> {
        let parts: Option<Vec<Value>> =
            row.parts.as_ref().and_then(|json| serde_json::from_str(json.as_str()).ok());
        let parts = parts.unwrap_or_default();
        match row.kind.known() {
            Some(Kind::Message) if row.role == Role::Tool => self.tool_results(row, &parts),
            // A turn of which nothing was heard or understood.
            Some(Kind::Message) if row.content.is_empty() => Vec::new(),
            Some(Kind::Message) => vec![json!({"role": row.role, "content": row.content})],
            Some(Kind::ToolCall) => vec![self.tool_call(row, &parts)],
            Some(Kind::ToolResult) => self.tool_results(row, &parts),
            // An event says nothing, and the meaning of a kind that another program defined is unknown.
            _ => Vec::new(),
        }
    }

    fn tool_call(&mut self, row: &MessageRow, parts: &[Value]) -> Value {
        let mut calls = Vec::new();
        for part in parts.iter().filter(|part| part["type"] == "tool_call") {
            let id = part["id"].as_str().map_or_else(|| row.id.to_string(), str::to_owned);
            let function = json!({"name": part["name"], "arguments": as_text(&part["arguments"])});
            calls.push(json!({"id": id, "type": "function", "function": function}));
            self.last_call = Some(id);
        }
        if calls.is_empty() {
            // The function is not known, so only the text is exported.
            return json!({"role": "assistant", "content": row.content});
        }
        let content = Some(&row.content).filter(|content| !content.is_empty());
        json!({"role": "assistant", "content": content, "tool_calls": calls})
    }

    fn tool_results(&mut self, row: &MessageRow, parts: &[Value]) -> Vec<Value> {
        let responses = parts.iter().filter(|part| part["type"] == "tool_call_response");
        let mut results: Vec<_> = responses
            .map(|part| {
                let response = part.get("response").or_else(|| part.get("result"));
                let text = response.map_or_else(|| row.content.clone(), as_text);
                self.tool_result(part["id"].as_str(), row, &text)
            })
            .collect();
        if results.is_empty() {
            results.push(self.tool_result(None, row, &row.content));
        }
        results
    }

    fn tool_result(&self, call: Option<&str>, row: &MessageRow, content: &str) -> Value {
        let call = call.map(str::to_owned).or_else(|| self.last_call.clone());
        let call = call.unwrap_or_else(|| row.id.to_string());
        json!({"role": "tool", "tool_call_id": call, "content": content})
    }
}

/// Models expect arguments and results as text.
fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
