//! The messages of the talkers. All fields follow from the session, a number and a revision, so the expected row is
//! known for each id, and a message can be sent again after a crash.

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// A message of a talker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Saying {
    pub(crate) session: Uuid,
    /// The number of the message in its session.
    pub(crate) number: usize,
    pub(crate) revision: i64,
}

/// A message as a store holds it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) session_id: Uuid,
    pub(crate) user_id: Option<Uuid>,
    pub(crate) role: String,
    pub(crate) content: String,
    pub(crate) metadata: Value,
    pub(crate) revision: i64,
}

impl Saying {
    /// Returns the message of this step in a session. Every 20th step revises the message of five steps before.
    pub(crate) fn at(session: Uuid, step: usize) -> Self {
        match step % 20 {
            7 => Self { session, number: step - 5, revision: 1 },
            _ => Self { session, number: step, revision: 0 },
        }
    }

    /// Returns the id, which is the same for every revision.
    pub(crate) fn id(self) -> Uuid {
        Uuid::new_v5(&self.session, self.number.to_string().as_bytes())
    }

    /// Returns the `ref` that identifies the answer to the message.
    pub(crate) fn reference(self) -> String {
        format!("{}.{}", self.number, self.revision)
    }

    /// Returns the message with this `ref` in a session.
    pub(crate) fn marked(session: Uuid, reference: &str) -> Option<Self> {
        let (number, revision) = reference.split_once('.')?;
        Some(Self { session, number: number.parse().ok()?, revision: revision.parse().ok()? })
    }

    /// Returns the frame that a client sends.
    pub(crate) fn frame(self) -> Value {
        json!({
            "type": "message",
            "id": self.id(),
            "ref": self.reference(),
            "role": self.role(),
            "content": self.content(),
            "metadata": self.metadata(),
            "revision": self.revision,
        })
    }

    /// Returns the row that must be stored if this user sends the message.
    pub(crate) fn row(self, user: Uuid) -> Row {
        Row {
            id: self.id(),
            session_id: self.session,
            user_id: (self.role() != "system").then_some(user),
            role: self.role().to_owned(),
            content: self.content(),
            metadata: self.metadata(),
            revision: self.revision,
        }
    }

    fn role(self) -> &'static str {
        ["user", "assistant", "tool", "assistant", "user", "system"][self.number % 6]
    }

    /// Returns the text. No two messages have the same; some are long, and some contain special characters.
    fn content(self) -> String {
        let Self { session, number, revision } = self;
        let strange = "é\u{1F600}\n\"\\\t'".repeat(number % 40);
        let long = "and so on, ".repeat(if number % 97 == 0 { 500 } else { 0 });
        format!("{number}.{revision} of {session}: {strange}{long}")
    }

    fn metadata(self) -> Value {
        json!({"number": self.number, "revision": self.revision, "deep": [{"quote": "\"", "nothing": null}]})
    }
}
