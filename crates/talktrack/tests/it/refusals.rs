//! Refusals on entry: typed and immediate, and the message comes back to the caller.

use talktrack::{
    JsonObject, Kind, Message, MessageId, NewSession, Options, Reason, Refused, Role, SessionId, Tracker,
    UserId,
};
use talktrack_testkit::{Setup, eventually};

use crate::support::{SESSION, StuckDisk, USER, accept, dir, message, new_session, within};

fn refusal(tracker: &Tracker, message: Message) -> Refused<Message> {
    tracker.track_message(message).expect_err("the message is refused")
}

/// Returns a tracker whose journal is stuck with one message, so that the queue starts empty and
/// keeps what is put into it.
async fn stuck(dir: &tempfile::TempDir, options: Options) -> (Tracker, StuckDisk) {
    let tracker = Tracker::open(options).unwrap();
    within(tracker.start_session(new_session()).unwrap().durable()).await.unwrap();
    let stuck = StuckDisk::of(dir.path());
    drop(accept(&tracker, message("in the journal's hands")));
    eventually("the journal takes the message", || tracker.queue_depth() == 0).await;
    (tracker, stuck)
}

#[tokio::test]
async fn a_full_queue_refuses_and_hands_the_very_message_back() {
    let dir = dir();
    let options = Options::new(dir.path()).with_queue_capacity(10);
    let (tracker, stuck) = stuck(&dir, options).await;
    let receipts: Vec<_> = (0..10).map(|n| accept(&tracker, message(format!("message {n}")))).collect();
    assert_eq!(tracker.queue_depth(), 10);
    let one_more = message("one more")
        .with_id(MessageId::from_u128(7))
        .with_external_id("own")
        .with_metadata(JsonObject::parse(r#"{ "spelled" : "so" }"#).unwrap())
        .with_created_at("2026-01-02T03:04:05Z".parse::<talktrack::Timestamp>().unwrap());
    for _ in 0..3 {
        let refused = refusal(&tracker, one_more.clone());
        assert_eq!(refused, Refused { reason: Reason::QueueFull, returned: one_more.clone() });
        assert_eq!(refused.reason.code(), "queue_full");
    }
    let session = NewSession::new(SessionId::from_u128(8), USER).with_metadata(one_more.metadata.clone());
    let refused = tracker.start_session(session.clone()).expect_err("a session's start is refused too");
    assert_eq!(refused, Refused { reason: Reason::QueueFull, returned: session });
    let keys = JsonObject::parse(r#"{"a":1}"#).unwrap();
    let refused = tracker.update_session(SESSION, keys.clone()).expect_err("and so is an update");
    assert_eq!(refused, Refused { reason: Reason::QueueFull, returned: keys.into() });

    drop(stuck);
    for receipt in receipts {
        within(receipt).await.expect("what was accepted becomes durable");
    }
    within(accept(&tracker, one_more)).await.expect("and there is room again");
    let rows = within(tracker.reader().messages(SESSION, None, 100)).await.unwrap();
    assert_eq!(rows.len(), 12);
    assert_eq!(
        within(tracker.reader().session(SessionId::from_u128(8))).await.unwrap(),
        None,
        "refused is refused"
    );
}

#[tokio::test]
async fn a_session_can_be_ended_although_the_queue_is_full() {
    let dir = dir();
    let (tracker, stuck) = stuck(&dir, Options::new(dir.path()).with_queue_capacity(2)).await;
    let receipts = [accept(&tracker, message("one")), accept(&tracker, message("two"))];
    assert_eq!(refusal(&tracker, message("three")).reason, Reason::QueueFull);
    let end = tracker.end_session(SESSION, "completed").expect("an end is never turned away");
    drop(stuck);
    for receipt in receipts {
        within(receipt).await.unwrap();
    }
    assert_eq!(within(end.durable()).await.unwrap().message_count, 3);
}

#[tokio::test]
async fn a_queue_full_of_bytes_refuses_what_does_not_fit() {
    let dir = dir();
    let (tracker, stuck) = stuck(&dir, Options::new(dir.path()).with_queue_bytes(1_000)).await;
    let text = |bytes| message("x".repeat(bytes));
    let mut receipts = vec![accept(&tracker, text(600)), accept(&tracker, text(300))];
    let too_much = text(50).with_audio_url("y".repeat(51));
    assert_eq!(
        refusal(&tracker, too_much.clone()),
        Refused { reason: Reason::QueueFull, returned: too_much }
    );
    let just_fits = text(50).with_audio_url("y".repeat(50));
    receipts.push(accept(&tracker, just_fits));
    assert_eq!(refusal(&tracker, text(1)).reason, Reason::QueueFull);
    drop(stuck);
    for receipt in receipts {
        within(receipt).await.unwrap();
    }
    within(accept(&tracker, text(1_000))).await.expect("the bytes are given back");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_all_its_text_together() {
    let dir = dir();
    let tracker = Tracker::open(Options::new(dir.path()).with_max_message_bytes(100)).unwrap();
    within(tracker.start_session(new_session()).unwrap().durable()).await.unwrap();
    let limit = |extra| {
        message("\u{e9}".repeat(25) + extra)
            .with_external_id("e".repeat(10))
            .with_audio_url("a".repeat(10))
            .with_content_generated("g".repeat(10))
            .with_metadata(JsonObject::parse(&format!("{{\"k\":\"{}\"}}", "m".repeat(12))).unwrap())
    };
    within(accept(&tracker, limit(""))).await.expect("100 bytes are at the limit");
    let refused = refusal(&tracker, limit("x"));
    assert_eq!(refused, Refused { reason: Reason::TooLarge { size: 101, limit: 100 }, returned: limit("x") });
    assert_eq!(refused.reason.code(), "too_large");
    assert_eq!(refused.to_string(), "the message has 101 bytes, the limit is 100");
}

#[tokio::test]
async fn an_invalid_message_is_refused_with_the_name_of_its_field() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    within(tracker.start_session(new_session()).unwrap().durable()).await.unwrap();
    let invalid = [
        ("external_id: must not be empty", message("x").with_external_id(String::new())),
        ("external_id: must be at most 256 bytes", message("x").with_external_id("x".repeat(257))),
        ("revision: must be at most 2147483647", message("x").with_revision(1 << 31)),
    ];
    for (problem, message) in invalid {
        let refused = refusal(&tracker, message.clone());
        assert_eq!(
            (refused.to_string().as_str(), refused.reason.code().as_str()),
            (problem, "invalid_message")
        );
        assert_eq!(refused.returned, message, "{problem}");
    }
    let valid = [
        message("a long name").with_external_id("x".repeat(256)),
        message("many revisions").with_revision(i32::MAX.unsigned_abs()),
        message(""),
        message(" \n"),
        message("").with_kind(Kind::Event),
        message("").with_content_generated("never spoken"),
        message("").with_parts(talktrack::JsonArray::parse("[]").unwrap()),
        message("").with_role(Role::Tool).with_kind(Kind::ToolResult),
    ];
    for message in valid {
        within(accept(&tracker, message)).await.expect("at the limit is within it");
    }
    assert_eq!(tracker.health().books.stored, 8);
}

#[tokio::test]
async fn a_session_with_a_bad_name_is_refused_and_comes_back() {
    let dir = dir();
    let tracker = Tracker::open(Options::new(dir.path())).unwrap();
    let bad = [
        ("external_id: must not be empty", NewSession::named("", USER)),
        ("external_id: must be at most 256 bytes", NewSession::named("x".repeat(257), USER)),
    ];
    for (problem, session) in bad {
        let refused = tracker.start_session(session.clone()).expect_err("the session is refused");
        assert_eq!((refused.to_string().as_str(), refused.returned), (problem, session));
    }
    assert_eq!(tracker.sessions_in_memory(), 0);
}

#[tokio::test]
async fn what_is_told_of_a_session_has_the_same_limit_and_comes_back_too() {
    let dir = dir();
    let tracker = Tracker::open(Options::new(dir.path()).with_max_message_bytes(100)).unwrap();
    let told = |bytes: usize| JsonObject::parse(&format!("{{\"k\":\"{}\"}}", "m".repeat(bytes - 8))).unwrap();
    let session = |bytes| new_session().with_metadata(told(bytes));
    let too_large = Reason::TooLarge { size: 101, limit: 100 };
    let refused = tracker.start_session(session(101)).expect_err("one byte too many");
    assert_eq!(refused, Refused { reason: too_large.clone(), returned: session(101) });
    within(tracker.start_session(session(100)).unwrap().durable()).await.expect("the limit is within it");
    let refused = tracker.update_session(SESSION, told(101)).expect_err("one byte too many");
    assert_eq!(refused, Refused { reason: too_large, returned: told(101).into() });
    within(tracker.update_session(SESSION, told(100)).unwrap()).await.expect("the limit is within it");
}

#[tokio::test]
async fn a_refused_session_leaves_nothing_in_memory() {
    let dir = dir();
    let (tracker, stuck) = stuck(&dir, Options::new(dir.path()).with_queue_capacity(1)).await;
    let receipt = accept(&tracker, message("fills the queue"));
    let refused =
        tracker.start_session(NewSession::new(SessionId::from_u128(9), USER)).expect_err("the queue is full");
    assert_eq!((refused.reason, tracker.sessions_in_memory()), (Reason::QueueFull, 1));
    drop(stuck);
    within(receipt).await.unwrap();
    let other_user = NewSession::new(SessionId::from_u128(9), UserId::from_u128(0xb1));
    within(tracker.start_session(other_user).unwrap().durable())
        .await
        .expect("the id is still free for anyone");
}
