//! The same ids on several nodes: repetitions, revisions, conflicts, and writes at the same moment.

use std::sync::Arc;
use std::time::Duration;
use talktrack::clock::Seq;

use talktrack::clock::Clock as _;
use talktrack::record::{Body, Record, SessionStart, StampedMessage, Verdict};
use talktrack::store::{Delivery, Read as _, Store as _};
use talktrack::{Dimensions, Message, MessageId, Role, SessionId, Timestamp};
use talktrack_testkit::Setup;

use super::{NODES, Shared, over_both_stores};
use crate::node::Node;
use crate::postgres::{migrated, store_at};
use crate::support::{SESSION, USER};

over_both_stores! {
    the_same_message_sent_to_both_nodes_is_stored_once,
    a_message_that_came_again_over_another_node_stands_where_it_was_first_accepted,
    the_highest_revision_stays_whichever_node_it_came_by,
    other_content_under_an_id_that_another_node_has_stored_is_laid_aside,
    an_id_that_another_node_has_stored_in_another_session_is_laid_aside,
}

fn said(session: SessionId, id: u128, revision: u32, text: &str) -> Message {
    Message::new(session, Role::User, text).with_id(MessageId::from_u128(id)).with_revision(revision)
}

async fn the_same_message_sent_to_both_nodes_is_stored_once(shared: &Shared) {
    let nodes = shared.nodes();
    for node in &nodes {
        node.start(SESSION).await;
    }
    for number in 1..=200 {
        // The two nodes track the ids in opposite orders.
        for (node, id) in nodes.iter().zip([number, 201 - number]) {
            drop(node.tracker.track_message(said(SESSION, id, 0, &format!("message {id}"))).unwrap());
        }
    }
    for node in &nodes {
        let books = node.settled().await;
        assert_eq!((books.stored, books.dead_lettered), (200, 0));
    }
    let mut contents = nodes[0].contents(SESSION).await;
    contents.sort();
    let mut all: Vec<_> = (1..=200).map(|id| format!("message {id}")).collect();
    all.sort();
    assert_eq!(contents, all);
    assert_eq!(nodes[1].session(SESSION).await.message_count, 200);
}

/// A client loses its node before the acknowledgements arrive, and sends everything again to another
/// node, which delivers first.
async fn a_message_that_came_again_over_another_node_stands_where_it_was_first_accepted(shared: &Shared) {
    let said = |number: u128| said(SESSION, number, 0, &format!("message {number}"));
    let [one, other] = [&shared.ways[0], &shared.ways[1]];
    let lost = Node::with(one, shared.options());
    lost.start(SESSION).await;
    lost.settled().await;
    let records = [(1, 0), (2, 1), (3, 2), (1, 10), (2, 11)].map(|(number, after)| {
        let at = now().plus(Duration::from_secs(60 + after));
        let message = said(number);
        let id = MessageId::from_u128(number);
        let stamped = StampedMessage {
            by_user: false,
            id,
            owner: Some(USER),
            session_started_at: None,
            created_at: at,
            takes_back: None,
            message,
        };
        Record::new(Seq::from(at), Body::Message(stamped))
    });
    let (late, first) = records.split_at(3);
    other.write(Delivery::new(NODES[1], 0, first)).await.unwrap();
    let verdicts = one.write(Delivery::new(NODES[0], 0, late)).await.unwrap();
    assert_eq!(verdicts, [Verdict::AlreadyThere, Verdict::AlreadyThere, Verdict::Inserted]);
    assert_eq!(lost.contents(SESSION).await, ["message 1", "message 2", "message 3"]);
    one.write(Delivery::new(NODES[0], 0, first)).await.unwrap();
    assert_eq!(
        lost.contents(SESSION).await,
        ["message 1", "message 2", "message 3"],
        "a later copy moves nothing"
    );
}

async fn the_highest_revision_stays_whichever_node_it_came_by(shared: &Shared) {
    let [one, other] = shared.nodes();
    one.start(SESSION).await;
    for (node, revision) in [(&one, 0), (&other, 2), (&one, 1), (&other, 3), (&one, 3)] {
        node.track(said(SESSION, 1, revision, &format!("revision {revision}"))).await;
        assert_eq!(node.settled().await.dead_lettered, 0, "at revision {revision}");
    }
    assert_eq!(one.contents(SESSION).await, ["revision 3"]);
    assert_eq!(one.session(SESSION).await.message_count, 1);
}

/// Tracks a message on one node, then a different message with the same id on the other. Checks that the
/// first one stays and that the second becomes a dead letter with its whole content.
async fn the_second_is_laid_aside(nodes: &[Node; 2], first: Message, second: Message) {
    let [one, other] = nodes;
    one.track(first.clone()).await;
    one.settled().await;
    other.track(second.clone()).await;
    assert_eq!(other.settled().await.dead_lettered, 1);
    let letters = other.dead_letters();
    assert_eq!(
        (letters[0].reason.as_str(), letters[0].content()),
        ("id_conflict", Some(second.content.as_str()))
    );
    assert_eq!(one.contents(first.session_id).await, [first.content]);
}

async fn other_content_under_an_id_that_another_node_has_stored_is_laid_aside(shared: &Shared) {
    let nodes = shared.nodes();
    nodes[0].start(SESSION).await;
    the_second_is_laid_aside(&nodes, said(SESSION, 1, 0, "yes"), said(SESSION, 1, 0, "no")).await;
}

async fn an_id_that_another_node_has_stored_in_another_session_is_laid_aside(shared: &Shared) {
    let nodes = shared.nodes();
    let second = SessionId::from_u128(0xa1);
    nodes[0].start(SESSION).await;
    nodes[1].start(second).await;
    // A higher revision does not help, because it is not a revision of the stored message.
    the_second_is_laid_aside(&nodes, said(SESSION, 1, 0, "yes"), said(second, 1, 1, "yes")).await;
    assert_eq!(nodes[1].session(second).await.message_count, 0);
}

fn now() -> Timestamp {
    Setup::sqlite("").clock().now()
}

fn start(seq: i64, session_id: SessionId) -> Record {
    let external_id = None;
    let metadata = None;
    let started_at = now();
    let user_id = USER;
    let start = SessionStart {
        session_id,
        user_id,
        external_id,
        metadata,
        dimensions: Dimensions::default(),
        started_at,
        has_given_start: true,
        resumed: false,
        reopens: false,
    };
    Record::new(Seq::new(seq), Body::Start(start))
}

fn record(seq: i64, session: SessionId, id: u128) -> Record {
    let message = said(session, id, 0, &format!("message {id}"));
    let id = MessageId::from_u128(id);
    let owner = Some(USER);
    let stamped = StampedMessage {
        id,
        owner,
        by_user: false,
        session_started_at: Some(now()),
        created_at: now(),
        takes_back: None,
        message,
    };
    Record::new(Seq::new(seq), Body::Message(stamped))
}

/// Makes two nodes write their batches at the same moment, in many rounds. A deadlock would
/// delay one of them by a second.
async fn write_at_once(known: &[SessionId], batches: impl Fn(u128) -> [Vec<Record>; 2]) {
    let database = migrated().await;
    let ways = [0, 1].map(|_| Arc::new(store_at(&database.url())));
    let starts: Vec<_> = (1..).zip(known).map(|(seq, session)| start(seq, *session)).collect();
    ways[0].write(Delivery::new(NODES[0], 0, &starts)).await.unwrap();
    for round in 0..20 {
        let [one, other] = batches(round);
        let (one, other) = tokio::join!(
            ways[0].write(Delivery::new(NODES[0], 0, &one)),
            ways[1].write(Delivery::new(NODES[1], 0, &other))
        );
        for verdicts in [one, other] {
            let verdicts = verdicts.unwrap_or_else(|error| panic!("in round {round}: {error}"));
            assert!(!verdicts.iter().any(|verdict| matches!(verdict, Verdict::Dead(_))));
        }
    }
    assert_eq!(ways[0].audit().await.unwrap().problems, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_write_the_same_ids_in_opposite_order_do_not_stop_each_other() {
    write_at_once(&[SESSION], |round| {
        let ids = round * 1_000..round * 1_000 + 400;
        let batch = |ids: Vec<u128>| (1..).zip(ids).map(|(seq, id)| record(seq, SESSION, id)).collect();
        [batch(ids.clone().collect()), batch(ids.rev().collect())]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_the_same_sessions_in_opposite_order_do_not_stop_each_other() {
    write_at_once(&[], |round| {
        let sessions: Vec<_> =
            (1..=40).map(|session| SessionId::from_u128(round * 1_000 + session)).collect();
        let batch = |sessions: Vec<SessionId>, first: u128| {
            let starts = (1..).zip(&sessions).map(|(seq, session)| start(seq, *session));
            let messages = (100..)
                .zip(&sessions)
                .map(|(seq, session)| record(seq, *session, first + session.as_uuid().as_u128()));
            starts.chain(messages).collect()
        };
        let reverse = sessions.iter().rev().copied().collect();
        [batch(sessions, 1_000_000), batch(reverse, 2_000_000)]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_tell_of_the_same_sessions_in_opposite_order_do_not_stop_each_other() {
    let sessions: Vec<_> = (1..=100).map(SessionId::from_u128).collect();
    write_at_once(&sessions, |round| {
        let batch = |sessions: Vec<SessionId>, node: u128| {
            let id = |session: &SessionId| (round * 2 + node) * 1_000 + session.as_uuid().as_u128();
            (1..).zip(&sessions).map(|(seq, session)| record(seq, *session, id(session))).collect()
        };
        let reverse = sessions.iter().rev().copied().collect();
        [batch(sessions.clone(), 0), batch(reverse, 1)]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_restore_the_same_sessions_at_once_lay_nothing_aside() {
    write_at_once(&[], |round| {
        let sessions: Vec<_> = (1..=20).map(|session| SessionId::from_u128(round * 100 + session)).collect();
        let batch = |first: u128| {
            let id = |session: &SessionId| first + session.as_uuid().as_u128();
            (1..).zip(&sessions).map(|(seq, session)| record(seq, *session, id(session))).collect()
        };
        [batch(1_000_000), batch(2_000_000)]
    })
    .await;
}
