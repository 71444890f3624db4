//! U+0000, which PostgreSQL cannot store, is replaced on entry, and the message is flagged.

use talktrack::message::{NUL_REPLACED, TurnMetrics};
use talktrack::{JsonArray, JsonObject, Stored};
use talktrack_testkit::{Setup, Trial};

use crate::support::{SESSION, dir, message, new_session, value};

fn object(text: &str) -> JsonObject {
    JsonObject::parse(text).unwrap()
}

async fn trial(dir: &tempfile::TempDir) -> Trial {
    let trial = Trial::open(Setup::sqlite(dir.path()));
    trial.start(new_session()).await;
    trial
}

#[tokio::test]
async fn u0000_is_replaced_in_every_field_and_flagged_in_the_metadata() {
    let dir = dir();
    let mut trial = trial(&dir).await;
    let metrics = |text| TurnMetrics::try_from(object(text)).unwrap();
    let id = trial.track(
        message("\0nul\0\0")
            .with_external_id("own\0id")
            .with_audio_url("a\0")
            .with_content_generated("\0g")
            .with_metadata(object(r#"{"k\u0000":{"deep":["\u0000",1]}}"#))
            .with_parts(JsonArray::parse(r#"["p\u0000"]"#).unwrap())
            .with_metrics(metrics(r#"{"model":"m\u0000"}"#)),
    );
    let id = id.await.unwrap();
    let row = trial.transcript(SESSION).await.remove(0);
    assert_eq!(row.content, "\u{fffd}nul\u{fffd}\u{fffd}");
    assert_eq!(row.external_id.as_deref(), Some("own\u{fffd}id"));
    assert_eq!(id, uuid::Uuid::new_v5(&SESSION.as_uuid(), "own\u{fffd}id".as_bytes()).into());
    assert_eq!(row.audio_url.as_deref(), Some("a\u{fffd}"));
    assert_eq!(row.content_generated.as_deref(), Some("\u{fffd}g"));
    let metadata = row.metadata.unwrap().into_known().unwrap().to_value();
    assert_eq!(metadata["k\u{fffd}"]["deep"], serde_json::json!(["\u{fffd}", 1]));
    assert_eq!((&metadata[NUL_REPLACED], metadata.len()), (&true.into(), 2));
    assert_eq!(row.parts.unwrap().into_known().unwrap().to_value(), ["p\u{fffd}"]);
    assert_eq!(row.metrics.unwrap().into_known().unwrap().to_value()["model"], "m\u{fffd}");
    let anywhere = "SELECT count(*) FROM conversation_messages WHERE instr(cast(metadata || parts || metrics AS text), '\\u0000')";
    assert_eq!(value::<u64>(dir.path(), anywhere), 0);
}

#[tokio::test]
async fn u0000_in_any_one_field_is_enough_for_the_flag() {
    let dir = dir();
    let mut trial = trial(&dir).await;
    let metrics = TurnMetrics::try_from(object(r#"{"own":["\u0000"]}"#)).unwrap();
    let messages = vec![
        message("\0"),
        message("external_id").with_external_id("\0"),
        message("audio_url").with_audio_url("\0"),
        message("content_generated").with_content_generated("\0"),
        message("metadata").with_metadata(object(r#"{"a":"\u0000"}"#)),
        message("parts").with_parts(JsonArray::parse(r#"["\u0000"]"#).unwrap()),
        message("metrics").with_metrics(metrics),
    ];
    let count = messages.len();
    trial.track_all(messages).await;
    let rows = trial.transcript(SESSION).await;
    assert_eq!(rows.len(), count);
    for row in rows {
        let flag =
            row.metadata.map(|metadata| metadata.into_known().unwrap().to_value()[NUL_REPLACED].clone());
        assert_eq!(flag, Some(true.into()), "{}", row.content);
    }
}

#[tokio::test]
async fn text_without_u0000_is_left_alone_byte_for_byte() {
    let dir = dir();
    let mut trial = trial(&dir).await;
    // With a second backslash in front, the escape is six literal characters. And JSON keeps the caller's spelling.
    let spelled =
        r#"{ "text" : "\\u0000 \u00e9 \/", "n" : 1.50e+02, "big" : 123456789012345678901234567890 }"#;
    let said = message("\\u0000 \\0 \u{fffd} \u{2400}").with_metadata(object(spelled));
    trial.track(said.clone()).await.unwrap();
    let row = trial.transcript(SESSION).await.remove(0);
    assert_eq!((row.content, row.metadata), (said.content, said.metadata.map(Stored::Known)));
    assert_eq!(value::<String>(dir.path(), "SELECT metadata FROM conversation_messages"), spelled);
}

#[tokio::test]
async fn a_message_with_u0000_may_be_repeated() {
    let dir = dir();
    let mut trial = trial(&dir).await;
    let said = || message("a\0b").with_external_id("x\0").with_metadata(object("{}"));
    let first = trial.track(said()).await.unwrap();
    assert_eq!(trial.track(said()).await, Ok(first));
    let books = trial.settled().await;
    assert_eq!((books.stored, books.inserted), (2, 1));
}

#[tokio::test]
async fn replacing_u0000_changes_nothing_else_in_the_json() {
    let dir = dir();
    let mut trial = trial(&dir).await;
    let spelled = r#"[ "\\u0000", "\u0000\\\u0000", 1e400, 1.50, "\u00e9\ud83d\ude00" ]"#;
    trial.track(message("x").with_parts(JsonArray::parse(spelled).unwrap())).await.unwrap();
    let row = trial.transcript(SESSION).await.remove(0);
    let expected = r#"[ "\\u0000", "\ufffd\\\ufffd", 1e400, 1.50, "\u00e9\ud83d\ude00" ]"#;
    assert_eq!(row.parts.unwrap().as_str(), expected);
}
