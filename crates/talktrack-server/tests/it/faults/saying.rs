//! What talkers say. All of it follows from the session, a number and a revision, so that whoever finds a row knows what it
//! must hold, and what was sent before a crash can be sent again after it.

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// A message, before anybody has said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Saying {
    pub(crate) session: Uuid,
    /// Its place among what is said in the session.
    pub(crate) number: usize,
    pub(crate) revision: i64,
}

/// What a store has of a message.
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
    /// What is said in a session at this step. Now and then, what was said five steps before is said better.
    pub(crate) fn at(session: Uuid, step: usize) -> Self {
        match step % 20 {
            7 => Self { session, number: step - 5, revision: 1 },
            _ => Self { session, number: step, revision: 0 },
        }
    }

    /// The id, the same for every revision.
    pub(crate) fn id(self) -> Uuid {
        Uuid::new_v5(&self.session, self.number.to_string().as_bytes())
    }

    /// The mark by which its answer is known.
    pub(crate) fn reference(self) -> String {
        format!("{}.{}", self.number, self.revision)
    }

    /// What bears this mark in a session.
    pub(crate) fn marked(session: Uuid, reference: &str) -> Option<Self> {
        let (number, revision) = reference.split_once('.')?;
        Some(Self { session, number: number.parse().ok()?, revision: revision.parse().ok()? })
    }

    /// What a client sends.
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

    /// What must be stored of it, where it was said by this user.
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

    /// No two messages have the same words; some are long, some are strange.
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
