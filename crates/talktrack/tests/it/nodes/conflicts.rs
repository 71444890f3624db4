//! Records of one session that reach the store in another order than the events happened: late,
//! repeated, or from the past.

use std::time::Duration;
use talktrack::clock::Seq;

use serde_json::{Value, json};
use talktrack::record::{
    Attempt, Body, Record, SessionEnd, SessionStart, SessionUpdate, StampedMessage, Verdict,
};
use talktrack::store::{Delivery, SessionRow};
use talktrack::{Dimensions, JsonObject, MessageId, Status, Timestamp};

use super::{NODES, Shared, over_both_stores};
use crate::support::{SESSION, USER, message};

over_both_stores! {
    what_was_applied_changes_nothing_when_it_comes_again,
    what_comes_again_after_another_nodes_record_only_fills_in,
    what_comes_again_from_the_node_that_told_last_applies,
    what_the_writer_held_back_only_fills_in,
    what_is_replayed_only_fills_in,
    a_replayed_start_of_a_session_that_is_gone_hides_nothing_that_was_told_before_it,
    a_first_delivery_behind_another_nodes_record_applies,
    a_late_end_does_not_close_what_goes_on_at_another_node,
    a_spoken_end_replaces_one_that_nobody_spoke_and_never_the_other_way_round,
    a_late_message_takes_back_only_an_end_that_nobody_spoke,
    a_message_from_before_the_end_or_within_the_grace_period_takes_back_nothing,
    a_message_that_comes_again_takes_back_nothing,
    a_count_of_messages_at_its_maximum_stops_no_message,
}

/// Returns the moment this many seconds after the session began.
fn at(second: u64) -> Timestamp {
    let began: Timestamp = "2026-02-03T04:05:06Z".parse().unwrap();
    began.plus(Duration::from_secs(second))
}

fn record(second: u64, body: Body) -> Record {
    Record::new(Seq::from(at(second)), body)
}

/// The agent of records with these metadata: the key `a`. So the rules for metadata must give the same agent as key.
fn agent_of(metadata: &JsonObject) -> Option<String> {
    metadata.to_value().get("a").map(Value::to_string)
}

pub(super) fn start(second: u64, metadata: &str) -> Record {
    let metadata = JsonObject::parse(metadata).unwrap();
    let start = SessionStart {
        session_id: SESSION,
        user_id: USER,
        external_id: None,
        dimensions: Dimensions::new().with_agent(agent_of(&metadata)),
        metadata: Some(metadata),
        started_at: at(second),
        has_given_start: true,
        resumed: false,
        reopens: true,
    };
    record(second, Body::Start(start))
}

pub(super) fn update(second: u64, metadata: &str) -> Record {
    let metadata = JsonObject::parse(metadata).unwrap();
    let owner = Some(USER);
    let session_started_at = None;
    let dimensions = Dimensions::new().with_agent(agent_of(&metadata));
    let update = SessionUpdate { session_id: SESSION, metadata, dimensions, owner, session_started_at };
    record(second, Body::Update(update))
}

fn end_as(second: u64, reason: &str, seen_until: Option<u64>) -> Record {
    let status = Status::Ended;
    let reason = reason.to_owned();
    let ended_at = at(second);
    let seen_until = seen_until.map(at);
    let end = SessionEnd {
        session_id: SESSION,
        status,
        reason,
        ended_at,
        known: None,
        seen_until,
        owner: Some(USER),
    };
    record(second, Body::End(end))
}

pub(super) fn spoken_end(second: u64) -> Record {
    end_as(second, "completed", None)
}

/// Builds the end that a node infers from a lost connection.
fn lost_connection(second: u64) -> Record {
    end_as(second, "disconnect", Some(second))
}

/// Builds a message that was said at `said` and accepted at `second`, by a node that did not
/// have the session in memory.
fn late_message(said: u64, second: u64) -> Record {
    let stamped = StampedMessage {
        by_user: false,
        id: MessageId::from_u128(u128::from(second) << 32 | u128::from(said)),
        owner: None,
        session_started_at: None,
        created_at: at(said),
        takes_back: Some(at(second).minus(Duration::from_secs(60))),
        message: message("still there"),
    };
    record(second, Body::Message(stamped))
}

pub(super) fn again(record: &Record, attempt: Attempt) -> Record {
    Record { attempt, ..record.clone() }
}

impl Shared {
    /// Delivers the records of this node in one write.
    pub(super) async fn tell(&self, node: usize, records: &[Record]) -> Vec<Verdict> {
        self.ways[node].write(Delivery::new(NODES[node], 0, records)).await.unwrap()
    }

    pub(super) async fn row(&self) -> SessionRow {
        self.ways[0].session(SESSION).await.unwrap().unwrap()
    }

    pub(super) async fn metadata(&self) -> Value {
        let row = self.row().await;
        let metadata = row.metadata.unwrap().into_known().unwrap();
        assert_eq!(row.dimensions.agent, agent_of(&metadata));
        Value::Object(metadata.to_value())
    }

    /// Returns the status of the session and the reason of its end.
    pub(super) async fn end(&self) -> (Status, Option<String>) {
        let row = self.row().await;
        assert_eq!(row.status == Status::Active, row.ended_at.is_none(), "{row:?}");
        (row.status.into_known().unwrap(), row.end_reason)
    }
}

fn ended(reason: &str) -> (Status, Option<String>) {
    (Status::Ended, Some(reason.into()))
}

pub(super) const ACTIVE: (Status, Option<String>) = (Status::Active, None);

async fn what_was_applied_changes_nothing_when_it_comes_again(shared: &Shared) {
    let began = start(0, r#"{"a":1}"#);
    let ends = spoken_end(2);
    shared.tell(0, &[began.clone(), update(1, r#"{"a":2}"#), ends.clone()]).await;
    shared.tell(0, &[start(3, "{}")]).await;
    for record in [&began, &ends, &update(1, r#"{"a":2}"#)] {
        shared.tell(0, &[again(record, Attempt::Retry)]).await;
        assert_eq!((shared.end().await, shared.metadata().await), (ACTIVE, json!({"a": 2})), "{record:?}");
    }
}

async fn what_comes_again_after_another_nodes_record_only_fills_in(shared: &Shared) {
    shared.tell(0, &[start(0, r#"{"a":1}"#)]).await;
    shared.tell(1, &[start(2, r#"{"a":2}"#)]).await;
    let old = update(1, r#"{"a":0,"b":0}"#);
    shared.tell(0, &[again(&old, Attempt::Retry)]).await;
    assert_eq!(shared.metadata().await, json!({"a": 2, "b": 0}));
    shared.tell(0, &[again(&spoken_end(1), Attempt::Retry)]).await;
    assert_eq!(shared.end().await, ACTIVE, "the other node went on after this end");
    shared.tell(1, &[spoken_end(3)]).await;
    shared.tell(0, &[again(&start(4, "{}"), Attempt::Retry)]).await;
    assert_eq!(shared.end().await, ended("completed"));
}

async fn what_comes_again_from_the_node_that_told_last_applies(shared: &Shared) {
    shared.tell(0, &[start(0, r#"{"a":1}"#)]).await;
    shared.tell(0, &[again(&update(1, r#"{"a":2}"#), Attempt::Retry)]).await;
    shared.tell(0, &[again(&spoken_end(2), Attempt::Retry)]).await;
    assert_eq!((shared.end().await, shared.metadata().await), (ended("completed"), json!({"a": 2})));
    shared.tell(0, &[again(&start(3, r#"{"a":3}"#), Attempt::Retry)]).await;
    assert_eq!((shared.end().await, shared.metadata().await), (ACTIVE, json!({"a": 3})));
}

async fn what_the_writer_held_back_only_fills_in(shared: &Shared) {
    shared.tell(0, &[start(0, "{}"), update(3, r#"{"a":3}"#)]).await;
    shared.tell(0, &[update(2, r#"{"a":2,"b":2}"#)]).await;
    assert_eq!(shared.metadata().await, json!({"a": 3, "b": 2}));
}

async fn what_is_replayed_only_fills_in(shared: &Shared) {
    shared.tell(0, &[start(0, r#"{"a":1}"#), update(1, r#"{"a":2}"#), spoken_end(2)]).await;
    let row = shared.row().await;
    for record in [start(10, r#"{"a":0}"#), update(11, r#"{"a":0}"#)] {
        shared.tell(0, &[again(&record, Attempt::Replay)]).await;
        assert_eq!(
            shared.row().await,
            SessionRow { last_event_at: shared.row().await.last_event_at, ..row.clone() }
        );
    }
    shared.tell(0, &[start(20, "{}")]).await;
    // A replayed end was accepted long ago, but its replay has a `seq` of today.
    let Body::End(old) = spoken_end(15).body else { unreachable!() };
    let replayed = Record { attempt: Attempt::Replay, ..record(30, Body::End(old)) };
    shared.tell(0, &[replayed]).await;
    assert_eq!(shared.end().await, ACTIVE);
}

async fn a_replayed_start_of_a_session_that_is_gone_hides_nothing_that_was_told_before_it(shared: &Shared) {
    shared.tell(0, &[again(&start(9, "{}"), Attempt::Replay)]).await;
    shared.tell(0, &[update(5, r#"{"a":5}"#)]).await;
    assert_eq!(shared.metadata().await, json!({"a": 5}));
}

async fn a_first_delivery_behind_another_nodes_record_applies(shared: &Shared) {
    shared.tell(0, &[start(0, r#"{"a":1}"#)]).await;
    shared.tell(1, &[update(1, r#"{"a":2}"#)]).await;
    shared.tell(0, &[update(2, r#"{"a":3}"#), spoken_end(3)]).await;
    assert_eq!((shared.end().await, shared.metadata().await), (ended("completed"), json!({"a": 3})));
}

async fn a_late_end_does_not_close_what_goes_on_at_another_node(shared: &Shared) {
    shared.tell(0, &[start(0, "{}")]).await;
    shared.tell(1, &[start(5, "{}"), late_message(6, 6)]).await;
    for late in [spoken_end(4), lost_connection(4)] {
        assert_eq!(shared.tell(0, &[late]).await, [Verdict::StaysActive]);
        assert_eq!(shared.end().await, ACTIVE);
    }
    // An end that is later than everything else closes the session.
    shared.tell(0, &[spoken_end(7)]).await;
    assert_eq!(shared.end().await, ended("completed"));
}

async fn a_spoken_end_replaces_one_that_nobody_spoke_and_never_the_other_way_round(shared: &Shared) {
    shared.tell(0, &[start(0, "{}"), lost_connection(1)]).await;
    assert_eq!(shared.end().await, ended("disconnect"));
    shared.tell(1, &[spoken_end(2)]).await;
    assert_eq!((shared.end().await, shared.row().await.ended_at), (ended("completed"), Some(at(2).into())));
    let row = shared.row().await;
    shared.tell(0, &[lost_connection(3), end_as(4, "another word", None)]).await;
    assert_eq!(shared.row().await, row);
}

async fn a_late_message_takes_back_only_an_end_that_nobody_spoke(shared: &Shared) {
    shared.tell(0, &[start(0, "{}"), lost_connection(1)]).await;
    let verdicts = shared.tell(1, &[late_message(62, 62)]).await;
    assert!(
        matches!(&verdicts[..], [Verdict::Reopened(reopened)] if reopened.user_id == USER),
        "{verdicts:?}"
    );
    let row = shared.row().await;
    assert_eq!(
        (row.status.clone(), row.ended_at.clone(), row.message_count),
        (Status::Active.into(), None, 1)
    );
    assert_eq!((row.duration_seconds, row.end_reason, row.last_event_at), (None, None, Some(at(62).into())));
    shared.tell(0, &[spoken_end(70)]).await;
    assert_eq!(shared.tell(1, &[late_message(700, 700)]).await, [Verdict::Inserted]);
    assert_eq!((shared.end().await, shared.row().await.message_count), (ended("completed"), 2));
}

async fn a_message_from_before_the_end_or_within_the_grace_period_takes_back_nothing(shared: &Shared) {
    shared.tell(0, &[start(0, "{}"), lost_connection(10)]).await;
    for (said, accepted) in [(9, 500), (10, 500), (70, 70), (11, 69)] {
        assert_eq!(shared.tell(1, &[late_message(said, accepted)]).await, [Verdict::Inserted]);
        assert_eq!(shared.end().await, ended("disconnect"), "said at {said}, accepted at {accepted}");
    }
    assert_eq!(shared.row().await.message_count, 4);
}

async fn a_message_that_comes_again_takes_back_nothing(shared: &Shared) {
    shared.tell(0, &[start(0, "{}"), lost_connection(1)]).await;
    for attempt in [Attempt::Retry, Attempt::Replay] {
        shared.tell(1, &[again(&late_message(100, 100), attempt)]).await;
        assert_eq!(shared.end().await, ended("disconnect"), "{attempt:?}");
    }
    // A message that is already stored does not reopen the session either.
    assert_eq!(shared.tell(1, &[late_message(100, 100)]).await, [Verdict::AlreadyThere]);
    assert_eq!(shared.end().await, ended("disconnect"));
}

async fn a_count_of_messages_at_its_maximum_stops_no_message(shared: &Shared) {
    shared.tell(0, &[start(0, "{}")]).await;
    if let Some(database) = &shared.database {
        database.psql("UPDATE conversation_sessions SET message_count = 9223372036854775806");
    }
    assert_eq!(
        shared.tell(0, &[late_message(1, 1), late_message(2, 2)]).await,
        [Verdict::Inserted, Verdict::Inserted]
    );
    if shared.database.is_some() {
        assert_eq!(shared.row().await.message_count, i64::MAX);
    }
}
