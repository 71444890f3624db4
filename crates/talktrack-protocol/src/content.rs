//! The content of a message as callers send it: a string, or the array of parts that `OpenAI`'s API and many tools use.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use talktrack_core::Kind;
use talktrack_core::error::Invalid;

use crate::borrowed::{Members, Word, to_json_string};
use crate::tool_call;

/// The content of a message.
#[derive(Debug)]
pub(crate) enum SentContent<'a> {
    Text(String),
    Parts(Vec<&'a RawValue>),
}

/// What a content says: its text, and its parts in OpenTelemetry's shape if they have more than the text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadContent {
    pub(crate) text: String,
    /// The JSON of each part.
    pub(crate) parts: Vec<String>,
    /// The kind of a message that has a tool call or a result, and no text.
    pub(crate) implied_kind: Option<Kind>,
}

impl<'de> Deserialize<'de> for SentContent<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = SentContent<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of parts")
            }

            fn visit_str<E>(self, text: &str) -> Result<SentContent<'de>, E> {
                Ok(SentContent::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<SentContent<'de>, E> {
                Ok(SentContent::Text(text))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<SentContent<'de>, S::Error> {
                let mut parts = Vec::new();
                while let Some(part) = seq.next_element()? {
                    parts.push(part);
                }
                Ok(SentContent::Parts(parts))
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

impl SentContent<'_> {
    /// Reads the text, and the parts if the text alone would lose something of them.
    ///
    /// # Errors
    /// If a part is neither a string nor an object.
    pub(crate) fn read(self) -> Result<ReadContent, Invalid> {
        let parts = match self {
            Self::Text(text) => return Ok(ReadContent { text, ..ReadContent::default() }),
            Self::Parts(parts) => parts,
        };
        let parts: Vec<_> = parts.into_iter().map(read_part).collect::<Result<_, _>>()?;
        let texts: Vec<_> = parts.iter().filter_map(|part| part.text.as_deref()).collect();
        let text = texts.join("\n");
        let implied_kind = parts.iter().find_map(|part| part.kind).filter(|_| text.is_empty());
        let is_plain = matches!(&*parts, [] | [Part { is_plain: true, .. }]);
        let parts = if is_plain { Vec::new() } else { parts.into_iter().map(|part| part.json).collect() };
        Ok(ReadContent { text, parts, implied_kind })
    }
}

struct Part {
    text: Option<String>,
    json: String,
    /// True if the part has nothing but a text.
    is_plain: bool,
    /// Set if the part is a tool call or a result.
    kind: Option<Kind>,
}

impl Part {
    fn plain(text: String) -> Self {
        let json = format!(r#"{{"type":"text","content":{}}}"#, to_json_string(&text));
        Self { text: Some(text), json, is_plain: true, kind: None }
    }
}

/// The types of parts that are text.
const TEXT_TYPES: [&str; 3] = ["text", "input_text", "output_text"];

fn read_part(part: &RawValue) -> Result<Part, Invalid> {
    if let Ok(Word(text)) = serde_json::from_str(part.get()) {
        return Ok(Part::plain(text.into_owned()));
    }
    let members: Members<'_> = serde_json::from_str(part.get())
        .map_err(|_| Invalid::new("content", "each part must be a string or an object"))?;
    let part_type = members.find_string("type");
    let part_type = part_type.as_deref();
    let text = members.find_string("text");
    if part_type.is_none_or(|part_type| TEXT_TYPES.contains(&part_type))
        && let Some(text) = text
    {
        let is_known = |name: &str| matches!(name, "type" | "text");
        if members.0.iter().all(|(name, value)| is_known(name) || value.get() == "null") {
            return Ok(Part::plain(text.into_owned()));
        }
        let json = to_text_part(&members).unwrap_or_else(|| part.get().to_owned());
        return Ok(Part { json, text: Some(text.into_owned()), is_plain: false, kind: None });
    }
    let (kind, json) = tool_call::to_part(part_type, &members).unzip();
    let json = json.unwrap_or_else(|| part.get().to_owned());
    let spoken = match part_type {
        Some("text") => members.find_string("content"),
        Some("refusal") => members.find_string("refusal"),
        // The audio of a message, with what was said.
        _ => members.find_string("transcript"),
    };
    Ok(Part { text: spoken.map(std::borrow::Cow::into_owned), json, is_plain: false, kind })
}

/// Returns a text part in OpenTelemetry's shape, with the other members that it has. `None` if it has a `content` too.
fn to_text_part(members: &Members<'_>) -> Option<String> {
    if members.find("content").is_some() {
        return None;
    }
    let renamed = |name| if name == "text" { "content" } else { name };
    let others = members.0.iter().filter(|(name, _)| name != "type");
    Some(tool_call::to_object("text", others.map(|(name, value)| (renamed(name.as_ref()), value.get()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ReadContent, Invalid> {
        serde_json::from_str::<SentContent<'_>>(json).unwrap().read()
    }

    #[test]
    fn a_content_that_is_only_text_has_no_parts() {
        for json in [
            r#""Hé\"llo""#,
            r#"["H\u00e9\"llo"]"#,
            r#"[{"type":"text","text":"Hé\"llo"}]"#,
            r#"[{"type":"output_text","text":"Hé\"llo","annotations":null}]"#,
            r#"[{"text":"Hé\"llo"}]"#,
        ] {
            let expected = ReadContent { text: "Hé\"llo".into(), ..ReadContent::default() };
            assert_eq!(read(json), Ok(expected), "{json}");
        }
        assert_eq!(read("[]"), Ok(ReadContent::default()));
    }

    #[test]
    fn parts_that_are_more_than_one_text_are_kept() {
        let several = read(
            r#"[{"type":"input_text","text":"Look","cache":{"a":1.0}},"here",
               {"type":"image_url","image_url":{"url":"https://a/b"}},
               {"type":"input_audio","transcript":"and listen"},{"type":"refusal","refusal":"No."},
               {"type":"text","content":"Yes."}]"#,
        );
        let several = several.unwrap();
        assert_eq!(several.text, "Look\nhere\nand listen\nNo.\nYes.");
        assert_eq!(
            several.parts,
            [
                r#"{"type":"text","content":"Look","cache":{"a":1.0}}"#,
                r#"{"type":"text","content":"here"}"#,
                r#"{"type":"image_url","image_url":{"url":"https://a/b"}}"#,
                r#"{"type":"input_audio","transcript":"and listen"}"#,
                r#"{"type":"refusal","refusal":"No."}"#,
                r#"{"type":"text","content":"Yes."}"#,
            ]
        );
    }

    #[test]
    fn tool_calls_among_the_parts_get_the_shape_of_opentelemetry() {
        let calls = read(
            r#"[{"type":"text","text":"One moment."},{"type":"tool_use","id":"t1","name":"find","input":{"q":1.0}},
               {"type":"tool-result","toolCallId":"t1","toolName":"find","output":{"type":"text","value":"42"}}]"#,
        );
        let calls = calls.unwrap();
        assert_eq!((calls.text.as_str(), calls.implied_kind), ("One moment.", None));
        let alone = read(r#"[{"type":"tool_use","id":"t1","name":"find","input":{}}]"#).unwrap();
        assert_eq!(alone.implied_kind, Some(Kind::ToolCall));
        assert_eq!(
            calls.parts[1..],
            [
                r#"{"type":"tool_call","id":"t1","name":"find","arguments":{"q":1.0}}"#,
                r#"{"type":"tool_call_response","id":"t1","name":"find","response":{"type":"text","value":"42"}}"#,
            ]
        );
    }

    #[test]
    fn a_part_that_is_neither_text_nor_an_object_is_refused() {
        for json in ["[7]", "[null]", "[[]]"] {
            let problem = read(json).unwrap_err().to_string();
            assert_eq!(problem, "content: each part must be a string or an object", "{json}");
        }
    }
}
