//! Turns the BYU Chit-Chat dataset (gzip of one JSON object) into talktrack's JSONL, for `talktrack client --file` and
//! `talktrack import`:
//!
//! ```sh
//! cargo run --release -p talktrack-server --example chitchat_to_jsonl -- chitchat.json.gz chitchat.jsonl
//! ```
//!
//! The ids depend on the data alone, so that a repeated replay finds every message already there.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write, stdout};

use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Deserialize)]
struct ChitchatConversation {
    prompt: Option<String>,
    /// The turns, each of one or several messages by the same sender.
    messages: Vec<Vec<ChitchatMessage>>,
}

#[derive(Deserialize)]
struct ChitchatMessage {
    text: String,
    timestamp: String,
    sender: Uuid,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let source = arguments.next().ok_or("usage: chitchat_to_jsonl SOURCE.json.gz [TARGET.jsonl]")?;
    let mut target: Box<dyn Write> = match arguments.next() {
        Some(path) => Box::new(BufWriter::new(File::create(path)?)),
        None => Box::new(BufWriter::new(stdout().lock())),
    };
    let source = GzDecoder::new(BufReader::new(File::open(source)?));
    let conversations: BTreeMap<Uuid, ChitchatConversation> =
        serde_json::from_reader(BufReader::new(source))?;
    for (session_id, conversation) in conversations {
        write_conversation(&mut target, session_id, conversation)?;
    }
    Ok(target.flush()?)
}

/// A line of JSONL: `type` comes first, as on the wire.
#[derive(Serialize)]
#[serde(tag = "type")]
enum OutputLine<'a> {
    #[serde(rename = "session.start")]
    Start { session_id: Uuid, user_id: Uuid, started_at: &'a str, metadata: Metadata<'a> },
    #[serde(rename = "message")]
    Message {
        session_id: Uuid,
        id: Uuid,
        role: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        kind: Option<&'static str>,
        created_at: &'a str,
        content: &'a str,
    },
    #[serde(rename = "session.end")]
    End { session_id: Uuid, reason: &'static str, ended_at: &'a str },
}

#[derive(Serialize)]
struct Metadata<'a> {
    source: &'static str,
    prompt: Option<&'a str>,
}

fn write_conversation(
    target: &mut dyn Write,
    session_id: Uuid,
    conversation: ChitchatConversation,
) -> io::Result<()> {
    let said: Vec<ChitchatMessage> = conversation.messages.into_iter().flatten().collect();
    // Some of them have no message: there is no user either, so there is nothing to write.
    let (Some(first), Some(last)) = (said.first(), said.last()) else { return Ok(()) };
    let user_id = first.sender;
    let metadata = Metadata { source: "BYU Chit-Chat", prompt: conversation.prompt.as_deref() };
    // The dataset's own `start` has no time zone and mostly lies after the first message.
    let started_at = first.timestamp.as_str();
    write_line(target, &OutputLine::Start { session_id, user_id, started_at, metadata })?;
    for (position, message) in said.iter().enumerate() {
        write_line(target, &message_line(session_id, user_id, position, message))?;
    }
    write_line(target, &OutputLine::End { session_id, reason: "completed", ended_at: &last.timestamp })
}

fn message_line(session_id: Uuid, user: Uuid, position: usize, message: &ChitchatMessage) -> OutputLine<'_> {
    OutputLine::Message {
        session_id,
        id: Uuid::new_v5(&session_id, position.to_string().as_bytes()),
        role: if message.sender == user { "user" } else { "assistant" },
        // 23 texts of the dataset are empty. A message without words is refused, and rightly so: mostly it is a
        // mistake. An entry of the kind "event" may be empty.
        kind: message.text.is_empty().then_some("event"),
        created_at: &message.timestamp,
        content: &message.text,
    }
}

fn write_line(target: &mut dyn Write, line: &OutputLine<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *target, line)?;
    target.write_all(b"\n")
}
