//! The server is killed at random moments while several clients talk to it. What it acknowledged must be there, once, and
//! unchanged.
//!
//! `TALKTRACK_CRASH_ROUNDS` sets the number of kills (5 where it is not set), `TALKTRACK_SEED` the seed from which their
//! moments are drawn; the seed of each run is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::harness::{Client, Home, acks_in, within};

/// Connections that talk at the same time.
const TALKERS: usize = 6;
/// Messages that a talker has under way at once.
const AHEAD: usize = 250;
/// The latest moment of a kill after the first ack of its round.
const LATEST_MS: u64 = 400;

/// Outside the server, and sure of what it was told: knows every message that was acknowledged.
#[derive(Default)]
struct Oracle {
    acknowledged: Mutex<BTreeMap<Uuid, String>>,
    /// Sessions of which the server has said that they began.
    sessions: Mutex<BTreeSet<Uuid>>,
}

impl Oracle {
    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
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
            under_way.insert(id, content);
            next += 1;
        }
        let Some(Ok(heard)) = within("an ack, or the end", stream.next()).await else { return };
        let Message::Text(text) = heard else { continue };
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(frame["type"], "ack", "{frame}");
        for ack in acks_in(&frame) {
            let content = under_way.remove(&ack.id).expect("an ack for what was not sent");
            oracle.acknowledged.lock().unwrap().insert(ack.id, content);
        }
    }
}

/// One life of the server: started, talked to, killed.
async fn round(home: &Home, sessions: &[Uuid], user: Uuid, oracle: &Arc<Oracle>, kill_after: Duration) {
    let server = home.serve(&["--log-level", "warn"]).await;
    let before = oracle.count();
    let mut talkers = Vec::new();
    for session in sessions {
        let client = Client::join(&server, *session, user).await;
        talkers.push(tokio::spawn(talk(client, Arc::clone(oracle))));
    }
    crate::harness::until("the first ack of this round", || (oracle.count() > before).then_some(())).await;
    // The moment is what is random here: no condition could stand for it.
    tokio::time::sleep(kill_after).await;
    server.kill().await;
    for talker in talkers {
        within("the talker notices", talker).await.unwrap();
    }
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}: must be a number, not {text:?}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_after_kill_nothing_acknowledged_is_lost_or_doubled() {
    let rounds = number_from("TALKTRACK_CRASH_ROUNDS").unwrap_or(5);
    let seed = number_from("TALKTRACK_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{rounds} rounds; TALKTRACK_SEED={seed} draws the same moments again");
    let mut random = fastrand::Rng::with_seed(seed);
    let (home, oracle, user) = (Home::new(), Arc::new(Oracle::default()), Uuid::new_v4());

    // Some sessions go on through every kill, the others are new in each round.
    let lasting: Vec<_> = (0..TALKERS / 2).map(|_| Uuid::new_v4()).collect();
    for _ in 0..rounds {
        let new = (lasting.len()..TALKERS).map(|_| Uuid::new_v4());
        let sessions: Vec<_> = lasting.iter().copied().chain(new).collect();
        round(&home, &sessions, user, &oracle, Duration::from_millis(random.u64(0..LATEST_MS))).await;
    }

    let server = home.serve(&[]).await;
    let database = home.database();
    let mut stored = BTreeMap::new();
    for (id, content) in database.all_messages() {
        assert!(stored.insert(id, content).is_none(), "{id} is there twice");
    }
    for (id, content) in oracle.acknowledged.lock().unwrap().iter() {
        assert_eq!(stored.get(id), Some(content), "{id} was acknowledged");
    }
    let distinct: BTreeSet<_> = stored.values().collect();
    assert_eq!(distinct.len(), stored.len(), "something said once is there under two ids");
    for session in oracle.sessions.lock().unwrap().iter() {
        let row = database.session(*session).expect("a session was acknowledged");
        assert_eq!(row.status, "abandoned", "{row:?}");
        assert!(row.ended_at.is_some(), "{row:?}");
        gapless(&database.contents(*session), *session);
    }
    home.verify().await;
    Client::join(&server, lasting[0], user).await.say("and it goes on").await;
    eprintln!("{} acknowledged, {} stored", oracle.count(), stored.len());
}

/// What is stored of a session is a beginning of what was said in it, in order: a batch is there as a whole or not at all.
fn gapless(contents: &[String], session: Uuid) {
    for (number, content) in contents.iter().enumerate() {
        assert_eq!(*content, message(session, number).1, "{session}");
    }
}
