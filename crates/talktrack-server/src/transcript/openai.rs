//! The array of messages that `OpenAI`'s chat completions and compatible APIs take.
//!
//! The API refuses a conversation whose tool calls and results do not fit together: an assistant's message with `tool_calls`
//! must be followed by exactly one `tool` message for each of the calls, before anything else. A conversation is recorded as
//! it happened, so results may come late, in another order, twice or never. [`PendingMessages`] puts them in their places.
//!
//! The content is what was heard, not what was generated. Turns of which nothing was heard are left out, as are events, which
//! mean nothing to a model, and kinds that another program defined.

mod pending;
mod messages;
mod parts;
mod limits;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod tests;

use serde::Serialize;
use talktrack::store::{MessageRow, SessionRow};
use talktrack::{Kind, Role, Stored};

use super::{TranscriptWriter, write_json};
use limits::to_name;
use parts::ToolParts;
use pending::{CallKey, PendingMessages, ToolResult};

#[derive(Default)]
pub(super) struct OpenAiTranscript {
    has_messages: bool,
    pending: PendingMessages,
}

impl TranscriptWriter for OpenAiTranscript {
    fn write_start(&mut self, _: &SessionRow, out: &mut String) {
        out.push('[');
    }

    fn write_message(&mut self, row: &MessageRow, out: &mut String) {
        self.add_row(row);
        while let Some(messages) = self.pending.pop_ready() {
            self.write_messages(&messages, out);
        }
    }

    fn write_end(&mut self, _: &SessionRow, out: &mut String) {
        while let Some(messages) = self.pending.pop() {
            self.write_messages(&messages, out);
        }
        out.push_str(if self.has_messages { "\n]\n" } else { "]\n" });
        *self = Self::default();
    }
}

impl OpenAiTranscript {
    fn write_messages(&mut self, messages: &[String], out: &mut String) {
        for message in messages {
            out.push_str(if self.has_messages { ",\n" } else { "\n" });
            self.has_messages = true;
            out.push_str(message);
        }
    }

    fn add_row(&mut self, row: &MessageRow) {
        let Some(kind @ (Kind::Message | Kind::ToolCall | Kind::ToolResult)) = row.kind.known().copied()
        else {
            return;
        };
        let parts = row.parts.as_ref().map(|parts| ToolParts::read(parts.as_str())).unwrap_or_default();
        let speaker = Speaker::from_role(&row.role);
        let mut text = row.content.as_str();
        for (place, response) in parts.responses.iter().enumerate() {
            let content = response.text.as_deref().unwrap_or(&row.content);
            let key = response.id.as_deref().map(CallKey::from_id);
            let unnamed = CallKey::from_row(row.id, place);
            self.pending.add_result(ToolResult { key, name: response.name.as_deref(), content, unnamed });
        }
        let is_result = kind == Kind::ToolResult || speaker == Speaker::Tool;
        if is_result && parts.responses.is_empty() && parts.calls.is_empty() {
            let unnamed = CallKey::from_row(row.id, 0);
            self.pending.add_result(ToolResult { key: None, name: None, content: text, unnamed });
        }
        // The content of a row with a result is the result, also if the result is in a part: it then describes the part.
        let is_said = if is_result {
            !parts.calls.is_empty()
        } else {
            parts.responses.iter().all(|part| part.text.is_some())
        };
        if !is_said || text.trim().is_empty() {
            text = "";
        }
        self.add_words_and_calls(row, kind, &speaker, text, parts);
    }

    fn add_words_and_calls(
        &mut self,
        row: &MessageRow,
        kind: Kind,
        speaker: &Speaker<'_>,
        text: &str,
        parts: ToolParts,
    ) {
        let is_of_assistant = match speaker {
            Speaker::Assistant => true,
            Speaker::Tool => !parts.calls.is_empty(),
            Speaker::Other { .. } => kind == Kind::ToolCall,
        };
        let mut words = text;
        if let (false, Speaker::Other { role, name }) = (is_of_assistant, speaker) {
            if !words.is_empty() {
                let mut message = String::new();
                write_json(&Turn { role, name: name.as_deref(), content: words }, &mut message);
                self.pending.add_turn(message);
            }
            words = "";
        }
        if words.is_empty() && parts.calls.is_empty() {
            return;
        }
        let calls = parts.calls.into_iter().enumerate().map(|(place, call)| {
            let key = call.id.as_deref().map(CallKey::from_id);
            pending::Call::new(key, CallKey::from_row(row.id, place), call.name.as_deref(), call.arguments)
        });
        // A message with words and calls is complete. Calls alone belong to what the assistant said or called just before.
        let continues = kind == Kind::ToolCall || words.is_empty();
        self.pending.add_assistant(words, calls, continues);
    }
}

/// A message of anyone but the assistant and tools.
#[derive(Serialize)]
struct Turn<'a> {
    role: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    content: &'a str,
}

/// Who speaks, in the API's roles.
#[derive(Debug, PartialEq, Eq)]
enum Speaker<'a> {
    Assistant,
    Tool,
    Other { role: &'a str, name: Option<String> },
}

impl<'a> Speaker<'a> {
    /// Returns the speaker. A role that another program wrote becomes the role of the API that it means. If it means none, a
    /// user speaks, under the role as name: a message must not gain the weight of the system's by its role being unknown.
    fn from_role(role: &'a Stored<Role>) -> Self {
        let user = |name| Self::Other { role: "user", name };
        match role {
            Stored::Known(Role::Assistant) => Self::Assistant,
            Stored::Known(Role::Tool) => Self::Tool,
            Stored::Known(_) => Self::Other { role: role.as_str(), name: None },
            Stored::Json(_) | Stored::Text(_) => match talktrack_protocol::translate_role(role.as_str()) {
                Some(Role::Assistant) => Self::Assistant,
                Some(Role::Tool) => Self::Tool,
                Some(Role::System) => Self::Other { role: "system", name: None },
                Some(Role::Developer) => Self::Other { role: "developer", name: None },
                Some(_) => user(None),
                None => user(Some(to_name(role.as_str(), "unknown"))),
            },
            Stored::Null => user(None),
        }
    }
}
