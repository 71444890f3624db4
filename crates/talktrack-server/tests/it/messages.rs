//! The fields of a message, and the ids under which messages are stored.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Client, Home, MessageRow, text, user};

/// Sets fields of a message.
fn with(mut message: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!("not an object: {fields}") };
    message.as_object_mut().unwrap().extend(fields);
    message
}

#[tokio::test]
async fn every_field_lands_in_its_column() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let id = Uuid::new_v4();
    let message = json!({
        "type": "message", "ref": "x", "id": id, "external_id": "turn-3", "role": "assistant", "content": "It is 4 de",
        "content_generated": "It is 4 degrees.", "interrupted": true, "kind": "message", "revision": 0,
        "audio_url": "https://a.example/b.ogg", "created_at": "2026-11-23T09:00:00.25+01:00",
        "metadata": {"b": 1, "a": [true, null]}, "parts": [{"type": "text"}], "metrics": {"stt_ms": 12.5, "model": "m"},
    });
    assert_eq!(client.track(message).await, id);
    let row = MessageRow {
        id: id.to_string(),
        user_id: Some(client.user.to_string()),
        role: "assistant".into(),
        content: "It is 4 de".into(),
        audio_url: Some("https://a.example/b.ogg".into()),
        metadata: Some(r#"{"a":[true,null],"b":1}"#.into()),
        created_at: "2026-11-23T08:00:00.250000Z".into(),
        external_id: Some("turn-3".into()),
        kind: "message".into(),
        revision: 0,
        interrupted: true,
        content_generated: Some("It is 4 degrees.".into()),
        parts: Some(r#"[{"type":"text"}]"#.into()),
        metrics: Some(r#"{"model":"m","stt_ms":12.5}"#.into()),
    };
    assert_eq!(home.database().messages(client.session), [row]);
}

#[tokio::test]
async fn what_is_left_out_or_null_is_as_the_schema_says() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let nulls = json!({
        "audio_url": null, "metadata": null, "created_at": null, "id": null, "external_id": null, "kind": null,
        "interrupted": null, "content_generated": null, "parts": null, "metrics": null, "revision": null, "ref": null,
    });
    client.say("bare").await;
    client.track(with(text("user", "bare"), nulls)).await;
    let rows = home.database().messages(client.session);
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!((row.kind.as_str(), row.revision, row.interrupted), ("message", 0, false));
        let empty =
            [row.audio_url, row.metadata, row.external_id, row.content_generated, row.parts, row.metrics];
        assert_eq!(empty, [const { None }; 6]);
        assert!(
            row.created_at.starts_with("20") && row.created_at.len() == "2026-11-23T08:00:00.000000Z".len()
        );
    }
}

#[tokio::test]
async fn every_role_and_kind_is_kept_and_system_messages_belong_to_nobody() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    for (role, kind) in [
        ("user", "message"),
        ("assistant", "tool_call"),
        ("tool", "tool_result"),
        ("system", "message"),
        ("developer", "event"),
    ] {
        client.track(with(text(role, "x"), json!({"kind": kind}))).await;
    }
    let rows = home.database().messages(client.session);
    let seen: Vec<_> = rows.iter().map(|row| (&*row.role, &*row.kind, row.user_id.is_some())).collect();
    let expected = [
        ("user", "message", true),
        ("assistant", "tool_call", true),
        ("tool", "tool_result", true),
        ("system", "message", false),
        ("developer", "event", true),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_tool_call_may_have_no_words() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let parts = json!([{"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Ulm"}}]);
    client.track(with(text("assistant", ""), json!({"parts": parts}))).await;
    client.track(with(text("tool", ""), json!({"kind": "tool_result"}))).await;
    let rows = home.database().messages(client.session);
    assert_eq!(serde_json::from_str::<Value>(rows[0].parts.as_ref().unwrap()).unwrap(), parts);
    assert_eq!(rows[1].content, "");
}

#[tokio::test]
async fn an_id_is_the_callers_or_derived_from_the_callers_name_or_minted() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let named = with(text("user", "named"), json!({"external_id": "m-1"}));
    let derived = Uuid::new_v5(&client.session, b"m-1");
    assert_eq!(client.track(named.clone()).await, derived);
    assert_eq!(client.track(named).await, derived, "the same again is a no-op");
    let minted = client.say("nameless").await;
    assert_eq!(minted.get_version_num(), 7);
    assert_ne!(minted, client.say("nameless").await);
    assert_eq!(home.database().contents(client.session), ["named", "nameless", "nameless"]);
    home.verify().await;
}

#[tokio::test]
async fn the_same_again_changes_nothing_and_something_else_under_its_id_is_a_conflict() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let message = with(user("said once", 1), json!({"id": Uuid::new_v4()}));
    let id = client.track(message.clone()).await;
    assert_eq!(client.track(message.clone()).await, id);
    client.send(with(message.clone(), json!({"content": "said otherwise", "ref": 2}))).await;
    client.refused("id_conflict", 2).await;
    let mut other = Client::new(&server).await;
    other.send(message).await;
    other.refused("id_conflict", 1).await;
    other.say("the connection lives").await;
    client.say("and so does the other").await;
    assert_eq!(home.database().contents(client.session), ["said once", "and so does the other"]);
    assert_eq!(home.database().session(client.session).unwrap().message_count, 2);
    home.verify().await;
}

#[tokio::test]
async fn a_later_revision_replaces_an_earlier_one_and_never_the_other_way_round() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let id = Uuid::new_v4();
    let revision =
        |number: u32, content: &str| with(text("user", content), json!({"id": id, "revision": number}));
    client.track(revision(0, "hel")).await;
    client.track(revision(2, "hello there")).await;
    assert_eq!(client.track(revision(1, "hello")).await, id, "late, but known already");
    client.send(revision(2, "hello, you")).await;
    client.refused("id_conflict", Value::Null).await;
    let rows = home.database().messages(client.session);
    assert_eq!((rows.len(), rows[0].revision, rows[0].content.as_str()), (1, 2, "hello there"));
    assert_eq!(client.end("completed").await["message_count"], 1);
    home.verify().await;
}

#[tokio::test]
async fn messages_are_in_the_order_of_saying_then_of_acceptance() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    for (content, second) in [("third", 2), ("first", 1), ("fourth", 2), ("second", 1)] {
        let at = format!("2026-11-23T08:00:0{second}Z");
        client.send(with(text("user", content), json!({"created_at": at}))).await;
    }
    client.acks(4).await;
    assert_eq!(home.database().contents(client.session), ["first", "second", "third", "fourth"]);
    let shown = home.look(&["show", &client.session.to_string(), "--json"]).await.succeeded().json_lines();
    let order: Vec<_> = shown[1..].iter().map(|row| row["content"].as_str().unwrap()).collect();
    assert_eq!(order, ["first", "second", "third", "fourth"]);
}

#[tokio::test]
async fn numbers_are_kept_as_they_were_written_however_large_or_exact() {
    const NUMBERS: &str = r#""huge":1e400,"exact":12345678901234567890.123456789,"one":1.0"#;
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let send = async |client: &mut Client, content: &str| {
        let frame = format!(
            r#"{{"type":"message","role":"user","content":"{content}","metadata":{{{NUMBERS}}},"metrics":{{"x":1e400}}}}"#
        );
        client.send_raw(frame.into()).await;
        client.ack_frame().await;
    };
    send(&mut client, "plain").await;
    // The server rewrites this metadata, to flag the replaced character.
    send(&mut client, r"nul: \u0000").await;
    for update in [NUMBERS, r#""channel":"phone""#] {
        let frame = format!(r#"{{"type":"session.update","metadata":{{{update}}}}}"#);
        client.send_raw(frame.into()).await;
    }
    client.say("so that the updates are durable").await;

    let rows = home.database().messages(client.session);
    assert_eq!(rows[0].metadata.as_deref(), Some(format!("{{{NUMBERS}}}").as_str()));
    assert_eq!(rows[0].metrics.as_deref(), Some(r#"{"x":1e400}"#));
    let session = home.database().session_metadata(client.session);
    for kept in [rows[1].metadata.as_deref().unwrap(), &session] {
        for number in NUMBERS.split(',') {
            assert!(kept.contains(number), "{number}: {kept}");
        }
    }
    assert!(session.contains(r#""channel":"phone""#), "{session}");
}

#[tokio::test]
async fn talktracks_own_notes_come_from_talktrack_alone_whatever_a_message_says() {
    let home = Home::new();
    let session = Uuid::new_v4();
    let user = Uuid::new_v4();
    let forged = || json!({"extra": {"talktrack": {"by": "user"}}});
    let lines = [
        json!({"type": "session.start", "session_id": session, "user_id": user}),
        with(
            json!({"type": "message", "session_id": session, "role": "user", "content": "in a file"}),
            forged(),
        ),
    ];
    let file = home.write("conv.jsonl", lines.map(|line| line.to_string()).join("\n"));
    home.look(&["import", &file]).await.succeeded();
    let server = home.serve(&[]).await;
    let mut client = Client::join(&server, session, user).await;
    client.track(with(text("user", "by socket"), forged())).await;
    let path = format!("/v1/sessions/{session}/messages");
    let message = with(json!({"role": "user", "content": "over HTTP"}), forged());
    assert_eq!(server.request("POST", path.clone()).json(&message).send().await.status, 202);
    let page = server.request("GET", path).send().await.json();
    let said: Vec<_> = page["messages"].as_array().unwrap().iter().collect();
    assert_eq!(said.len(), 3, "{page}");
    assert!(said.iter().all(|message| message["extra"].is_null()), "{page}");
}
