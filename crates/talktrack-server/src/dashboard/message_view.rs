//! A message as the transcript shows it: what was heard, what was generated but never heard, tool calls folded, and how
//! long the answer took.

use serde_json::Value;
use talktrack::store::MessageRow;
use talktrack::{JsonObject, Kind, MessageId, MessageStatus, Role, Stored, Timestamp};

use super::format::{Moment, format_offset};
use super::latency_bar::LatencyBar;
use super::row::speaker_name;
use crate::api::query::Cursor;

/// A message for the template.
pub(super) struct MessageView {
    pub(super) id: MessageId,
    /// The cursor after this message.
    pub(super) cursor: String,
    pub(super) form: MessageForm,
    pub(super) who: String,
    /// The name of the agent or of the participant.
    pub(super) name: Option<String>,
    /// The name of the tool.
    pub(super) tool: Option<String>,
    pub(super) when: Moment,
    /// The time since the session began.
    pub(super) offset: String,
    /// The text, or what the parts say; `None` if the message has neither.
    pub(super) heard: Option<String>,
    /// The rest of the generated text, which was never heard.
    pub(super) unheard: Option<String>,
    pub(super) is_interrupted: bool,
    pub(super) is_in_progress: bool,
    pub(super) audio: Option<String>,
    /// The position of the message in the recording of the session, in milliseconds.
    pub(super) span: Option<(u64, u64)>,
    pub(super) latency_bar: Option<LatencyBar>,
    /// Further fields as pretty-printed JSON, with their names.
    pub(super) details: Vec<(&'static str, String)>,
}

/// The style of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageForm {
    User,
    Agent,
    /// Tool calls, tool results, events, and messages of `system` and `developer`: folded.
    Aside,
}

impl MessageView {
    /// Converts a row. `before` contains the metrics of the user's message before it, which are part of the time to the
    /// answer. `began` is the start of the session.
    pub(super) fn new(row: MessageRow, before: Option<&MetricValues>, began: Option<Timestamp>) -> Self {
        let cursor = Cursor(row.cursor()).to_string();
        let form = match (row.kind.known(), row.role.known()) {
            (Some(Kind::Message), Some(Role::User)) => MessageForm::User,
            (Some(Kind::Message), Some(Role::Assistant)) => MessageForm::Agent,
            _ => MessageForm::Aside,
        };
        let numbers = MetricValues::from_row(&row);
        let number = |name: &str| numbers.get(name);
        let in_turn = |name: &str| number(name).or_else(|| before?.get(name));
        let json = |name, text: Option<&str>| {
            text.filter(|text| *text != "{}").map(|text| (name, pretty_json(text)))
        };
        let details = [
            json("parts", row.parts.as_ref().map(Stored::as_str)),
            json("metadata", row.metadata.as_ref().map(Stored::as_str)),
            json("metrics", row.metrics.as_ref().map(Stored::as_str)),
            json("extra", row.extra.as_ref().map(Stored::as_str)),
        ];
        Self {
            id: row.id,
            cursor,
            form,
            who: message_title(&row.kind, &row.role).to_owned(),
            offset: row.created_at.known().zip(began).map_or_else(
                || row.created_at.to_string(),
                |(at, began)| format_offset(at.seconds_since(began)),
            ),
            when: Moment::new(row.created_at),
            unheard: unheard_text(&row.content, row.content_generated.as_deref()),
            heard: if row.content.trim().is_empty() {
                describe_parts(row.parts.as_ref().map(Stored::as_str))
            } else {
                Some(row.content)
            },
            is_interrupted: row.interrupted,
            is_in_progress: row.status == MessageStatus::InProgress,
            name: row.name,
            audio: row.audio_url.as_deref().and_then(playable_url),
            span: audio_span(number("audio_start_ms"), number("audio_end_ms")),
            latency_bar: if form == MessageForm::Agent { LatencyBar::new(in_turn) } else { None },
            tool: row.parts.as_ref().and_then(|parts| tool_name(parts.as_str())),
            details: details.into_iter().flatten().collect(),
        }
    }

    /// Returns the CSS class.
    pub(super) fn class(&self) -> &'static str {
        match self.form {
            MessageForm::User => "user",
            MessageForm::Agent => "agent",
            MessageForm::Aside => "aside",
        }
    }
}

/// The metrics of a message.
pub(super) struct MetricValues(Value);

impl MetricValues {
    pub(super) fn from_row(row: &MessageRow) -> Self {
        Self(
            row.metrics
                .as_ref()
                .and_then(Stored::known)
                .map(JsonObject::to_value)
                .map(Value::from)
                .unwrap_or_default(),
        )
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.0[name].as_f64()
    }
}

/// Returns the name of the tool in the parts of a message.
fn tool_name(parts: &str) -> Option<String> {
    let parts: Vec<Value> = serde_json::from_str(parts).ok()?;
    parts.iter().find_map(|part| part["name"].as_str()).map(str::to_owned)
}

/// Returns the text for a message without content: the arguments and results of its tools, from its parts.
fn describe_parts(parts: Option<&str>) -> Option<String> {
    let parts: Option<Vec<Value>> = parts.and_then(|parts| serde_json::from_str(parts).ok());
    let words = |part: &Value| {
        let said =
            ["arguments", "response", "result", "content", "type"].iter().find_map(|key| part.get(key))?;
        Some(said.as_str().map_or_else(|| said.to_string(), str::to_owned))
    };
    let words: Vec<_> = parts.iter().flatten().filter_map(words).collect();
    (!words.is_empty()).then(|| words.join("\n"))
}

fn message_title<'r>(kind: &'r Stored<Kind>, role: &'r Stored<Role>) -> &'r str {
    match kind.known() {
        Some(Kind::Message) => speaker_name(role),
        Some(Kind::ToolCall) => "Tool call",
        Some(Kind::ToolResult) => "Tool result",
        Some(Kind::Event) => "Event",
        Some(Kind::Handoff) => "Handoff",
        _ => kind.as_str(),
    }
}

/// Returns the generated text after what was heard. If the generated text does not begin with what was heard, returns
/// all of it.
fn unheard_text(heard: &str, generated: Option<&str>) -> Option<String> {
    let generated = generated?;
    let rest = generated.strip_prefix(heard.trim_end()).unwrap_or(generated).trim_start();
    (!rest.is_empty()).then(|| rest.to_owned())
}

/// Returns the URL of a recording if a page may play it: one of this server, or over HTTPS.
pub(super) fn playable_url(url: &str) -> Option<String> {
    let is_ours = url.starts_with("/v1/sessions/");
    (is_ours || url.starts_with("https://")).then(|| url.to_owned())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be neither negative nor large"
)]
fn audio_span(start: Option<f64>, end: Option<f64>) -> Option<(u64, u64)> {
    let (start, end) = start.zip(end)?;
    (0.0..1e12).contains(&start).then_some(())?;
    (end > start && end < 1e12).then_some((start as u64, end as u64))
}

fn pretty_json(json: &str) -> String {
    serde_json::from_str::<Value>(json).map_or_else(|_| json.to_owned(), |value| format!("{value:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_heard_is_what_comes_after_what_was_heard() {
        assert_eq!(unheard_text("We open at", Some("We open at nine.")).as_deref(), Some("nine."));
        assert_eq!(unheard_text("We open at ", Some("We open at nine.")).as_deref(), Some("nine."));
        assert_eq!(unheard_text("um", Some("We open at nine.")).as_deref(), Some("We open at nine."));
        assert_eq!(unheard_text("All of it", Some("All of it")), None);
        assert_eq!(unheard_text("All of it", None), None);
    }

    #[test]
    fn what_has_no_words_says_what_its_tools_are_told_and_answer() {
        let told = |parts: &str| describe_parts(Some(parts));
        assert_eq!(
            told(r#"[{"type":"tool_call","name":"weather","arguments":{"in":"Turin"}}]"#).as_deref(),
            Some(r#"{"in":"Turin"}"#)
        );
        assert_eq!(
            told(r#"[{"type":"tool_call_response","response":"4°"},{"type":"file"}]"#).as_deref(),
            Some("4°\nfile")
        );
        assert_eq!((told("[1,{}]"), describe_parts(None)), (None, None));
    }

    #[test]
    fn only_addresses_of_recordings_are_played() {
        assert!(
            playable_url("/v1/sessions/x/audio/y.wav").is_some()
                && playable_url("https://a.example/b.ogg").is_some()
        );
        for other in
            ["javascript:alert(1)", "data:audio/wav;base64,", "//evil.example/x.wav", "http://a/b", "x.wav"]
        {
            assert_eq!(playable_url(other), None, "{other}");
        }
    }

    #[test]
    fn a_span_makes_sense_or_is_none() {
        assert_eq!(audio_span(Some(10.0), Some(20.5)), Some((10, 20)));
        for (start, end) in
            [(Some(5.0), Some(5.0)), (Some(-1.0), Some(5.0)), (Some(0.0), Some(1e300)), (None, Some(1.0))]
        {
            assert_eq!(audio_span(start, end), None);
        }
    }
}
