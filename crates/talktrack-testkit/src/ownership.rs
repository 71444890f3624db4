//! The ownership of sessions: a session stays with the user who started it.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use std::time::Duration;

use talktrack::store::{MessageRow, SessionFilter, SessionRow, Viewer};
use talktrack::{ClaimRefusal, NewSession};
use talktrack_core::error::NotDurable;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::json::JsonObject;
use talktrack_core::message::{Author, GivenId, Message, Role, user_message_id};
use talktrack_core::stored::Stored;

use crate::setup::Setup;
use crate::trial::Trial;
use crate::trial::within;

const SESSION: SessionId = SessionId::from_u128(0xa5);
const USER: UserId = UserId::from_u128(0xb4);
const OTHER_USER: UserId = UserId::from_u128(0xb5);

fn mine() -> NewSession {
    NewSession::new(SESSION, USER)
}

/// The same session, claimed by another user.
fn stolen() -> NewSession {
    let metadata = JsonObject::parse(r#"{"stolen":true}"#).expect("an object");
    NewSession::new(SESSION, OTHER_USER).with_metadata(metadata)
}

/// An ended session of `USER` in the store, which the new process does not have in memory.
async fn forgotten_by_memory(setup: Setup) -> Trial {
    let mut trial = Trial::open(setup);
    trial.start(mine()).await;
    trial.say(SESSION, Role::User, "mine").await;
    trial.end(SESSION, "completed").await;
    trial.restart().await
}

pub async fn another_users_start_is_refused_while_the_session_is_in_memory(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(mine()).await;
    trial.say(SESSION, Role::User, "mine").await;
    trial.settled().await;
    let before = trial.session(SESSION).await;
    let start = trial.tracker().start_session(stolen()).expect("the store decides");
    let mut claim = start.claim(SESSION, OTHER_USER);
    let at_once = start.durable().await;
    let refused = ClaimRefusal::Start(NotDurable::OtherUser);
    assert_eq!(claim.wait_for_refusal().await, refused, "at once ({at_once:?}) or on the way");
    trial.settled().await;
    assert!(trial.tracker().is_proven(SESSION, &USER) && !trial.tracker().is_proven(SESSION, &OTHER_USER));
    trial.tracker().sweep();
    assert_eq!(trial.tracker().owner_of(SESSION), Some(USER), "a refused claim is dropped");
    trial.say(SESSION, Role::User, "still mine").await;
    trial.settled().await;
    let after = trial.session(SESSION).await;
    assert_eq!((after.user_id, &after.metadata, after.status), (Some(USER), &before.metadata, before.status));
    assert_eq!(trial.settled().await.dead_lettered, 0);
    assert_eq!(trial.contents(SESSION).await, ["mine", "still mine"]);
}

pub async fn another_users_start_leaves_the_stored_session_as_it_is(setup: Setup) {
    let mut trial = forgotten_by_memory(setup).await;
    trial.settled().await;
    let before = trial.session(SESSION).await;
    // Only the store knows the owner: the start is refused at once, or when the store answers.
    let start = trial.tracker().start_session(stolen()).expect("this process does not know the session");
    trial.track(Message::new(SESSION, Role::User, "said by another")).await.expect("kept, somewhere");
    let books = trial.settled().await;
    let refused = start.durable().await;
    assert_eq!(
        books.dead_lettered, 1,
        "what was said in a start that is refused ({refused:?}) is laid aside"
    );
    assert_eq!(trial.session(SESSION).await, before);
    assert_eq!(trial.contents(SESSION).await, ["mine"]);
}

pub async fn another_users_update_and_end_leave_the_stored_session_as_it_is(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(mine()).await;
    trial.say(SESSION, Role::User, "mine").await;
    trial.settled().await;
    // The reopen without a shutdown abandons the session. If the end below were accepted, it would replace
    // this inferred end.
    let trial = trial.reopen();
    trial.settled().await;
    let before = trial.session(SESSION).await;
    let start = trial.tracker().start_session(stolen()).expect("this process does not know the session");
    let metadata = JsonObject::parse(r#"{"stolen":"twice"}"#).expect("an object");
    let update = trial.tracker().update_session(SESSION, metadata).expect("accepted");
    let end = trial.tracker().end_session(SESSION, "stolen").expect("accepted");
    // Refused at once, or when the store answers.
    let _ = (start.durable().await, update.durable().await, end.durable().await);
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await, before);
}

pub async fn another_users_update_and_end_do_not_wait_for_a_session(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(mine()).await;
    trial.say(SESSION, Role::User, "mine").await;
    trial.settled().await;
    // Longer than the patience of this check: no record may wait for a session that does not exist yet.
    let options = trial.options().with_unknown_session_wait(Duration::from_secs(3600));
    let trial = trial.reopen_with(options);
    let start = trial.tracker().start_session(stolen()).expect("this process does not know the session");
    let metadata = JsonObject::parse(r#"{"stolen":"twice"}"#).expect("an object");
    let update = trial.tracker().update_session(SESSION, metadata).expect("accepted");
    let end = trial.tracker().end_session(SESSION, "stolen").expect("accepted");
    let _ = (start.durable().await, update.durable().await, end.durable().await);
    let stored = within("nothing waits", trial.tracker().flush_to_store()).await;
    assert_eq!(stored, Ok(()));
}

pub async fn the_rightful_user_gets_the_session_after_anothers_start(setup: Setup) {
    let mut trial = forgotten_by_memory(setup).await;
    let stolen = trial.tracker().start_session(stolen()).expect("this process does not know the session");
    let _ = stolen.durable().await;
    trial.settled().await;
    trial.start(mine()).await;
    trial.say(SESSION, Role::User, "still mine").await;
    trial.end(SESSION, "completed").await;
    let books = trial.settled().await;
    assert_eq!(books.dead_lettered, 0, "what the rightful user says is not laid aside");
    assert_eq!(trial.contents(SESSION).await, ["mine", "still mine"]);
    let row = trial.session(SESSION).await;
    assert_eq!(
        (row.user_id, row.message_count, row.end_reason.as_deref()),
        (Some(USER), 2, Some("completed"))
    );
}

pub async fn a_user_who_looks_sees_own_sessions_and_every_message_in_them(setup: Setup) {
    const THEIRS: SessionId = SessionId::from_u128(0xa6);
    let mut trial = Trial::open(setup);
    trial.start(mine()).await;
    trial.start(NewSession::new(THEIRS, OTHER_USER)).await;
    trial.say(SESSION, Role::System, "be kind").await;
    trial.say(SESSION, Role::User, "mine").await;
    trial.say(THEIRS, Role::User, "theirs").await;
    trial.settled().await;
    let claims = JsonObject::parse(r#"{"role":"service_role","sub":"someone else"}"#).expect("an object");
    let mine = trial.tracker().reader().as_user(Viewer::new(USER, claims));

    let ids = |rows: Vec<SessionRow>| rows.into_iter().map(|row| row.session_id).collect::<Vec<_>>();
    assert_eq!(ids(mine.sessions(SessionFilter::default(), None, 10).await.expect("rows").rows), [SESSION]);
    let of_theirs = SessionFilter::default().with_user_id(OTHER_USER);
    assert_eq!(mine.sessions(of_theirs, None, 10).await.expect("rows"), []);
    assert_eq!(mine.session(THEIRS).await.expect("an answer"), None);
    assert_eq!(mine.session(SESSION).await.expect("an answer"), Some(trial.session(SESSION).await));
    assert_eq!(ids(mine.sessions_by_prefix("00000000", 10).await.expect("rows")), [SESSION]);
    assert_eq!(mine.messages(THEIRS, None, 10).await.expect("rows"), []);
    assert_eq!(mine.messages(SESSION, None, 10).await.expect("rows"), trial.transcript(SESSION).await);
}

pub async fn a_users_token_revises_what_a_token_wrote_and_nothing_else(setup: Setup) {
    const GIVEN: [MessageId; 2] = [MessageId::from_u128(0xc1), MessageId::from_u128(0xc2)];
    let mut trial = Trial::open(setup);
    trial.start(mine()).await;
    let said = |id, content: &str, revision| {
        let extra = JsonObject::parse(r#"{"talktrack":{"by":"forged"}}"#).ok();
        Message::new(SESSION, Role::User, content).with_id(id).with_revision(revision).with_extra(extra)
    };
    let own = trial.track_as(said(GIVEN[0], "mine", 0), Author::User(USER)).await.expect("durable");
    assert_eq!(own, user_message_id(SESSION, &USER, GivenId::Id(GIVEN[0])));
    trial.track_as(said(GIVEN[0], "mine, better", 1), Author::User(USER)).await.expect("durable");
    // A client with an API key writes under the id that the user's next message will have.
    let taken = user_message_id(SESSION, &USER, GivenId::Id(GIVEN[1]));
    trial.track(said(taken, "the agent's", 0)).await.expect("durable");
    let refused = trial.track_as(said(GIVEN[1], "rewritten", 1), Author::User(USER)).await;
    let books = trial.settled().await;
    let at_once = refused == Err(NotDurable::NotTheirs);
    assert!(at_once || books.dead_lettered == 1, "refused at once, or on the way: {refused:?}");
    assert_eq!(trial.contents(SESSION).await, ["mine, better", "the agent's"]);
    let known = |row: MessageRow| row.extra.and_then(Stored::into_known).map(|extra| extra.to_value());
    let notes = trial.transcript(SESSION).await.into_iter().map(known);
    let by_user = serde_json::json!({"talktrack": {"by": "user"}});
    assert_eq!(notes.collect::<Vec<_>>(), [by_user.as_object().cloned(), None]);
}

pub async fn two_users_and_a_key_never_meet_under_one_message_id(setup: Setup) {
    const THEIRS: SessionId = SessionId::from_u128(0xa7);
    let mut trial = Trial::open(setup);
    trial.start(mine()).await;
    trial.start(NewSession::new(THEIRS, OTHER_USER)).await;
    let id = Some(MessageId::from_u128(0xc3));
    let said = |session, content: &str| Message::new(session, Role::User, content).with_id(id);
    trial.track_as(said(THEIRS, "used up"), Author::User(OTHER_USER)).await.expect("durable");
    trial.track_as(said(SESSION, "mine"), Author::User(USER)).await.expect("durable");
    trial.track(said(SESSION, "the agent's")).await.expect("durable");
    assert_eq!(trial.settled().await.dead_lettered, 0);
    assert_eq!(trial.contents(SESSION).await, ["mine", "the agent's"]);
    assert_eq!(trial.contents(THEIRS).await, ["used up"]);
}
