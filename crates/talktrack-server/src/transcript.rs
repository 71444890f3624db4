//! Conversations as documents: the formats of an export. Each format is written message by message, so that a long
//! conversation needs no more memory than a short one.

mod json;
mod jsonl;
mod text;
mod vtt;
mod csv;
mod openai;

use serde::Deserialize;
use talktrack::MessageStatus;
use talktrack::store::{MessageRow, SessionRow};

use crate::csv_table;

/// What a conversation can be written as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TranscriptFormat {
    /// One JSON object with the session and all its messages
    Json,
    /// The frames of the protocol, one per line, as `talktrack import` reads them
    #[default]
    Jsonl,
    /// Text for people
    Text,
    /// Subtitles (`WebVTT`), timed by the audio offsets or by the times of the messages
    Vtt,
    /// The array of messages that chat models take
    Openai,
    /// A table for spreadsheets, one row per message
    Csv,
}

/// A document that is written incrementally. Each method appends the next part to `out`.
pub(crate) trait TranscriptWriter: Send {
    fn write_start(&mut self, session: &SessionRow, out: &mut String);
    fn write_message(&mut self, row: &MessageRow, out: &mut String);

    /// Appends the message, unless it is in progress or discarded.
    fn write_if_final(&mut self, row: &MessageRow, out: &mut String) {
        if row.status != MessageStatus::InProgress && row.status != MessageStatus::Discarded {
            self.write_message(row, out);
        }
    }

    fn write_end(&mut self, session: &SessionRow, out: &mut String);
}

impl TranscriptFormat {
    /// Returns a new document of this format.
    pub(crate) fn new_writer(self) -> Box<dyn TranscriptWriter> {
        match self {
            Self::Json => Box::<json::JsonTranscript>::default(),
            Self::Jsonl => Box::new(jsonl::JsonlTranscript),
            Self::Text => Box::<text::TextTranscript>::default(),
            Self::Vtt => Box::<vtt::VttTranscript>::default(),
            Self::Openai => Box::<openai::OpenAiTranscript>::default(),
            Self::Csv => Box::<csv::CsvTranscript>::default(),
        }
    }

    /// True if several documents of this format can be concatenated.
    pub(crate) fn holds_several(self) -> bool {
        !matches!(self, Self::Vtt)
    }

    /// Returns the content type over HTTP.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::Openai => "application/json",
            Self::Jsonl => "application/jsonl",
            Self::Text => "text/plain; charset=utf-8",
            Self::Vtt => "text/vtt; charset=utf-8",
            Self::Csv => csv_table::CONTENT_TYPE,
        }
    }

    /// Returns the file name extension.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Text => "txt",
            Self::Vtt => "vtt",
            Self::Openai => "openai.json",
            Self::Csv => "csv",
        }
    }
}

/// Appends a value as JSON.
fn write_json(value: &impl serde::Serialize, out: &mut String) {
    // The keys of rows are strings only, so serialisation cannot fail.
    out.push_str(&serde_json::to_string(value).unwrap_or_default());
}
