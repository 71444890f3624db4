//! What is said: scripts that are compiled in, and the lines that come of one when its slots are filled.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde::Deserialize;
use serde_json::Value;
use talktrack::Status;

use crate::error::Failure;

const FILES: [&str; 2] = [include_str!("scripts/english.toml"), include_str!("scripts/others.toml")];

/// What stands in a line between what was heard and what was generated only.
const CUT: char = '|';

/// How often users cut in where they might.
const CUTS_IN: f64 = 0.4;

/// A conversation as it is written down, before anybody has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    pub(super) name: String,
    pub(super) agent: String,
    pub(super) language: String,
    pub(super) channel: Channel,
    /// The voice of espeak-ng that speaks it; `None` where it is not spoken.
    pub(super) voice: Option<String>,
    end: End,
    slots: BTreeMap<String, Vec<String>>,
    lines: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Channel {
    Phone,
    Web,
    /// Typed: nobody speaks.
    Chat,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum End {
    Completed,
    Disconnect,
    Transferred,
    Error,
    Abandoned,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    System(String),
    User(String),
    /// What was heard, and all that was generated where that is more.
    Agent(String, Option<String>),
    Call(String, Value),
    Result(Value),
    Event(String),
}

#[derive(Debug, Deserialize)]
struct File {
    script: Vec<Script>,
}

/// All there are.
pub(super) fn all() -> Result<Vec<Script>, Failure> {
    let mut scripts = Vec::new();
    for text in FILES {
        let file: File = toml::from_str(text).map_err(|error| Failure::new(error.message()))?;
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
    /// How it ends, and why.
    pub(super) fn end(&self) -> (Status, &'static str) {
        match self.end {
            End::Completed => (Status::Ended, "completed"),
            End::Disconnect => (Status::Ended, "disconnect"),
            End::Transferred => (Status::Ended, "transferred"),
            End::Error => (Status::Ended, "error"),
            End::Abandoned => (Status::Abandoned, "idle_timeout"),
        }
    }

    /// Its lines, with a word drawn for each slot. Where the user cuts in, the agent is let finish as often as not, unless
    /// `always_cuts`, or nothing follows.
    pub(super) fn filled(&self, rng: &mut Rng, always_cuts: bool) -> Result<Vec<Line>, Failure> {
        let mut text = self.lines.clone();
        for (slot, words) in &self.slots {
            let word = rng.choice(words).map_or("", String::as_str);
            text = text.replace(&format!("{{{slot}}}"), word);
        }
        let bad = |line: &str| Failure::new(format_args!("script {}: cannot read {line:?}", self.name));
        let lines: Result<Vec<Line>, Failure> =
            text.lines().map(|line| read(line).ok_or_else(|| bad(line))).collect();
        let mut lines = lines?;
        let last = lines.len().saturating_sub(1);
        for line in &mut lines[..last] {
            if let Line::Agent(_, Some(generated)) = line
                && !always_cuts
                && rng.f64() > CUTS_IN
            {
                *line = Line::Agent(std::mem::take(generated), None);
            }
        }
        Ok(lines)
    }
}

fn read(line: &str) -> Option<Line> {
    let (who, text) = line.split_once(": ")?;
    let said = text.to_owned();
    Some(match who {
        "system" => Line::System(said),
        "user" => Line::User(said),
        "agent" => match text.split_once(CUT) {
            Some((heard, _)) => {
                let generated = text.replace(" | ", " ").replace(CUT, "");
                Line::Agent(heard.trim_end().to_owned(), Some(generated))
            }
            None => Line::Agent(said, None),
        },
        "call" => {
            let (function, arguments) = text.split_once(' ')?;
            Line::Call(function.to_owned(), serde_json::from_str(arguments).ok()?)
        }
        "result" => Line::Result(serde_json::from_str(text).ok()?),
        "event" => Line::Event(said),
        _ => return None,
    })
}
