//! Invalid frames. Each gets the documented error, and its own connection and all others stay open.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use uuid::Uuid;

use crate::harness::{Client, Home, Server, text, upgrade, user};

/// A server, a connection that sends only valid frames, and one that sends invalid frames.
struct Scene {
    home: Home,
    server: Server,
    witness: Client,
    client: Client,
}

impl Scene {
    async fn new(flags: &[&str]) -> Self {
        let home = Home::new();
        let server = home.serve(flags).await;
        let witness = Client::new(&server).await;
        let client = Client::new(&server).await;
        Self { home, server, witness, client }
    }

    /// Sends a text that must be refused with this code, this start of the error message and this `ref`. Then both
    /// connections must still work.
    async fn refuses(&mut self, frame: &str, code: &str, words: &str, reference: impl Into<Value>) {
        self.client.send_raw(Message::text(frame)).await;
        let said = self.client.refused(code, reference).await;
        assert!(said.starts_with(words), "{frame:.80}: {words:?} was expected, not {said:?}");
        assert!(!said.contains("SECRET"), "an error must not repeat what was said: {said}");
        self.client.say("still here").await;
        self.witness.say("so am I").await;
    }

    /// Asserts that only the valid messages are stored and that the books balance.
    async fn nothing_bad_is_stored(self) {
        let database = self.home.database();
        assert!(database.contents(self.client.session).iter().all(|content| content == "still here"));
        assert!(database.contents(self.witness.session).iter().all(|content| content == "so am I"));
        self.home.verify().await;
        drop(self.server);
    }
}

#[tokio::test]
async fn a_connection_without_proper_ids_gets_a_problem_document() {
    let scene = Scene::new(&[]).await;
    let id = Uuid::new_v4();
    for (query, field) in [
        (format!("?session_id={id}&user_id="), "user_id"),
        (format!("?session_id={id}&user_id=a%0Ab"), "user_id"),
        (format!("?session_id={id}&user_id={}", "x".repeat(257)), "user_id"),
        (format!("?session_id=42&user_id={id}"), "session_id"),
        (format!("?session_id=&user_id={id}"), "session_id"),
        (format!("?session_id=%00&user_id={id}"), "session_id"),
        (format!("?external_id=&user_id={id}"), "external_id"),
        (format!("?external_id=a%00b&user_id={id}"), "external_id"),
        (format!("?external_id={}&user_id={id}", "x".repeat(257)), "external_id"),
    ] {
        let (_, answer) = upgrade(scene.server.address, &format!("/v1/ws{query}"), &[]).await;
        let said = answer.problem(400, "invalid_message");
        assert!(said.starts_with(&format!("{field}: ")), "{query}: {said}");
    }
    let sessions = scene.home.database().count("SELECT count(*) FROM conversation_sessions", &[]);
    assert_eq!(sessions, 2, "no session came of it");
    scene.nothing_bad_is_stored().await;
}

#[tokio::test]
async fn a_page_from_elsewhere_may_not_connect_through_its_readers_browser() {
    let scene = Scene::new(&[]).await;
    let path = format!("/v1/ws?user_id={}", Uuid::new_v4());
    for (origin, status) in [
        ("https://evil.example", 403),
        ("null", 403),
        ("http://localhost.evil.example", 403),
        ("http://localhost:3000", 101),
    ] {
        let (_, answer) = upgrade(scene.server.address, &path, &[("Origin", origin)]).await;
        assert_eq!(answer.status, status, "{origin}: {answer:?}");
        if status != 101 {
            answer.problem(status, "forbidden");
        }
    }
    scene.nothing_bad_is_stored().await;
}

#[tokio::test]
async fn what_is_no_json_object_is_invalid_json() {
    let mut scene = Scene::new(&[]).await;
    let deep = format!(r#"{{"type":"ping","x":{}{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
    let broken =
        ["", " ", "{", r#"{"type":"message","role":"user","content":"SECRET"#, "nul", "'", "\u{FEFF}"];
    let others = [
        "[]",
        r#"[{"type":"ping"}]"#,
        "7",
        "-0.5e9",
        "\"ping\"",
        "null",
        "true",
        &deep,
        &"[".repeat(500_000),
    ];
    for frame in broken.into_iter().chain(others) {
        scene.refuses(frame, "invalid_json", "", Value::Null).await;
    }
    scene.nothing_bad_is_stored().await;
}

#[tokio::test]
async fn an_unknown_type_is_refused_and_a_missing_one_too() {
    let mut scene = Scene::new(&[]).await;
    scene.refuses(r#"{"type":"shout","ref":1}"#, "invalid_message", "type: ", 1).await;
    scene.refuses(r#"{"type":7,"ref":"a"}"#, "invalid_message", "type: ", "a").await;
    scene
        .refuses(r#"{"role":"user","content":"SECRET","ref":2}"#, "invalid_message", "type: missing", 2)
        .await;
    scene.refuses(r#"{"type":"session.start","ref":3}"#, "invalid_message", "type: ", 3).await;
    scene.refuses(r#"{"type":"session.update","ref":4}"#, "invalid_message", "metadata: missing", 4).await;
    scene.refuses(r#"{"type":"session.end","reason":"","ref":5}"#, "invalid_message", "reason: ", 5).await;
    scene
        .refuses(r#"{"type":"session.end","reason":"\u0000","ref":6}"#, "invalid_message", "reason: ", 6)
        .await;
    scene.nothing_bad_is_stored().await;
}

#[tokio::test]
async fn a_bad_role_or_content_is_named() {
    let mut scene = Scene::new(&[]).await;
    for (fields, words) in [
        (r#""content":"SECRET""#, "role: missing"),
        (r#""role":null,"content":"SECRET""#, "role: missing"),
        (r#""role":"","content":"SECRET""#, "role: must be one of user assistant system developer tool"),
        (r#""role":"king","content":"SECRET""#, "role: must be one of user assistant system developer tool"),
        (
            r#""role":["user"],"content":"SECRET""#,
            "role: must be one of user assistant system developer tool",
        ),
        (r#""role":"user","content":7"#, "content: must be a string or an array of parts"),
        (r#""role":"user","content":{"text":"SECRET"}"#, "content: must be a string or an array of parts"),
        (r#""role":"user","content":["SECRET",7]"#, "content: each part must be a string or an object"),
        (r#""role":"user","content":"SECRET","content":"SECRET""#, "content: "),
    ] {
        let frame = format!(r#"{{"type":"message","ref":9,{fields}}}"#);
        scene.refuses(&frame, "invalid_message", words, 9).await;
    }
    scene.nothing_bad_is_stored().await;
}

#[tokio::test]
async fn every_other_bad_field_is_named_too() {
    let mut scene = Scene::new(&[]).await;
    for (field, words) in [
        (json!({"metadata": "SECRET"}), "metadata: must be a JSON object"),
        (json!({"metadata": ["SECRET"]}), "metadata: must be a JSON object"),
        (json!({"metadata": 7}), "metadata: must be a JSON object"),
        (json!({"parts": {}}), "parts: must be a JSON array"),
        (json!({"metrics": {"stt_ms": "fast"}}), "metrics: stt_ms: must be a number"),
        (json!({"created_at": "yesterday"}), "created_at: must be an RFC 3339 time"),
        (json!({"created_at": ""}), "created_at: must be an RFC 3339 time"),
        (json!({"created_at": -1}), "created_at: a number must be from 0 to 18446744073709551615"),
        (json!({"created_at": "2026-13-23T08:00:00Z"}), "created_at: must be an RFC 3339 time"),
        (json!({"created_at": "-009999-01-01T00:00:00Z"}), "created_at: must be an RFC 3339 time"),
        (json!({"created_at": "9999-12-31T23:59:59-01:00"}), "created_at: must be from 0000-01-01"),
        (json!({"id": "42"}), "id: must be a UUID"),
        (json!({"external_id": ""}), "external_id: must not be empty"),
        (json!({"external_id": "x".repeat(257)}), "external_id: must be at most 256 bytes"),
        (json!({"session_id": Uuid::new_v4()}), "session_id: is not the session of this connection"),
        (json!({"user_id": Uuid::new_v4()}), "user_id: is not the user of this session"),
        (json!({"contant": "SECRET"}), "contant: unknown field; did you mean content?"),
        (json!({"kind": "song"}), "kind: must be one of message tool_call tool_result event"),
        (json!({"revision": -1}), "revision: must be a whole number"),
        (json!({"revision": 1.5}), "revision: must be a whole number"),
        (json!({"revision": 2_147_483_648_u32}), "revision: must be "),
        (json!({"interrupted": "yes"}), "interrupted: must be true or false"),
    ] {
        let mut frame = user("SECRET", "r");
        frame.as_object_mut().unwrap().extend(field.as_object().unwrap().clone());
        scene.refuses(&frame.to_string(), "invalid_message", words, "r").await;
    }
    let deep = format!(
        r#"{{"type":"message","role":"user","content":"SECRET","metadata":{}1{}}}"#,
        r#"{"a":"#.repeat(5_000),
        "}".repeat(5_000)
    );
    scene.refuses(&deep, "invalid_json", "nested deeper than 100 levels", Value::Null).await;
    let mark = r#"{"type":"message","role":"user","content":"SECRET","ref":{"a":1}}"#;
    scene.refuses(mark, "invalid_message", "ref: must be a string or a number", Value::Null).await;
    scene.nothing_bad_is_stored().await;
}

#[tokio::test]
async fn content_over_the_limit_is_refused_and_up_to_it_taken() {
    let mut scene = Scene::new(&["--max-message-bytes", "2000"]).await;
    for size in [2001, 500_000] {
        scene.refuses(&user(&"x".repeat(size), size).to_string(), "too_large", "", size).await;
    }
    let spread = json!({"type": "message", "role": "user", "content": "x".repeat(1500), "ref": 3,
                        "content_generated": "y".repeat(600)});
    scene.refuses(&spread.to_string(), "too_large", "", 3).await;
    let extra = json!({"type": "message", "role": "user", "note": "x".repeat(1500), "more": "x".repeat(500), "ref": 5});
    scene.refuses(&extra.to_string(), "too_large", "", 5).await;
    let update = json!({"type": "session.update", "metadata": {"k": "x".repeat(2000)}, "ref": 4});
    scene.refuses(&update.to_string(), "too_large", "", 4).await;
    let session = scene.client.session;
    scene.client.say(&"ä".repeat(1000)).await;
    assert!(scene.home.database().contents(session).contains(&"ä".repeat(1000)));
    scene.home.verify().await;
}

/// The limit of a message counts its text, not how the JSON writes it.
#[tokio::test]
async fn a_message_may_be_larger_as_json_than_as_text() {
    let mut scene = Scene::new(&[]).await;
    let text = "\u{e9}".repeat(350_000);
    let escaped =
        format!(r#"{{"type":"message","role":"user","content":"{}","ref":1}}"#, r"\u00e9".repeat(350_000));
    scene.client.send_raw(Message::text(escaped.clone())).await;
    scene.client.ack_frame().await;
    let body = scene.server.request("POST", format!("/v1/sessions/{}/messages", scene.client.session));
    let answer = body.body("application/json", escaped).send().await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(scene.home.database().contents(scene.client.session), [text.clone(), text]);
    scene.home.verify().await;
}

#[tokio::test]
async fn a_large_extra_is_refused_by_name() {
    let mut scene = Scene::new(&[]).await;
    let mut frame = user("SECRET", "r");
    frame["extra"] = json!({"x": "y".repeat(65_536)});
    scene.refuses(&frame.to_string(), "too_large", "extra: has 65544 bytes, the limit is 65536", "r").await;
    scene.nothing_bad_is_stored().await;
}

#[tokio::test]
async fn a_frame_over_eight_mebibytes_closes_its_connection_and_no_other() {
    let mut scene = Scene::new(&[]).await;
    let session = scene.client.session;
    let frame = |size: usize| {
        let padding = size - text("user", "").to_string().len();
        Message::text(text("user", &"x".repeat(padding)).to_string())
    };
    // The largest frame is read: its text is too long for a message, and the connection stays open.
    scene.client.send_raw(frame(8 << 20)).await;
    scene.client.refused("too_large", Value::Null).await;
    scene.client.say("still here").await;
    scene.client.send_raw(frame((8 << 20) + 1)).await;
    scene.client.refused("too_large", Value::Null).await;
    assert_eq!(scene.client.closed().await, Some(CloseCode::Size));
    scene.witness.say("so am I").await;
    let row = scene.home.database().ended(session).await;
    assert_eq!((row.end(), row.message_count), (("ended", Some("disconnect")), 1));
    scene.home.verify().await;
}

#[tokio::test]
async fn a_frame_in_fragments_is_one_frame_and_has_the_same_limit() {
    let mut scene = Scene::new(&[]).await;
    let frame = text("user", "still here").to_string();
    let (beginning, end) = frame.split_at(frame.len() / 2);
    scene.client.send_raw(fragment(beginning, Data::Text, false)).await;
    scene.client.send_raw(Message::Ping("in between".into())).await;
    scene.client.send_raw(fragment(end, Data::Continue, true)).await;
    scene.client.ack_frame().await;

    let part = "x".repeat(1 << 21);
    scene.client.send_raw(fragment(&part, Data::Text, false)).await;
    for _ in 0..4 {
        scene.client.send_raw(fragment(&part, Data::Continue, false)).await;
    }
    scene.client.refused("too_large", Value::Null).await;
    assert_eq!(scene.client.closed().await, Some(CloseCode::Size));
    scene.witness.say("so am I").await;
    scene.nothing_bad_is_stored().await;
}

fn fragment(part: &str, data: Data, is_last: bool) -> Message {
    Message::Frame(Frame::message(part.to_owned(), OpCode::Data(data), is_last))
}

#[tokio::test]
async fn a_binary_frame_is_refused() {
    let mut scene = Scene::new(&[]).await;
    for bytes in [&b""[..], b"\x00\xff", br#"{"type":"message","role":"user","content":"SECRET"}"#] {
        scene.client.send_raw(Message::binary(bytes)).await;
        scene.client.refused("invalid_message", Value::Null).await;
        scene.client.say("still here").await;
    }
    scene.witness.say("so am I").await;
    scene.nothing_bad_is_stored().await;
}

#[tokio::test]
async fn invalid_utf_8_closes_its_connection_as_websocket_demands() {
    let mut scene = Scene::new(&[]).await;
    let bytes = &b"{\"type\":\"message\",\"role\":\"user\",\"content\":\"SECRET \xc3\x28\"}"[..];
    scene.client.say("still here").await;
    scene.client.send_raw(Message::Frame(Frame::message(bytes, OpCode::Data(Data::Text), true))).await;
    assert_eq!(scene.client.closed().await, Some(CloseCode::Invalid));
    scene.witness.say("so am I").await;
    let row = scene.home.database().ended(scene.client.session).await;
    assert_eq!((row.end(), row.message_count), (("ended", Some("disconnect")), 1));
    scene.nothing_bad_is_stored().await;
}

#[tokio::test]
async fn what_is_no_websocket_frame_closes_its_connection() {
    let mut scene = Scene::new(&[]).await;
    // Opcode 3 is reserved.
    scene
        .client
        .send_raw(Message::Frame(Frame::message("SECRET", OpCode::Data(Data::Reserved(3)), true)))
        .await;
    assert_eq!(scene.client.closed().await, Some(CloseCode::Protocol));
    scene.witness.say("so am I").await;
    scene.nothing_bad_is_stored().await;
}

#[tokio::test]
async fn u_0000_is_replaced_and_flagged() {
    let mut scene = Scene::new(&[]).await;
    scene.client.say("a\u{0}b\u{0}").await;
    let nested =
        json!({"type": "message", "role": "user", "content": "x", "metadata": {"k\u{0}": ["\u{0}"], "n": 1}});
    scene.client.track(nested).await;
    scene.client.say("clean").await;
    scene.client.send(json!({"type": "session.update", "metadata": {"k\u{0}": "\u{0}"}})).await;
    scene.client.say("so that the update is durable").await;
    let kept = scene.home.database().session(scene.client.session).unwrap().metadata;
    assert_eq!(kept["k\u{FFFD}"], "\u{FFFD}", "{kept}");
    let rows = scene.home.database().messages(scene.client.session);
    let metadata = |index: usize| -> Value {
        rows[index].metadata.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
    };
    assert_eq!(rows[0].content, "a\u{FFFD}b\u{FFFD}");
    assert_eq!(metadata(0), json!({"talktrack.nul_replaced": true}));
    assert_eq!(metadata(1), json!({"k\u{FFFD}": ["\u{FFFD}"], "n": 1, "talktrack.nul_replaced": true}));
    assert_eq!((rows[2].content.as_str(), metadata(2)), ("clean", Value::Null));
    scene.home.verify().await;
}

#[tokio::test]
async fn a_message_after_the_end_of_its_session_is_kept_as_a_late_one() {
    let mut scene = Scene::new(&[]).await;
    let client = &mut scene.client;
    client.say("in time").await;
    client.end("completed").await;
    client.track(user("late", "l")).await;
    let row = scene.home.database().session(client.session).unwrap();
    assert_eq!((row.end(), row.message_count), (("ended", Some("completed")), 2));
    assert_eq!(scene.home.database().contents(client.session), ["in time", "late"]);
    assert_eq!(client.end("again").await["message_count"], 2);
    let row = scene.home.database().session(client.session).unwrap();
    assert_eq!(row.end(), ("ended", Some("completed")), "the first end stands");
    scene.home.verify().await;
}

/// Half a surrogate pair is no character, but it is no reason to refuse the rest of the message.
#[tokio::test]
async fn half_a_surrogate_pair_is_stored_as_a_replacement_character_over_the_socket_and_http() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let frame =
        r#"{"type":"message","role":"user","content":"one \ud800","ref":1,"metadata":{"k\udc00":"\ud800"}}"#;
    client.send_raw(Message::text(frame)).await;
    client.acks(1).await;
    client.send_raw(Message::text(r#"{"type":"ping","ref":"\ud800"}"#)).await;
    client.refused("invalid_message", Value::Null).await;
    let body = r#"[{"role":"user","content":"two"},{"role":"user","content":"\udc00 three"},{"role":"user","content":"\ud83d\ude00"}]"#;
    let path = format!("/v1/sessions/{}/messages", client.session);
    let answer = server.request("POST", &path).body("application/json", body).send().await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let rows = server.get(&path).await.json();
    let rows = rows["messages"].as_array().unwrap();
    let said: Vec<_> = rows.iter().map(|row| row["content"].as_str().unwrap()).collect();
    assert_eq!(said, ["one \u{fffd}", "two", "\u{fffd} three", "\u{1f600}"]);
    assert_eq!(rows[0]["metadata"], json!({"k\u{fffd}": "\u{fffd}"}));
    let noted: Vec<_> =
        rows.iter().map(|row| row["extra"]["talktrack"]["surrogates_replaced"] == true).collect();
    assert_eq!(noted, [true, false, true, false], "{rows:?}");
}
