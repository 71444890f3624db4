//! Clients that keep a server busy, and an oracle outside the server that records which messages it acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use super::{Client, Server, acks_in, until, within};

/// How many messages of a client are in flight at once.
const AHEAD: usize = 250;

/// Records, outside the server, every message that the server acknowledged. It survives kills of the server.
#[derive(Default)]
pub(crate) struct Oracle {
    acknowledged: Mutex<BTreeMap<Uuid, String>>,
    /// Sessions whose start the server has acknowledged.
    sessions: Mutex<BTreeSet<Uuid>>,
    slowest: Mutex<Duration>,
}

impl Oracle {
    /// Returns how many messages were acknowledged.
    pub(crate) fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Returns the sessions that the server has started.
    pub(crate) fn sessions(&self) -> BTreeSet<Uuid> {
        self.sessions.lock().unwrap().clone()
    }

    /// Returns the longest wait for an acknowledgement.
    pub(crate) fn slowest(&self) -> Duration {
        *self.slowest.lock().unwrap()
    }

    /// Starts a client in each session; returns when the first message has been acknowledged.
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

    /// Waits until more than `count` messages were acknowledged.
    pub(crate) async fn has_heard_more_than(&self, count: usize) {
        until("the next ack", || (self.count() > count).then_some(())).await;
    }

    /// Asserts that every acknowledged message is among these ids.
    pub(crate) fn heard_in(&self, ids: &BTreeSet<Uuid>) {
        for id in self.acknowledged.lock().unwrap().keys() {
            assert!(ids.contains(id), "{id} was acknowledged");
        }
    }

    /// Asserts that every acknowledged message is stored with its text, and that no message is stored under two ids.
    pub(crate) fn finds_everything_in(&self, stored: &BTreeMap<Uuid, String>) {
        for (id, content) in self.acknowledged.lock().unwrap().iter() {
            assert_eq!(stored.get(id), Some(content), "{id} was acknowledged");
        }
        let distinct: BTreeSet<_> = stored.values().collect();
        assert_eq!(distinct.len(), stored.len(), "something said once is there under two ids");
    }
}

/// Returns the id and the text of the `number`th message of a session. They are the same in every round, so that a
/// client repeats after a kill exactly those messages that were not acknowledged before it.
fn message(session: Uuid, number: usize) -> (Uuid, String) {
    let id = Uuid::new_v5(&session, number.to_string().as_bytes());
    (id, format!("{number} of {session}: {}", "é\u{1F600}\n\"".repeat(number % 40)))
}

/// Sends messages until the connection breaks, starting with the first that is not acknowledged.
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

/// Asserts that the stored messages of a session are a prefix of those that were sent: each batch is stored completely
/// or not at all.
pub(crate) fn gapless(contents: &[String], session: Uuid) {
    for (number, content) in contents.iter().enumerate() {
        assert_eq!(*content, message(session, number).1, "{session}");
    }
}
