//! The scripts of the conversations, which are compiled in, and the lines that result when the slots of a script are
//! filled.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde::Deserialize;
use serde_json::Value;
use talktrack::Status;

use crate::error::Failure;

const FILES: [&str; 2] = [include_str!("scripts/english.toml"), include_str!("scripts/others.toml")];

/// Separates what was heard from what was only generated, within a line.
const CUT: char = '|';

/// How often users interrupt when the script allows it.
const CUTS_IN: f64 = 0.4;

/// The script of a conversation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    pub(super) name: String,
    pub(super) agent: String,
    pub(super) language: String,
    pub(super) channel: Channel,
    /// The espeak-ng voice for the script; `None` if it is not spoken.
    pub(super) voice: Option<String>,
    end: ScriptEnd,
    slots: BTreeMap<String, Vec<String>>,
    lines: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Channel {
    Phone,
    Web,
    /// Typed messages, without speech.
    Chat,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ScriptEnd {
    Completed,
    Disconnect,
    Transferred,
    Error,
    Abandoned,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ScriptLine {
    System(String),
    User(String),
    /// What was heard, and the whole generated text if that is more.
    Agent(String, Option<String>),
    Call(String, Value),
    Result(Value),
    Event(String),
}

#[derive(Debug, Deserialize)]
struct ScriptFile {
    script: Vec<Script>,
}

/// Parses all scripts.
pub(super) fn load_scripts() -> Result<Vec<Script>, Failure> {
    let mut scripts = Vec::new();
    for text in FILES {
        let file: ScriptFile = toml::from_str(text).map_err(|error| Failure::new(error.message()))?;
        scripts.extend(file.script);
    }
    Ok(scripts)
}

impl Channel {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Phone => "phone",
            Self::Web => "web",
            Self::Chat => "chat",
        }
    }
}

impl Script {
    /// Returns the status and the reason with which the conversation ends.
    pub(super) fn end(&self) -> (Status, &'static str) {
        match self.end {
            ScriptEnd::Completed => (Status::Ended, "completed"),
            ScriptEnd::Disconnect => (Status::Ended, "disconnect"),
            ScriptEnd::Transferred => (Status::Ended, "transferred"),
            ScriptEnd::Error => (Status::Ended, "error"),
            ScriptEnd::Abandoned => (Status::Abandoned, "idle_timeout"),
        }
    }

    /// Fills each slot with a random word and returns the lines. At a possible interruption, the agent often finishes
    /// speaking instead, unless `always_cuts` is set or it is the last line.
    pub(super) fn filled(&self, rng: &mut Rng, always_cuts: bool) -> Result<Vec<ScriptLine>, Failure> {
        let mut text = self.lines.clone();
        for (slot, words) in &self.slots {
            let word = rng.choice(words).map_or("", String::as_str);
            text = text.replace(&format!("{{{slot}}}"), word);
        }
        let bad = |line: &str| Failure::new(format_args!("script {}: cannot read {line:?}", self.name));
        let lines: Result<Vec<ScriptLine>, Failure> =
            text.lines().map(|line| parse_line(line).ok_or_else(|| bad(line))).collect();
        let mut lines = lines?;
        let last = lines.len().saturating_sub(1);
        for line in &mut lines[..last] {
            if let ScriptLine::Agent(_, Some(generated)) = line
                && !always_cuts
                && rng.f64() > CUTS_IN
            {
                *line = ScriptLine::Agent(std::mem::take(generated), None);
            }
        }
        Ok(lines)
    }
}

fn parse_line(line: &str) -> Option<ScriptLine> {
    let (who, text) = line.split_once(": ")?;
    let said = text.to_owned();
    Some(match who {
        "system" => ScriptLine::System(said),
        "user" => ScriptLine::User(said),
        "agent" => match text.split_once(CUT) {
            Some((heard, _)) => {
                let generated = text.replace(" | ", " ").replace(CUT, "");
                ScriptLine::Agent(heard.trim_end().to_owned(), Some(generated))
            }
            None => ScriptLine::Agent(said, None),
        },
        "call" => {
            let (function, arguments) = text.split_once(' ')?;
            ScriptLine::Call(function.to_owned(), serde_json::from_str(arguments).ok()?)
        }
        "result" => ScriptLine::Result(serde_json::from_str(text).ok()?),
        "event" => ScriptLine::Event(said),
        _ => return None,
    })
}
