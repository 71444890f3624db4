//! Ids: repetitions of a message, revisions, and ids that are already used.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use std::time::Duration;

use talktrack::NewSession;
use talktrack::store::MessageRow;
use talktrack_core::error::NotDurable;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::json::{JsonArray, JsonObject};
use talktrack_core::message::{Kind, Message, Role, TurnMetrics};
use talktrack_core::stored::Stored;
use uuid::Uuid;

use crate::setup::Setup;
use crate::trial::Trial;

const SESSION: SessionId = SessionId::from_u128(0xa2);
const OTHER_SESSION: SessionId = SessionId::from_u128(0xa3);
const USER: UserId = UserId::from_u128(0xb2);
const ID: MessageId = MessageId::from_u128(0xc2);

async fn two_sessions(setup: Setup) -> Trial {
    let trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    trial.start(NewSession::new(OTHER_SESSION, USER)).await;
    trial
}

fn with_id(content: &str) -> Message {
    Message::new(SESSION, Role::User, content).with_id(ID)
}

fn object(text: &str) -> JsonObject {
    JsonObject::parse(text).expect("an object")
}

pub async fn ids_are_given_or_derived_or_minted(setup: Setup) {
    let mut trial = two_sessions(setup).await;
    trial.wait(Duration::from_millis(1_234));
    let named = |session| Message::new(session, Role::User, "named").with_external_id("call-7/turn-1");
    let both = with_id("both").with_id(MessageId::from_u128(0xc3)).with_external_id("both");
    let minted = || Message::new(SESSION, Role::User, "minted");
    let messages = vec![with_id("given"), named(SESSION), named(OTHER_SESSION), both, minted(), minted()];
    let outcomes = trial.track_all(messages).await;
    trial.settled().await;

    let ids: Vec<_> = outcomes.into_iter().map(|outcome| outcome.expect("durable")).collect();
    assert_eq!(ids[0], ID);
    assert_eq!(ids[1], Uuid::new_v5(&SESSION.as_uuid(), b"call-7/turn-1").into());
    assert_eq!(ids[2], Uuid::new_v5(&OTHER_SESSION.as_uuid(), b"call-7/turn-1").into());
    assert_eq!(ids[3], MessageId::from_u128(0xc3), "the id that is given wins over the one derived");
    assert_ne!(ids[4], ids[5]);
    for id in &ids[4..] {
        assert_eq!(id.as_uuid().get_version_num(), 7, "a minted id is a UUIDv7: {id}");
        let millis = i64::try_from(id.as_uuid().as_u128() >> 80).expect("48 bits");
        assert_eq!(millis, trial.now().as_micros() / 1_000, "a minted id tells its millisecond: {id}");
    }
    let rows = trial.transcript(SESSION).await;
    let stored: Vec<_> = rows.iter().map(|row| (row.id, row.external_id.as_deref())).collect();
    let name = Some("call-7/turn-1");
    assert_eq!(
        stored,
        [(ids[0], None), (ids[1], name), (ids[3], Some("both")), (ids[4], None), (ids[5], None)]
    );
}

/// A message with more content than its text.
fn rich() -> Message {
    with_id("the same")
        .with_metadata(object(r#"{"a":1}"#))
        .with_parts(JsonArray::parse("[1]").expect("an array"))
        .with_metrics(TurnMetrics::try_from(object(r#"{"stt_ms":1}"#)).expect("metrics"))
        .with_audio_url("https://example.org/1")
        .with_content_generated("generated")
}

pub async fn the_same_message_again_changes_nothing(setup: Setup) {
    let mut trial = two_sessions(setup).await;
    // In the same batch as the first, before the first is stored, and after.
    let outcomes = trial.track_all(vec![rich(), rich(), rich()]).await;
    assert_eq!(outcomes, [Ok(ID), Ok(ID), Ok(ID)], "a repetition is acknowledged");
    trial.settled().await;
    let before = trial.transcript(SESSION).await;
    assert_eq!(before.len(), 1);
    trial.wait(Duration::from_secs(5));
    assert_eq!(trial.track(rich()).await, Ok(ID));
    let said_later = rich().with_created_at(trial.now());
    assert_eq!(trial.track(said_later).await, Ok(ID), "a retry may tell a later moment");
    let books = trial.settled().await;

    assert_eq!(books.dead_lettered, 0, "a repetition is no dead letter");
    assert_eq!(trial.transcript(SESSION).await, before, "the row, place included, is as it was");
    let session = trial.session(SESSION).await;
    assert_eq!(session.message_count, 1);
    assert_eq!(session.last_event_at, Some(before[0].created_at.clone()), "a repetition is no event");
}

pub async fn the_same_message_again_after_a_restart_changes_nothing(setup: Setup) {
    let mut trial = two_sessions(setup).await;
    trial.track(rich()).await.expect("durable");
    trial.settled().await;
    let before = trial.transcript(SESSION).await;
    let mut trial = trial.restart().await;
    trial.start(NewSession::new(SESSION, USER)).await;
    assert_eq!(trial.track(rich()).await, Ok(ID));
    let books = trial.settled().await;
    assert_eq!(books.dead_lettered, 0);
    assert_eq!(trial.transcript(SESSION).await, before);
    assert_eq!(trial.session(SESSION).await.message_count, 1);
}

/// Variants of the original that each differ from it in one field.
fn told_otherwise() -> [(&'static str, Message); 11] {
    let metrics = TurnMetrics::try_from(object(r#"{"stt_ms":2}"#)).expect("metrics");
    [
        ("content", rich().with_content("not the same")),
        ("role", rich().with_role(Role::Assistant)),
        ("kind", rich().with_kind(Kind::Event)),
        ("interrupted", rich().with_interrupted(true)),
        ("audio_url", {
            let mut other = rich();
            other.audio_url = None;
            other
        }),
        ("content_generated", rich().with_content_generated("other")),
        ("metadata", rich().with_metadata(object(r#"{"a":2}"#))),
        ("metadata left out", rich().with_metadata(None)),
        ("parts", rich().with_parts(JsonArray::parse("[2]").expect("an array"))),
        ("metrics", rich().with_metrics(metrics)),
        ("session_id", rich().with_session_id(OTHER_SESSION)),
    ]
}

/// Tracks a message that must not be accepted. Returns 0 if it is refused at once, or 1 if it becomes a
/// dead letter later.
async fn must_not_take(trial: &mut Trial, message: Message, what: &str) -> u64 {
    match trial.track(message).await {
        Err(NotDurable::IdConflict) => 0,
        Ok(_) => 1,
        Err(why) => panic!("another {what} under a taken id was refused with the wrong reason: {why}"),
    }
}

pub async fn other_content_under_a_taken_id_leaves_the_original(setup: Setup) {
    let mut trial = two_sessions(setup).await;
    trial.track(rich()).await.expect("durable");
    trial.settled().await;
    let before = trial.transcript(SESSION).await;
    let mut laid_aside = 0;
    for (what, message) in told_otherwise() {
        laid_aside += must_not_take(&mut trial, message, what).await;
        let books = trial.settled().await;
        assert_eq!(books.dead_lettered, laid_aside, "another {what}: neither refused nor laid aside");
        assert_eq!(trial.transcript(SESSION).await, before, "another {what}: the original was touched");
    }
    assert_eq!(trial.transcript(OTHER_SESSION).await, [], "the other session got nothing");
    assert_eq!(trial.session(SESSION).await.message_count, 1);
    assert_eq!(trial.session(OTHER_SESSION).await.message_count, 0);
    assert_eq!(trial.audit().await.messages, 1, "rows");
}

pub async fn a_higher_revision_replaces_and_keeps_its_place(setup: Setup) {
    let mut trial = two_sessions(setup).await;
    let first = with_id("first draft").with_id(None).with_external_id("turn-1");
    let id = trial.track(first).await.expect("durable");
    trial.wait(Duration::from_secs(1));
    trial.say(SESSION, Role::Assistant, "the answer").await;
    trial.settled().await;
    let before = trial.transcript(SESSION).await;
    trial.wait(Duration::from_secs(1));
    let revised = rich()
        .with_id(id)
        .with_revision(1)
        .with_interrupted(true)
        .with_kind(Kind::Event)
        .with_role(Role::Assistant)
        .with_content("second draft")
        .with_created_at(trial.now());
    assert_eq!(trial.track(revised.clone()).await, Ok(id));
    assert_eq!(trial.track(revised.clone()).await, Ok(id), "a revision may be repeated");
    trial.settled().await;

    let after = trial.transcript(SESSION).await;
    let expected = MessageRow {
        role: Role::Assistant.into(),
        content: revised.content,
        audio_url: revised.audio_url,
        metadata: revised.metadata.map(Stored::Known),
        kind: Kind::Event.into(),
        revision: 1,
        interrupted: true,
        content_generated: revised.content_generated,
        parts: revised.parts.map(Stored::Known),
        metrics: revised.metrics.map(|metrics| metrics.as_json().clone().into()),
        ..before[0].clone()
    };
    assert_eq!(after, [expected, before[1].clone()], "the revision, in the place of the first draft");
    assert_eq!(trial.session(SESSION).await.message_count, 2);
    assert_eq!(trial.audit().await.messages, 2, "rows");
}

pub async fn a_revision_to_a_system_message_has_no_user_and_back(setup: Setup) {
    let mut trial = two_sessions(setup).await;
    for (revision, role, user) in
        [(0, Role::User, Some(USER)), (1, Role::System, None), (2, Role::Tool, Some(USER))]
    {
        trial.track(with_id("of many roles").with_revision(revision).with_role(role)).await.expect("durable");
        trial.settled().await;
        let rows = trial.transcript(SESSION).await;
        let found: Vec<_> = rows.iter().map(|row| (row.role.clone(), row.user_id.clone())).collect();
        assert_eq!(found, [(role.into(), user)], "revision {revision}");
    }
}

pub async fn a_lower_revision_that_comes_later_is_ignored(setup: Setup) {
    let mut trial = two_sessions(setup).await;
    let draft = |revision, content| with_id(content).with_revision(revision);
    trial.track(draft(2, "third draft")).await.expect("durable");
    trial.settled().await;
    // Both in one batch, then one after it.
    let outcomes = trial.track_all(vec![draft(0, "first draft"), draft(1, "second draft")]).await;
    assert_eq!(outcomes, [Ok(ID), Ok(ID)], "a revision that comes late is acknowledged");
    trial.settled().await;
    assert_eq!(trial.contents(SESSION).await, ["third draft"]);
    trial.track(draft(7, "eighth draft")).await.expect("durable");
    trial.track(draft(3, "fourth draft")).await.expect("durable");
    trial.settled().await;
    assert_eq!(trial.contents(SESSION).await, ["eighth draft"]);

    let laid_aside = must_not_take(&mut trial, draft(7, "another eighth draft"), "revision 7").await;
    let books = trial.settled().await;
    assert_eq!(books.dead_lettered, laid_aside);
    let rows = trial.transcript(SESSION).await;
    let found: Vec<_> = rows.iter().map(|row| (row.content.as_str(), row.revision)).collect();
    assert_eq!(found, [("eighth draft", 7)]);
    assert_eq!(trial.session(SESSION).await.message_count, 1);
}

/// The first draft was delayed, but it was said first, so its place in the transcript is the time at which
/// it was said.
pub async fn a_revision_that_overtook_the_first_draft_goes_to_its_place(setup: Setup) {
    let mut trial = two_sessions(setup).await;
    let said_at = trial.now();
    let draft = |revision, created_at| with_id("draft").with_revision(revision).with_created_at(created_at);
    trial.wait(Duration::from_secs(1));
    trial.say(SESSION, Role::Assistant, "the answer").await;
    trial.wait(Duration::from_secs(1));
    let revised_at = trial.now();
    trial.track(draft(1, revised_at).with_content("second draft")).await.expect("durable");
    trial.settled().await;
    assert_eq!(trial.contents(SESSION).await, ["the answer", "second draft"]);
    trial.track(draft(0, said_at)).await.expect("durable");
    trial.settled().await;
    assert_eq!(trial.contents(SESSION).await, ["second draft", "the answer"]);
    let row = trial.transcript(SESSION).await.remove(0);
    assert_eq!((row.created_at, row.revision), (said_at.into(), 1));
    assert_eq!(trial.session(SESSION).await.message_count, 2);
}

pub async fn a_revision_of_a_message_in_another_session_changes_nothing(setup: Setup) {
    let mut trial = two_sessions(setup).await;
    trial.track(with_id("the original")).await.expect("durable");
    trial.settled().await;
    let before = trial.transcript(SESSION).await;
    let stolen = with_id("stolen").with_session_id(OTHER_SESSION).with_revision(1);
    let laid_aside = must_not_take(&mut trial, stolen, "session").await;
    let books = trial.settled().await;
    assert_eq!(books.dead_lettered, laid_aside);
    assert_eq!(trial.transcript(SESSION).await, before);
    assert_eq!(trial.transcript(OTHER_SESSION).await, []);
}
