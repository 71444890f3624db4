//! Which node ends a session if several could: the one that was told to end it, or the one that
//! heard from the session last.

use talktrack::clock::Clock as _;
use talktrack::clock::Seq;
use talktrack::record::{Body, Record, SessionEnd, SessionStart, StampedMessage};
use talktrack::store::Delivery;
use talktrack::{Dimensions, MessageId, SessionId, Status, Timestamp};
use talktrack_testkit::PATIENCE;

use super::{IMPATIENCE, LONG, MOMENT, NODES, Shared, over_both_stores};
use crate::node::Node;
use crate::support::{SESSION, USER, message, within};

/// A session that stays with its node.
const LEFT: SessionId = SessionId::from_u128(0xa1);

over_both_stores! {
    a_node_that_crashed_ends_what_nobody_took_over_and_nothing_else,
    a_node_does_not_end_by_its_disconnects_what_another_took_over,
    a_node_does_not_end_by_its_shutdown_what_another_took_over,
    a_node_does_not_end_as_silent_what_another_took_over,
    the_sessions_of_a_node_that_never_comes_back_are_abandoned_at_their_last_event,
    a_session_whose_peer_is_alive_but_silent_is_left_to_its_node,
    nodes_that_look_for_silent_sessions_at_once_end_each_of_them_once,
    a_start_that_comes_late_reopens_nothing_that_another_node_ended,
    what_comes_again_because_its_answer_was_lost_ends_nothing_that_goes_on,
    what_comes_again_because_its_answer_was_lost_reopens_nothing,
}

/// Starts two sessions on the first node, and moves one of them to the other node: by a start, as from a
/// client that reconnects, or by a message alone.
async fn taken_over(shared: &Shared, by_start: bool) -> [Node; 2] {
    let [one, other] = shared.nodes();
    for session in [SESSION, LEFT] {
        one.start(session).await;
        one.say(session, "here").await;
    }
    one.settled().await;
    shared.clock.advance(MOMENT);
    if by_start {
        other.start(SESSION).await;
    } else {
        other.say(SESSION, "there").await;
    }
    other.settled().await;
    shared.clock.advance(MOMENT);
    [one, other]
}

async fn statuses(node: &Node) -> [Status; 2] {
    let status = async |id| node.session(id).await.status.into_known().expect("a status");
    [status(SESSION).await, status(LEFT).await]
}

async fn a_node_that_crashed_ends_what_nobody_took_over_and_nothing_else(shared: &Shared) {
    let [one, other] = taken_over(shared, false).await;
    let last_event_at = other.session(LEFT).await.last_event_at;
    let one = shared.back(one.dies());
    one.settled().await;
    assert_eq!(statuses(&one).await, [Status::Active, Status::Abandoned]);
    assert_eq!(one.session(LEFT).await.ended_at, last_event_at);
    other.say(SESSION, "still there").await;
    other.settled().await;
    assert_eq!(one.contents(SESSION).await, ["here", "there", "still there"]);
}

async fn a_node_does_not_end_by_its_disconnects_what_another_took_over(shared: &Shared) {
    let [one, _other] = taken_over(shared, true).await;
    for session in [SESSION, LEFT] {
        let end = one.tracker.disconnect(session).unwrap().expect("the last connection to this node");
        within(end.durable()).await.unwrap();
    }
    one.settled().await;
    assert_eq!(statuses(&one).await, [Status::Active, Status::Ended]);
}

async fn a_node_does_not_end_by_its_shutdown_what_another_took_over(shared: &Shared) {
    let [one, other] = taken_over(shared, true).await;
    within(one.tracker.shutdown(PATIENCE)).await.unwrap();
    let one = shared.back(one.dies());
    one.settled().await;
    assert_eq!(statuses(&other).await, [Status::Active, Status::Ended]);
    assert_eq!(other.session(LEFT).await.end_reason.as_deref(), Some("shutdown"));
}

async fn a_node_does_not_end_as_silent_what_another_took_over(shared: &Shared) {
    let [one, other] = taken_over(shared, true).await;
    shared.clock.advance(LONG);
    other.say(SESSION, "after a long silence").await;
    other.settled().await;
    one.tracker.sweep();
    one.settled().await;
    assert_eq!(statuses(&one).await, [Status::Active, Status::Abandoned]);
}

/// Waits until the session is abandoned.
async fn abandoned(node: &Node, session: SessionId) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while node.session(session).await.status != Status::Abandoned {
        assert!(std::time::Instant::now() < deadline, "somebody abandons the session");
    }
}

async fn the_sessions_of_a_node_that_never_comes_back_are_abandoned_at_their_last_event(shared: &Shared) {
    let [one, _other] = shared.nodes();
    one.start(SESSION).await;
    shared.clock.advance(MOMENT);
    one.say(SESSION, "the last word").await;
    one.settled().await;
    let said_at = shared.clock.now();
    drop(one.dies());
    shared.clock.advance(LONG);
    let survivor = shared.impatient_node();
    abandoned(&survivor, SESSION).await;
    let row = survivor.session(SESSION).await;
    assert_eq!((row.ended_at, row.duration_seconds), (Some(said_at.into()), Some(1.0)));
    assert_eq!(row.end_reason.as_deref(), Some("idle_timeout"));
}

async fn a_session_whose_peer_is_alive_but_silent_is_left_to_its_node(shared: &Shared) {
    let patient = shared.impatient_node();
    let [lost, other] = shared.nodes();
    patient.start(SESSION).await;
    for round in 1..=3 {
        // When this session is abandoned as idle, the node has looked at the other session too.
        let witness = SessionId::from_u128(round);
        lost.start(witness).await;
        lost.settled().await;
        for _ in 0..5 {
            shared.clock.advance(IMPATIENCE / 4);
            patient.tracker.keep_alive(SESSION);
            patient.tracker.sweep();
            patient.settled().await;
        }
        abandoned(&other, witness).await;
        assert_eq!(other.session(SESSION).await.status, Status::Active);
    }
    shared.clock.advance(IMPATIENCE * 2);
    abandoned(&other, SESSION).await;
}

async fn nodes_that_look_for_silent_sessions_at_once_end_each_of_them_once(shared: &Shared) {
    let [one, other] = shared.nodes();
    for session in 1..=40 {
        one.start(SessionId::from_u128(session)).await;
    }
    one.settled().await;
    shared.clock.advance(LONG);
    other.start(SESSION).await;
    other.settled().await;
    let since = shared.clock.now().minus(LONG / 2);
    let mut ended = 0;
    // A store skips the rows that another store has locked.
    for round in 0..2 {
        let (by_one, by_other) =
            tokio::join!(shared.ways[0].end_idle_sessions(since), shared.ways[1].end_idle_sessions(since));
        ended += by_one.unwrap() + by_other.unwrap();
        assert_eq!(ended, 40, "in round {round}");
    }
    assert_eq!(other.session(SESSION).await.status, Status::Active);
}

/// A node was killed before its start reached the store. Meanwhile the other node handled the whole conversation.
async fn a_start_that_comes_late_reopens_nothing_that_another_node_ended(shared: &Shared) {
    let accepted = shared.clock.now();
    let late = SessionStart {
        session_id: SESSION,
        user_id: USER,
        external_id: None,
        metadata: None,
        dimensions: Dimensions::default(),
        started_at: accepted,
        has_given_start: true,
        resumed: false,
        reopens: true,
    };
    shared.clock.advance(MOMENT);
    let [_, other] = shared.nodes();
    other.start(SESSION).await;
    other.say(SESSION, "there").await;
    shared.clock.advance(MOMENT);
    within(other.tracker.end_session(SESSION, "completed").unwrap().durable()).await.unwrap();
    other.settled().await;
    let ended = other.session(SESSION).await;
    assert_eq!(ended.status, Status::Ended);
    let record = Record::new(Seq::from(accepted), Body::Start(late.clone()));
    shared.ways[0].write(Delivery::new(NODES[0], 0, &[record])).await.unwrap();
    assert_eq!(other.session(SESSION).await, ended);

    // A start after the end does reopen the session.
    let now = shared.clock.now();
    let again = SessionStart { started_at: now, ..late };
    shared.ways[0]
        .write(Delivery::new(NODES[0], 0, &[Record::new(Seq::from(now), Body::Start(again))]))
        .await
        .unwrap();
    let row = other.session(SESSION).await;
    assert_eq!((row.status, row.ended_at, row.message_count), (Status::Active.into(), None, 1));
}

/// Regression test: an end, a resumption and a message reached the store in one write, and the answer was
/// lost. When they came again, the end closed the session. The start behind it was older than the message
/// by then and was taken for a late one, so the session stayed closed while the conversation continued.
async fn what_comes_again_because_its_answer_was_lost_ends_nothing_that_goes_on(shared: &Shared) {
    let [one, _] = shared.nodes();
    one.start(SESSION).await;
    one.settled().await;
    let began = shared.clock.now();
    let after = |moments| began.plus(MOMENT * moments);
    let written = [ended(after(1)), resumed(after(2)), said(after(3))];
    shared.ways[0].write(Delivery::new(NODES[0], 0, &written)).await.unwrap();
    let row = one.session(SESSION).await;
    assert_eq!(
        (row.status.clone(), row.ended_at.clone(), row.message_count),
        (Status::Active.into(), None, 1)
    );
    shared.ways[0].write(Delivery::new(NODES[0], 0, &written)).await.unwrap();
    assert_eq!(one.session(SESSION).await, row);
}

/// A session that a crash left open ends at its last event, so the time of its end does not tell when the end was made.
async fn what_comes_again_because_its_answer_was_lost_reopens_nothing(shared: &Shared) {
    let [one, _] = shared.nodes();
    one.start(SESSION).await;
    one.settled().await;
    let began = shared.clock.now();
    let after = |moments| began.plus(MOMENT * moments);
    let written = [resumed(after(1)), abandoned_at(after(2)), said(after(3))];
    shared.ways[0].write(Delivery::new(NODES[0], 0, &written)).await.unwrap();
    let row = one.session(SESSION).await;
    assert_eq!(
        (row.status.clone(), row.ended_at.clone(), row.message_count),
        (Status::Abandoned.into(), Some(after(1).into()), 1)
    );
    shared.ways[0].write(Delivery::new(NODES[0], 0, &written)).await.unwrap();
    assert_eq!(one.session(SESSION).await, row);
}

fn ended(ended_at: Timestamp) -> Record {
    end(Status::Ended, ended_at, None)
}

fn abandoned_at(ended_at: Timestamp) -> Record {
    end(Status::Abandoned, ended_at, Some(ended_at))
}

fn end(status: Status, ended_at: Timestamp, seen_until: Option<Timestamp>) -> Record {
    let session_id = SESSION;
    let reason = "why".to_owned();
    let known = None;
    let owner = Some(USER);
    let end = SessionEnd { session_id, status, reason, ended_at, known, seen_until, owner };
    Record::new(Seq::from(ended_at), Body::End(end))
}

fn resumed(started_at: Timestamp) -> Record {
    let session_id = SESSION;
    let user_id = USER;
    let (external_id, metadata) = (None, None);
    let start = SessionStart {
        session_id,
        user_id,
        external_id,
        metadata,
        dimensions: Dimensions::default(),
        started_at,
        has_given_start: true,
        resumed: true,
        reopens: true,
    };
    Record::new(Seq::from(started_at), Body::Start(start))
}

fn said(created_at: Timestamp) -> Record {
    let id = MessageId::from_u128(0xc1);
    let owner = Some(USER);
    let stamped = StampedMessage {
        id,
        owner,
        by_user: false,
        session_started_at: None,
        created_at,
        takes_back: None,
        message: message("still there"),
    };
    Record::new(Seq::from(created_at), Body::Message(stamped))
}
