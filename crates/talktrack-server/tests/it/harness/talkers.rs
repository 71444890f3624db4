//! Talkers that keep a server busy, and an oracle outside it that knows what it has acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use super::{Client, Server, acks_in, until, within};

/// Messages that a talker has under way at once.
const AHEAD: usize = 250;

/// Outside the server, and sure of what it was told: knows every message that was acknowledged.
#[derive(Default)]
pub(crate) struct Oracle {
    acknowledged: Mutex<BTreeMap<Uuid, String>>,
    /// Sessions of which the server has said that they began.
    sessions: Mutex<BTreeSet<Uuid>>,
    slowest: Mutex<Duration>,
}

impl Oracle {
    /// How many messages were acknowledged.
    pub(crate) fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// The sessions that have begun.
    pub(crate) fn sessions(&self) -> BTreeSet<Uuid> {
        self.sessions.lock().unwrap().clone()
    }

    /// The longest that an acknowledgement was waited for.
    pub(crate) fn slowest(&self) -> Duration {
        *self.slowest.lock().unwrap()
    }

    /// Everybody begins to talk, each in a session; returns when the first of them has been heard.
    pub(crate) async fn hears(
        self: &Arc<Self>,
        server: &Server,
        sessions: &[Uuid],
        user: Uuid,
    ) -> Vec<JoinHandle<()>> {
        let mut talkers = Vec::new();
        let before = self.count();
        for session in sessions {
            let client = Client::join(server, *session, user).await;
            talkers.push(tokio::spawn(talk(client, Arc::clone(self))));
        }
        self.has_heard_more_than(before).await;
        talkers
    }

    /// Waits until more than so many messages were acknowledged.
    pub(crate) async fn has_heard_more_than(&self, count: usize) {
        until("the next ack", || (self.count() > count).then_some(())).await;
    }

    /// Everything acknowledged is among these messages.
    pub(crate) fn heard_in(&self, ids: &BTreeSet<Uuid>) {
        for id in self.acknowledged.lock().unwrap().keys() {
            assert!(ids.contains(id), "{id} was acknowledged");
        }
    }

    /// Everything acknowledged is among these messages as it was said, and nothing is there under two ids.
    pub(crate) fn finds_everything_in(&self, stored: &BTreeMap<Uuid, String>) {
        for (id, content) in self.acknowledged.lock().unwrap().iter() {
            assert_eq!(stored.get(id), Some(content), "{id} was acknowledged");
        }
        let distinct: BTreeSet<_> = stored.values().collect();
        assert_eq!(distinct.len(), stored.len(), "something said once is there under two ids");
    }
}

/// What a talker says as its `number`th message: its id and words are the same in every round, so that what was sent and
/// not acknowledged before a kill is sent again after it.
fn message(session: Uuid, number: usize) -> (Uuid, String) {
    let id = Uuid::new_v5(&session, number.to_string().as_bytes());
    (id, format!("{number} of {session}: {}", "é\u{1F600}\n\"".repeat(number % 40)))
}

/// Talks until the connection breaks, from the first message that is not acknowledged on.
async fn talk(client: Client, oracle: Arc<Oracle>) {
    let session = client.session;
    oracle.sessions.lock().unwrap().insert(session);
    let known = |id: Uuid| oracle.acknowledged.lock().unwrap().contains_key(&id);
    let mut next = (0..).find(|number| !known(message(session, *number).0)).unwrap();
    let (mut sink, mut stream) = client.socket.split();
    let mut under_way = BTreeMap::new();
    loop {
        while under_way.len() < AHEAD {
            let (id, content) = message(session, next);
            let frame = json!({"type": "message", "role": "user", "id": id, "content": content});
            if sink.send(Message::text(frame.to_string())).await.is_err() {
                return;
            }
            under_way.insert(id, (content, Instant::now()));
            next += 1;
        }
        let Some(Ok(heard)) = within("an ack, or the end", stream.next()).await else { return };
        let Message::Text(text) = heard else { continue };
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(frame["type"], "ack", "{frame}");
        for ack in acks_in(&frame) {
            let (content, sent) = under_way.remove(&ack.id).expect("an ack for what was not sent");
            oracle.acknowledged.lock().unwrap().insert(ack.id, content);
            let mut slowest = oracle.slowest.lock().unwrap();
            *slowest = sent.elapsed().max(*slowest);
        }
    }
}

/// What is stored of a session is a beginning of what was said in it, in order: a batch is there as a whole or not at all.
pub(crate) fn gapless(contents: &[String], session: Uuid) {
    for (number, content) in contents.iter().enumerate() {
        assert_eq!(*content, message(session, number).1, "{session}");
    }
}
