//! Changes of a session that exists: its metadata and its dimensions.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use serde_json::json;
use talktrack::{NewSession, SessionChanges};
use talktrack_core::dimensions::{Dimensions, Tags};
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::json::JsonObject;
use talktrack_core::stored::Stored;

use crate::setup::Setup;
use crate::trial::Trial;

const SESSION: SessionId = SessionId::from_u128(0xa6);
const USER: UserId = UserId::from_u128(0xb6);

fn new() -> NewSession {
    NewSession::new(SESSION, USER)
}

fn object(text: &str) -> JsonObject {
    JsonObject::parse(text).expect("an object")
}

pub async fn a_null_in_an_update_removes_a_key(setup: Setup) {
    let trial = Trial::open(setup);
    trial.start(new().with_metadata(object(r#"{"a":1,"b":{"c":null},"d":null}"#))).await;
    // The last two updates may be written together.
    for text in [r#"{"a":null,"x":1}"#, r#"{"x":null,"y":null}"#, r#"{"y":2}"#] {
        drop(trial.tracker().update_session(SESSION, object(text)).expect("accepted"));
    }
    trial.settled().await;
    let found =
        trial.session(SESSION).await.metadata.and_then(Stored::into_known).map(|json| json.to_value());
    assert_eq!(found, json!({"b": {"c": null}, "d": null, "y": 2}).as_object().cloned());
}

pub async fn dimensions_are_set_by_a_start_and_changed_by_updates(setup: Setup) {
    let trial = Trial::open(setup);
    let parent = SessionId::from_u128(0xa5);
    let begun = Dimensions::new()
        .with_agent("front desk, \u{e9}".to_owned())
        .with_channel("phone".to_owned())
        .with_parent_session_id(parent)
        .with_tags(Tags::from_iter(["vip", "two words", "\"quoted\""]));
    trial.start(new().with_dimensions(begun.clone())).await;
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await.dimensions, begun);
    let changes = [
        Dimensions::new().with_agent("billing".to_owned()).with_agent_version("2.1".to_owned()),
        Dimensions::new().with_environment("staging".to_owned()).with_tags(Tags::default()),
    ];
    for change in changes {
        let changes = SessionChanges::new().with_dimensions(change);
        drop(trial.tracker().update_session(SESSION, changes).expect("accepted"));
    }
    trial.settled().await;
    let changed = begun
        .with_agent("billing".to_owned())
        .with_agent_version("2.1".to_owned())
        .with_environment("staging".to_owned())
        .with_tags(Tags::default());
    let row = trial.session(SESSION).await;
    assert_eq!(row.dimensions, changed);
    assert_eq!(row.metadata, Some(object("{}").into()), "the metadata stay");
    let more = Dimensions::new().with_agent("third".to_owned());
    trial.start(new().with_resume(false).with_dimensions(more.clone())).await;
    trial.settled().await;
    assert_eq!(
        trial.session(SESSION).await.dimensions,
        changed,
        "a start that does not resume only fills in"
    );
    trial.start(new().with_dimensions(more)).await;
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await.dimensions, changed.with_agent("third".to_owned()));
}

pub async fn dimensions_beyond_the_limits_are_refused(setup: Setup) {
    let trial = Trial::open(setup);
    trial.start(new()).await;
    let long = Dimensions::new().with_agent("x".repeat(257));
    let refused = trial.tracker().start_session(new().with_dimensions(long.clone())).expect_err("too long");
    assert_eq!(refused.reason.to_string(), "agent: must be at most 256 bytes");
    let changes = SessionChanges::new().with_dimensions(long);
    let refused = trial.tracker().update_session(SESSION, changes).expect_err("too long");
    assert_eq!(refused.reason.to_string(), "agent: must be at most 256 bytes");
}
