//! Whose a session is, and that it stays theirs.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use uuid::Uuid;

use crate::json::JsonObject;
use crate::message::{Message, Role};
use crate::store::{SessionFilter, SessionRow, Viewer};
use crate::testing::{Setup, Trial};
use crate::tracker::NewSession;

const SESSION: Uuid = Uuid::from_u128(0xa5);
const USER: Uuid = Uuid::from_u128(0xb4);
const OTHER_USER: Uuid = Uuid::from_u128(0xb5);

fn mine() -> NewSession {
    NewSession::new(SESSION, USER)
}

/// The same session, claimed by somebody else.
fn stolen() -> NewSession {
    let metadata = JsonObject::parse(r#"{"stolen":true}"#).expect("an object");
    NewSession { metadata: Some(metadata), ..NewSession::new(SESSION, OTHER_USER) }
}

/// An ended session of `USER` in the store, which a new process knows nothing of.
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
    let refused = trial.tracker().start_session(stolen()).expect_err("the session is known to be another's");
    assert_eq!((refused.reason.code(), refused.returned), ("unauthorized", stolen()));
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await, before);
    trial.say(SESSION, Role::User, "still mine").await;
    assert_eq!(trial.settled().await.dead_lettered, 0);
    assert_eq!(trial.contents(SESSION).await, ["mine", "still mine"]);
}

pub async fn another_users_start_leaves_the_stored_session_as_it_is(setup: Setup) {
    let mut trial = forgotten_by_memory(setup).await;
    trial.settled().await;
    let before = trial.session(SESSION).await;
    // Only the store can tell: it refuses the start at once, or on the way.
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
    // Abandoned by this: an end that somebody tells would replace that one.
    let trial = trial.reopen();
    trial.settled().await;
    let before = trial.session(SESSION).await;
    let start = trial.tracker().start_session(stolen()).expect("this process does not know the session");
    let metadata = JsonObject::parse(r#"{"stolen":"twice"}"#).expect("an object");
    let update = trial.tracker().update_session(SESSION, metadata).expect("accepted");
    let end = trial.tracker().end_session(SESSION, "stolen").expect("accepted");
    // Refused at once, or on the way.
    let _ = (start.durable().await, update.durable().await, end.durable().await);
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await, before);
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
    assert_eq!((row.user_id, row.message_count, row.end_reason.as_deref()), (USER, 2, Some("completed")));
}

pub async fn a_user_who_looks_sees_own_sessions_and_every_message_in_them(setup: Setup) {
    const THEIRS: Uuid = Uuid::from_u128(0xa6);
    let mut trial = Trial::open(setup);
    trial.start(mine()).await;
    trial.start(NewSession::new(THEIRS, OTHER_USER)).await;
    trial.say(SESSION, Role::System, "be kind").await;
    trial.say(SESSION, Role::User, "mine").await;
    trial.say(THEIRS, Role::User, "theirs").await;
    trial.settled().await;
    let claims = JsonObject::parse(r#"{"role":"service_role","sub":"someone else"}"#).expect("an object");
    let mine = trial.tracker().reader().seen_by(Viewer { user_id: USER, claims });

    let ids = |rows: Vec<SessionRow>| rows.into_iter().map(|row| row.session_id).collect::<Vec<_>>();
    assert_eq!(ids(mine.sessions(SessionFilter::default(), None, 10).await.expect("rows")), [SESSION]);
    let of_theirs = SessionFilter { user_id: Some(OTHER_USER), ..SessionFilter::default() };
    assert_eq!(mine.sessions(of_theirs, None, 10).await.expect("rows"), []);
    assert_eq!(mine.session(THEIRS).await.expect("an answer"), None);
    assert_eq!(mine.session(SESSION).await.expect("an answer"), Some(trial.session(SESSION).await));
    assert_eq!(ids(mine.sessions_by_prefix("00000000", 10).await.expect("rows")), [SESSION]);
    assert_eq!(mine.messages(THEIRS, None, 10).await.expect("rows"), []);
    assert_eq!(mine.messages(SESSION, None, 10).await.expect("rows"), trial.transcript(SESSION).await);
}
