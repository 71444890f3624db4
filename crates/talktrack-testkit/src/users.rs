//! Users whose id is not a UUID. Such a user and the user whose UUID the text becomes are two people.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use std::time::{Duration, Instant};

use talktrack::NewSession;
use talktrack::store::{SessionFilter, Viewer};
use talktrack_core::error::NotDurable;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::json::JsonObject;
use talktrack_core::message::{Message, Role};
use talktrack_core::search::SearchFilter;
use talktrack_core::stats::TimeRange;

use crate::setup::{PATIENCE, Setup};
use crate::trial::{Trial, within};

const TEXTS: SessionId = SessionId::from_u128(0xae);
const TWINS: SessionId = SessionId::from_u128(0xaf);

/// A user whose text has all that databases and JSON escape, and the user whose UUID that text becomes.
fn users() -> [UserId; 2] {
    let text: UserId = "auth0|\"Ann\\O'Neil\" +49,é;%".parse().expect("a user");
    let twin = UserId::new(text.as_uuid());
    [text, twin]
}

/// One session of each of the two, with a message of the user and one of the system, all stored.
async fn two_sessions(setup: Setup) -> Trial {
    let mut trial = Trial::open(setup);
    for (session, user) in [TEXTS, TWINS].into_iter().zip(users()) {
        trial.start(NewSession::named("call 7", user).with_session_id(session)).await;
        trial.say(session, Role::User, "hello").await;
        trial.say(session, Role::System, "be kind").await;
    }
    trial.settled().await;
    trial
}

pub async fn a_users_own_text_is_shown_wherever_the_user_is(setup: Setup) {
    let trial = two_sessions(setup).await;
    for (session, user) in [TEXTS, TWINS].into_iter().zip(users()) {
        assert_eq!(trial.session(session).await.user_id, Some(user.clone()));
        let users: Vec<_> = trial.transcript(session).await.into_iter().map(|row| row.user_id).collect();
        assert_eq!(users, [Some(user), None]);
    }
    let trial = trial.restart().await;
    assert_eq!(trial.session(TEXTS).await.user_id, Some(users()[0].clone()));
}

pub async fn no_list_takes_a_text_for_the_uuid_that_it_becomes(setup: Setup) {
    let trial = two_sessions(setup).await;
    let reader = trial.tracker().reader();
    let at = trial.now().plus(Duration::from_secs(60));
    let range = TimeRange::new(None, Some(at), None, at).expect("a range");
    for (session, user) in [TEXTS, TWINS].into_iter().zip(users()) {
        let ids = |rows: Vec<talktrack::store::SessionRow>| -> Vec<_> {
            rows.into_iter().map(|row| row.session_id).collect()
        };
        let filter = SessionFilter::default().with_user_id(user.clone());
        assert_eq!(ids(trial.sessions(filter.clone()).await), [session]);
        assert_eq!(ids(trial.sessions(filter.with_external_id("call 7".to_owned())).await), [session]);
        let named = reader.session_by_external_id(&user, "call 7").await.expect("readable");
        assert_eq!(named.map(|row| row.session_id), Some(session));
        assert_eq!(reader.sessions_of_user_at(&user, at).await.expect("readable"), [session]);
        assert_eq!(reader.user_stats(&user, &range).await.expect("counted").total().sessions.begun, 1);
        let own = reader.as_user(Viewer::new(user, JsonObject::default()));
        let seen = own.sessions(SessionFilter::default(), None, 10).await.expect("readable");
        assert_eq!(ids(seen.rows), [session]);
        for other in [TEXTS, TWINS] {
            let row = own.session(other).await.expect("readable");
            let said = own.messages(other, None, 10).await.expect("readable");
            assert_eq!((row.is_some(), said.len()), (other == session, if other == session { 2 } else { 0 }));
        }
    }
}

pub async fn no_search_takes_a_text_for_the_uuid_that_it_becomes(setup: Setup) {
    let trial = two_sessions(setup).await;
    let reader = trial.tracker().reader();
    for (session, user) in [TEXTS, TWINS].into_iter().zip(users()) {
        let wanted = SearchFilter::new("hello".parse().expect("a query"));
        let of_user = wanted.clone().with_user_id(user.clone());
        let own = reader.as_user(Viewer::new(user.clone(), JsonObject::default()));
        let matching = SessionFilter::default().with_matching(wanted.query.clone());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = reader.search(of_user.clone(), None, 10).await.map(|page| page.rows);
            let seen = own.search(wanted.clone(), None, 10).await.map(|page| page.rows);
            let listed = own.sessions(matching.clone(), None, 10).await.map(|page| page.rows);
            let indexed = [&found, &seen].iter().all(|hits| hits.as_ref().is_ok_and(|hits| !hits.is_empty()));
            if let (true, Ok(found), Ok(seen), Ok(listed)) = (indexed, &found, &seen, &listed) {
                let hits: Vec<_> = found.iter().chain(seen).collect();
                assert!(hits.iter().all(|hit| hit.session_id == session && hit.user_id == user), "{hits:?}");
                assert_eq!((hits.len(), listed.len(), listed[0].session_id), (2, 1, session));
                break;
            }
            assert!(Instant::now() < deadline, "{found:?} {seen:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub async fn no_record_of_a_text_changes_a_session_of_the_uuid_that_it_becomes(setup: Setup) {
    let trial = two_sessions(setup).await;
    let trial = trial.restart().await;
    trial.settled().await;
    for (session, other) in [TEXTS, TWINS].into_iter().zip(users().into_iter().rev()) {
        let before = trial.session(session).await;
        let claimed = talktrack::SessionRef::for_user(session, other.clone());
        let metadata = JsonObject::parse(r#"{"stolen":true}"#).expect("an object");
        let start = trial.tracker().start_session(NewSession::new(session, other.clone()));
        let update = trial.tracker().update_session(claimed.clone(), metadata).expect("accepted");
        let end = trial.tracker().end_session(claimed, "stolen").expect("accepted");
        let deletion = trial.tracker().delete_session(session, Some(other)).expect("accepted");
        // Refused at once, or when the store answers.
        let _ = (start.expect("accepted").durable().await, update.durable().await, end.durable().await);
        let removed = within("the deletion", deletion.here.durable()).await;
        assert!(matches!(removed, Err(NotDurable::OtherUser) | Ok(_)), "{removed:?}");
        trial.settled().await;
        assert_eq!(trial.session(session).await, before);
        assert_eq!(trial.contents(session).await, ["hello", "be kind"]);
    }
}

pub async fn deleting_a_text_refuses_nothing_of_the_uuid_that_it_becomes(setup: Setup) {
    let mut trial = Trial::open(setup);
    let [text, twin] = users();
    trial.start(NewSession::new(TEXTS, text.clone())).await;
    let deletion = trial.tracker().delete_user(text).expect("accepted");
    within("the deletion", deletion.here.durable()).await.expect("durable");
    // The session began before the deletion, and its start reaches the store after it.
    trial
        .start(NewSession::new(TWINS, twin).with_started_at(trial.now().minus(Duration::from_secs(60))))
        .await;
    trial.track(Message::new(TWINS, Role::User, "hello")).await.expect("durable");
    trial.settled().await;
    assert_eq!(trial.contents(TWINS).await, ["hello"]);
}
