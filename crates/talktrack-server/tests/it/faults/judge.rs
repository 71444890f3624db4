//! The judge: compares the content of a store with the oracle's record.
//!
//! 1. Everything acknowledged is stored or a dead letter, and nothing waits without end.
//! 2. Each stored row equals what was sent, in every field, and no row was invented.
//! 3. No message is stored twice, neither under one id nor under two.
//! 4. A session keeps the order of sending, unless a message was refused and sent again later.
//! 5. Sessions are as reported to the clients: ended sessions have ended, and counts match the rows.
//! 6. The exported figures balance and include at least everything acknowledged.
//! 7. A new message gets through.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use uuid::Uuid;

use super::oracle::Notes;
use super::rows::{self, SessionRow, Truth};
use super::saying::Row;
use super::stand::Stand;
use crate::harness::{Client, Server, until_told};

/// The findings of the judge if all is well.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) acknowledged: usize,
    pub(crate) stored: usize,
    /// Messages among the dead letters, by id.
    pub(crate) dead: BTreeMap<Uuid, Value>,
}

impl Verdict {
    /// Asserts that there are no dead letters.
    pub(crate) fn without_dead_letters(self) -> Self {
        assert!(self.dead.is_empty(), "{:?}", self.dead);
        self
    }
}

/// Judges a running server after everything was delivered.
pub(crate) async fn judge(stand: &Stand, server: &Server) -> Verdict {
    judge_nodes(&[(stand, server)]).await
}

/// Judges all nodes of one store.
pub(crate) async fn judge_nodes(nodes: &[(&Stand, &Server)]) -> Verdict {
    let mut durable = 0.0;
    let mut dead = BTreeMap::new();
    for (stand, server) in nodes {
        gets_through(stand, server).await;
        stand.drained(server).await;
        durable += balance(stand, server).await;
        dead.extend(dead_letters(stand).await);
    }
    let stand = nodes[0].0;
    let acknowledged = stand.oracle.count();
    assert!(durable.to_string().parse::<usize>().unwrap() >= acknowledged, "{durable} of {acknowledged}");
    let stored = rows::messages(stand);
    let notes = stand.oracle.notes();
    if notes.refused.is_empty() {
        in_order(&notes, &stored, &dead);
    }
    let stored = by_id(stored);
    nothing_is_invented(&notes, &stored, stand.user);
    nothing_is_lost(&notes, &stored, &dead);
    nothing_is_said_twice(&stored);
    sessions_are_as_told(&notes, &stored, &rows::sessions(stand), stand.user);
    if nodes.len() == 1 {
        updates_are_as_told(&notes, &rows::sessions(stand));
    }
    let verdict = Verdict { acknowledged: notes.acknowledged.len(), stored: stored.len(), dead };
    eprintln!(
        "{} acknowledged, {} stored, {} dead, refused {:?}, the slowest answer {:?}",
        verdict.acknowledged,
        verdict.stored,
        verdict.dead.len(),
        notes.refused,
        notes.slowest
    );
    verdict
}

/// Asserts that a new message becomes durable and is stored.
async fn gets_through(stand: &Stand, server: &Server) {
    let mut client = Client::new(server).await;
    let id = client.say("fresh").await;
    client.end("fresh").await;
    client.close().await;
    let count = format!("SELECT count(*) AS n FROM conversation_messages WHERE id = '{id}'");
    let stored = async || (rows::number(stand, &count) == 1).then_some(());
    crate::harness::until_within(super::PATIENCE, "something fresh reaches the store", stored).await;
}

/// Asserts `durable = stored + dead-lettered + pending` on `/metrics` and in the file. Returns the number of durable
/// messages.
async fn balance(stand: &Stand, server: &Server) -> f64 {
    let figure = async |name: &str| server.metric(&format!("talktrack_{name}")).await;
    let balanced = async || {
        let durable = figure("messages_durable_total").await;
        let rest = figure("messages_stored_total").await + figure("messages_dead_lettered_total").await;
        (durable == rest + figure("journal_pending").await).then_some(durable)
    };
    let durable = until_told("the figures balance", balanced).await;
    match stand.remote() {
        Some(remote) => stand.home.look_at(&remote.database.url(), &["verify"]).await,
        None => stand.home.look(&["verify"]).await,
    }
    .succeeded();
    durable
}

fn in_order(notes: &Notes, stored: &[Row], dead: &BTreeMap<Uuid, Value>) {
    // If the first version of a message was removed or is a dead letter, its revision has another place in the order.
    let displaced = |id: &Uuid| notes.taken_away.contains_key(id) || dead.contains_key(id);
    let ours = |row: &&Row| row.content != "fresh" && !displaced(&row.id);
    let said: Vec<_> = stored.iter().filter(ours).filter_map(|row| notes.said.get(&row.id)).collect();
    for pair in said.windows(2).filter(|pair| pair[0].session == pair[1].session) {
        assert!(pair[0].number < pair[1].number, "{:?} is stored before {:?}", pair[0], pair[1]);
    }
}

fn by_id(rows: Vec<Row>) -> BTreeMap<Uuid, Row> {
    let mut stored = BTreeMap::new();
    for row in rows {
        let id = row.id;
        assert!(stored.insert(id, row).is_none(), "{id} is there twice");
    }
    stored
}

/// Returns every message among the dead letters as the frame that would send it again.
async fn dead_letters(stand: &Stand) -> BTreeMap<Uuid, Value> {
    let list = stand.home.look(&["dead-letters", "list", "--json", "--limit", "1000000"]).await.succeeded();
    let frames = list.json_lines().into_iter().map(|letter| letter["frame"].clone());
    let messages = frames.filter(|frame| frame["type"] == "message");
    messages.map(|frame| (frame["id"].as_str().unwrap().parse().unwrap(), frame)).collect()
}

fn nothing_is_invented(notes: &Notes, stored: &BTreeMap<Uuid, Row>, user: Uuid) {
    for (id, row) in stored.iter().filter(|(_, row)| row.content != "fresh") {
        let said = notes.said.get(id).unwrap_or_else(|| panic!("nobody said {row:?}"));
        let expected = super::saying::Saying { revision: row.revision, ..*said };
        assert_eq!(*row, expected.row(user), "{id}");
    }
}

fn nothing_is_lost(notes: &Notes, stored: &BTreeMap<Uuid, Row>, dead: &BTreeMap<Uuid, Value>) {
    for (id, saying) in &notes.acknowledged {
        let there = stored.get(id);
        let is_stored = there.is_some_and(|row| row.revision >= saying.revision);
        let was_taken_away = notes.taken_away.get(id).is_some_and(|revision| *revision >= saying.revision);
        if is_stored || was_taken_away {
            continue;
        }
        let frame =
            dead.get(id).unwrap_or_else(|| panic!("acknowledged and lost: {saying:?}; there is {there:?}"));
        let said = saying.frame();
        for field in ["role", "content", "metadata"] {
            assert_eq!(frame[field], said[field], "{frame}");
        }
    }
}

fn nothing_is_said_twice(stored: &BTreeMap<Uuid, Row>) {
    let said: Vec<_> = stored.values().filter(|row| row.content != "fresh").map(|row| &row.content).collect();
    let distinct: BTreeSet<_> = said.iter().collect();
    assert_eq!(distinct.len(), said.len(), "something said once is there under two ids");
}

fn sessions_are_as_told(notes: &Notes, stored: &BTreeMap<Uuid, Row>, sessions: &[SessionRow], user: Uuid) {
    let mut counts = BTreeMap::<Uuid, usize>::new();
    stored.values().for_each(|row| *counts.entry(row.session_id).or_default() += 1);
    let sessions: BTreeMap<_, _> = sessions.iter().map(|row| (row.session_id, row)).collect();
    for id in &notes.begun {
        let is_another = notes.sessions_taken_away.contains(id);
        let Some(row) = sessions.get(id) else {
            assert!(is_another, "the session {id} began and is not there");
            continue;
        };
        assert_eq!(row.user_id, user, "{row:?}");
        assert_eq!(row.message_count, counts.get(id).copied().unwrap_or_default(), "{row:?}");
        assert_eq!(row.has_end, Truth(row.status != "active"), "{row:?}");
        if notes.ended.contains(id) {
            assert_eq!((&*row.status, row.end_reason.as_deref()), ("ended", Some("completed")), "{row:?}");
        }
    }
}

/// Asserts that the newest durable update of each session is stored. With several nodes, the last delivery wins.
fn updates_are_as_told(notes: &Notes, sessions: &[SessionRow]) {
    for row in sessions.iter().filter(|row| !notes.sessions_taken_away.contains(&row.session_id)) {
        if let Some(updated) = notes.updated.get(&row.session_id) {
            assert!(row.metadata["at"].as_u64() >= Some(*updated as u64), "{updated}: {row:?}");
        }
    }
}
