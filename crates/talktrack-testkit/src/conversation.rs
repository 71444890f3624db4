//! Messages are read back exactly as they were said.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use std::time::Duration;

use talktrack::NewSession;
use talktrack::store::MessageRow;
use talktrack_core::clock::Timestamp;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::json::{JsonArray, JsonObject};
use talktrack_core::message::{Kind, Message, MessageStatus, Role, TurnMetrics};
use talktrack_core::stored::Stored;

use crate::setup::Setup;
use crate::trial::Trial;

const SESSION: SessionId = SessionId::from_u128(0xa1);
const USER: UserId = UserId::from_u128(0xb1);

/// Texts that software between the caller and a database is known to change.
const TEXTS: [&str; 24] = [
    "Hello",
    " spaces around ",
    "tab\tline\nreturn\rboth\r\nend\n",
    "\n",
    "it's \"quoted\" `thus` \u{201c}so\u{201d}",
    "'); DROP TABLE conversation_messages; --",
    "back\\slash \\n \\u0000 \\x00 \\",
    "{\"type\":\"message\",\"content\":null}",
    "null",
    "NULL",
    "0",
    "\u{1F44B}\u{1F3FD} \u{1F469}\u{200D}\u{1F680} \u{1F1E9}\u{1F1EA}",
    "e\u{301} is not \u{e9}, A\u{30a} is not \u{c5}",
    "Zal\u{321}\u{337}\u{35f}go",
    "\u{645}\u{631}\u{62d}\u{628}\u{627} \u{202b}rtl\u{202c}",
    "\u{4f60}\u{597d}\u{ff0c}\u{4e16}\u{754c}",
    "\u{feff}a mark in front",
    "\u{2028}\u{2029}\u{85}",
    "\u{fffd} \u{ffff} \u{10ffff}",
    "\u{1}\u{2}\u{7f}\u{1b}[31m",
    "%s %d {} {0} $1 ?1 :name @p",
    "C:\\temp\\new",
    "trailing backslash \\",
    "\u{a0}\u{200b}",
];

pub async fn a_conversation_comes_back_byte_for_byte_in_order(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    let mut said: Vec<String> = TEXTS.map(String::from).into();
    said.push("100 KB of \u{e4}\u{1F4A1}\u{1F50A}\" ".repeat(6_000));
    let speaker = |index| if index % 2 == 0 { Role::User } else { Role::Assistant };
    let messages = said.iter().enumerate();
    let messages = messages.map(|(index, text)| Message::new(SESSION, speaker(index), text)).collect();
    let outcomes = trial.track_all(messages).await;
    trial.settled().await;

    let rows = trial.transcript(SESSION).await;
    assert_eq!(rows.len(), said.len(), "messages that came back, and messages said");
    for (index, (row, text)) in rows.iter().zip(&said).enumerate() {
        assert!(
            row.content == *text,
            "message {index} was {text:.200?} and came back as {:.200?}",
            row.content
        );
        assert_eq!(row.role, speaker(index), "role of message {index}");
        assert_eq!(outcomes[index], Ok(row.id), "id of message {index}");
        assert_eq!(row.session_id, SESSION, "session of message {index}");
    }
    assert!(rows.windows(2).all(|pair| pair[0].seq < pair[1].seq), "each seq is above the one before it");
}

/// A message with every field set.
fn complete(kind: Kind, said: Timestamp) -> Message {
    Message::new(SESSION, Role::Tool, format!("a {kind}"))
        .with_created_at(said)
        .with_external_id(format!("own id of a {kind}, \u{e9}\u{1F511}"))
        .with_name("Front desk \u{1F511}")
        .with_kind(kind)
        .with_revision(3)
        .with_interrupted(true)
        .with_audio_url("https://example.org/a.ogg?x=1&y=%20")
        .with_metadata(object(r#"{"b":[1,2.5,-3e2,true,null,"\u00e9\n"],"a":{"deep":{"er":""}},"":0}"#))
        .with_content_generated("all of it, \"quoted\"\n")
        .with_parts(
            JsonArray::parse(r#"[{"type":"text","content":"x"},{"type":"tool_call","id":null}]"#)
                .expect("an array"),
        )
        .with_metrics(metrics(
            r#"{"stt_ms":120.5,"input_tokens":7,"model":"m","confidence":0.93,"own":"kept"}"#,
        ))
}

fn object(text: &str) -> JsonObject {
    JsonObject::parse(text).expect("an object")
}

fn metrics(text: &str) -> TurnMetrics {
    TurnMetrics::try_from(object(text)).expect("metrics")
}

pub async fn every_optional_field_comes_back(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    let said = trial.now().plus(Duration::from_micros(123_456));
    let kinds = [Kind::Message, Kind::ToolCall, Kind::ToolResult, Kind::Event, Kind::Handoff];
    let messages: Vec<_> = kinds.map(|kind| complete(kind, said)).into();
    let outcomes = trial.track_all(messages.clone()).await;
    trial.settled().await;

    let rows = trial.transcript(SESSION).await;
    assert_eq!(rows.len(), messages.len(), "messages that came back, and messages said");
    for ((row, message), outcome) in rows.iter().zip(&messages).zip(outcomes) {
        assert_eq!(Ok(row.id), outcome);
        assert_eq!(row.user_id, Some(USER));
        assert_row_is(row, message);
    }
}

/// Compares JSON by its meaning, because a store may spell it differently.
fn assert_row_is(row: &MessageRow, message: &Message) {
    let Message { session_id, role, content, external_id, created_at, kind, .. } = message;
    assert_eq!((&row.session_id, &row.content), (session_id, content));
    assert_eq!((row.role.known(), row.kind.known()), (Some(role), Some(kind)));
    assert_eq!(&row.external_id, external_id, "external_id");
    assert_eq!(row.created_at.known(), *created_at, "created_at");
    assert_eq!(
        (row.revision, row.interrupted),
        (message.revision.into(), message.interrupted),
        "revision, interrupted"
    );
    assert_eq!(row.name, message.name, "name");
    assert_eq!(row.audio_url, message.audio_url, "audio_url");
    assert_eq!(row.content_generated, message.content_generated, "content_generated");
    assert_eq!(row.metadata, message.metadata.clone().map(Stored::Known), "metadata");
    assert_eq!(row.parts, message.parts.clone().map(Stored::Known), "parts");
    let said = message.metrics.as_ref().map(|metrics| metrics.as_json().clone().into());
    assert_eq!(row.metrics, said, "metrics");
}

pub async fn what_was_left_out_is_null_or_its_default(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    trial.wait(Duration::from_secs(3));
    let id = trial.say(SESSION, Role::User, "only words").await;
    trial.settled().await;
    let rows = trial.transcript(SESSION).await;
    let seq = rows.first().and_then(|row| row.seq);
    assert!(seq.is_some_and(|seq| seq >= trial.now().into()), "seq is the moment of acceptance: {seq:?}");
    let expected = MessageRow {
        id,
        session_id: SESSION,
        user_id: Some(USER),
        role: Role::User.into(),
        content: "only words".into(),
        audio_url: None,
        metadata: None,
        created_at: trial.now().into(),
        seq,
        external_id: None,
        name: None,
        kind: Kind::Message.into(),
        status: MessageStatus::Final.into(),
        revision: 0,
        interrupted: false,
        content_generated: None,
        parts: None,
        metrics: None,
        extra: None,
    };
    assert_eq!(rows, [expected]);
}

pub async fn system_messages_have_no_user_and_all_others_have_the_sessions(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    for role in [Role::User, Role::Assistant, Role::System, Role::Developer, Role::Tool] {
        trial.say(SESSION, role, role.as_str()).await;
    }
    trial.settled().await;
    let rows = trial.transcript(SESSION).await;
    let users: Vec<_> = rows.iter().map(|row| (row.role.clone(), row.user_id.clone())).collect();
    let expected = [
        (Role::User, Some(USER)),
        (Role::Assistant, Some(USER)),
        (Role::System, None),
        (Role::Developer, Some(USER)),
        (Role::Tool, Some(USER)),
    ];
    assert_eq!(users, expected.map(|(role, user)| (role.into(), user)));
}

pub async fn order_is_when_it_was_said_then_when_it_was_accepted(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    let begin = trial.now();
    // The texts and the seconds after the beginning at which they were said, in the order of acceptance.
    let accepted =
        [("d1", 30), ("b1", 10), ("d2", 30), ("a", 0), ("c", 20), ("b2", 10), ("b3", 10), ("e", 31)];
    let said = |&(text, seconds): &(&str, u64)| {
        Message::new(SESSION, Role::User, text).with_created_at(begin.plus(Duration::from_secs(seconds)))
    };
    // One half in one batch, the other half one by one.
    let (together, alone) = accepted.split_at(4);
    trial.track_all(together.iter().map(said).collect()).await;
    for message in alone {
        trial.track(said(message)).await.expect("the message becomes durable");
    }
    // The clock stepped back: the moment of acceptance is before messages that were already said.
    trial.clock().set(begin.plus(Duration::from_secs(15)));
    trial.say(SESSION, Role::User, "b4").await;
    trial.settled().await;
    assert_eq!(trial.contents(SESSION).await, ["a", "b1", "b2", "b3", "b4", "c", "d1", "d2", "e"]);
}

pub async fn sessions_under_way_at_the_same_time_do_not_mix(setup: Setup) {
    let mut trial = Trial::open(setup);
    let sessions: Vec<_> =
        (0..7).map(|n| (SessionId::from_u128(0x100 + n), UserId::from_u128(0x200 + n))).collect();
    for &(session, ref user) in &sessions {
        trial.start(NewSession::new(session, user.clone())).await;
    }
    let text = |session: usize, turn: usize| format!("turn {turn} of session {session}");
    let mut messages = Vec::new();
    for turn in 0..40 {
        for (index, &(session, _)) in sessions.iter().enumerate() {
            messages.push(Message::new(session, Role::User, text(index, turn)));
        }
    }
    trial.track_all(messages).await;
    trial.settled().await;
    for (index, &(session, ref user)) in sessions.iter().enumerate() {
        let rows = trial.transcript(session).await;
        let said: Vec<_> = rows.iter().map(|row| row.content.clone()).collect();
        assert_eq!(said, (0..40).map(|turn| text(index, turn)).collect::<Vec<_>>());
        assert!(
            rows.iter().all(|row| row.user_id.as_ref() == Some(user)),
            "a message of session {index} has another's user"
        );
        assert_eq!(trial.session(session).await.message_count, 40);
    }
}
