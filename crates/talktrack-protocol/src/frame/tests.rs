//! Frames that parse, and the errors of those that do not.

use talktrack_core::ids::SessionId;

use super::*;
use talktrack_core::ids::MessageId;
use talktrack_core::{Kind, Message, MessageStatus, Role};

fn message(text: &str) -> Message {
    match Frame::parse(text).unwrap().body {
        ClientFrame::Message(message) => message.in_session(SessionId::from_u128(7)),
        other => panic!("not a message: {other:?}"),
    }
}

fn problem(text: &str) -> (&'static str, String) {
    let error = Frame::parse(text).unwrap_err();
    (error.code.as_str(), error.message)
}

#[test]
fn role_and_content_are_enough_and_null_is_as_good_as_left_out() {
    let plain = message(r#"{"type":"message","role":"user","content":"Hello"}"#);
    assert_eq!(plain, Message::new(SessionId::from_u128(7), Role::User, "Hello"));
    let nulls = message(
        r#"{"type":"message","role":"user","content":"Hello","audio_url":null,"metadata":null,"created_at":null,
            "id":null,"external_id":null,"kind":null,"interrupted":null,"content_generated":null,"parts":null,
            "metrics":null,"extra":null,"revision":null,"ref":null,"session_id":null,"tool_calls":null,"shoe_size":null}"#,
    );
    assert_eq!(nulls, plain);
    for content in ["", r#","content":"""#, r#","content":null"#, r#","content":[]"#] {
        let empty = message(&format!(r#"{{"type":"message","role":"user"{content}}}"#));
        assert_eq!(empty, Message::new(SessionId::from_u128(7), Role::User, ""), "{content}");
    }
}

#[test]
fn every_field_arrives_as_it_was_sent() {
    let id = MessageId::from_u128(3);
    let full = message(&format!(
        r#"{{"type":"message","role":"tool","content":"4\u00b0","audio_url":"https://a/b","metadata":{{ "a" : 1.0 }},
            "created_at":"2026-11-23T09:00:00+01:00","id":"{id}","external_id":"x","kind":"tool_result",
            "interrupted":true,"content_generated":"five","parts":[1],"metrics":{{"stt_ms":12.5}},"revision":2}}"#,
    ));
    assert_eq!((full.role, full.kind, full.content.as_str()), (Role::Tool, Kind::ToolResult, "4°"));
    assert_eq!((full.id, full.external_id.as_deref()), (Some(id), Some("x")));
    assert_eq!(full.created_at.unwrap().to_string(), "2026-11-23T08:00:00.000000Z");
    assert_eq!(full.metadata.unwrap().as_str(), r#"{ "a" : 1.0 }"#);
    assert_eq!(
        (full.parts.unwrap().as_str(), full.metrics.unwrap().as_json().as_str()),
        ("[1]", r#"{"stt_ms":12.5}"#)
    );
    assert_eq!((full.interrupted, full.revision, full.content_generated.as_deref()), (true, 2, Some("five")));
}

#[test]
fn a_ref_is_echoed_exactly_and_survives_a_bad_field() {
    for text in ["\"any\"", "7", "-1.50", "\"caf\\u00e9\""] {
        let frame = Frame::parse(&format!(r#"{{"type":"ping","ref":{text}}}"#)).unwrap();
        assert_eq!(frame.reference.unwrap().as_json(), text);
        let error = Frame::parse(&format!(r#"{{"type":"message","ref":{text}}}"#)).unwrap_err();
        assert_eq!((error.message.as_str(), error.reference.unwrap().as_json()), ("role: missing", text));
        let error = Frame::parse(&format!(r#"{{"type":"message","role":7,"ref":{text}}}"#)).unwrap_err();
        assert_eq!(error.reference.unwrap().as_json(), text);
    }
    for text in ["true", "[]", "{}", &format!("\"{}\"", "x".repeat(255)), "\"\\ud800\""] {
        let (code, message) = problem(&format!(r#"{{"type":"ping","ref":{text}}}"#));
        assert_eq!(
            (code, message.as_str()),
            ("invalid_message", "ref: must be a string or a number of at most 256 bytes")
        );
    }
}

#[test]
fn what_is_no_json_object_is_invalid_json() {
    let deep = format!(r#"{{"type":"ping","x":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    // As many values as a frame has fields, the type first.
    let array = format!(r#"["ping"{}]"#, ",null".repeat(22));
    for text in
        ["", "{", "[]", "7", "\"x\"", "{\"type\":\"ping\"} x", "null", &deep, &"[".repeat(100_000), &array]
    {
        assert_eq!(problem(text).0, "invalid_json", "{text:.40}");
    }
    let just_right = format!(r#"{{"type":"ping","x":{}{}}}"#, "[".repeat(99), "]".repeat(99));
    assert_eq!(Frame::parse(&just_right).unwrap().body, ClientFrame::Ping);
}

/// Regression: a client that replayed a file never got an answer to such a line, and gave up on the session.
#[test]
fn a_frame_that_is_nested_too_deeply_is_answered_by_its_ref() {
    let deep = format!(r#"{{"ref":7,"type":"ping","x":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(Frame::parse(&deep).unwrap_err().reference, Some(FrameRef::number(7)));
}

/// Regression: each field was compared with every other one, so that one frame kept a thread busy for most of a minute.
#[test]
fn a_bad_frame_of_a_hundred_thousand_fields_is_explained_at_once() {
    let fields: String = (0..100_000).map(|number| format!(r#""{number}":0,"#)).collect();
    let began = std::time::Instant::now();
    assert_eq!(problem(&format!(r#"{{{fields}"role":7}}"#)).1.split(' ').next(), Some("role:"));
    assert!(began.elapsed().as_secs() < 5, "took {:?}", began.elapsed());
}

#[test]
fn a_bad_field_is_named() {
    let roles = "role: must be one of user assistant system developer tool";
    let time = "created_at: must be an RFC 3339 time such as 2026-11-23T08:00:00Z, or a number of seconds, ms, µs or ns \
                since 1970";
    for (fields, expected) in [
        (r#""x":1"#, "type: missing"),
        (r#""type":7"#, "type: must be a string"),
        (r#""type":"shout""#, "type: must be one of message session.update session.end auth ping"),
        (r#""type":"message","content":"x""#, "role: missing"),
        (r#""type":"message","role":"king","content":"x""#, roles),
        (r#""type":"message","role":7,"content":"x""#, roles),
        (r#""type":"message","role":"user","content":7"#, "content: must be a string or an array of parts"),
        (
            r#""type":"message","role":"user","content":[7]"#,
            "content: each part must be a string or an object",
        ),
        (r#""type":"message","role":"user","extra":[]"#, "extra: must be a JSON object"),
        (r#""type":"message","role":"user","tool_calls":{}"#, "tool_calls: must be an array of objects"),
        (r#""type":"message","role":"user","function_call":7"#, "function_call: must be an object"),
        (r#""type":"message","role":"user","tool_call_id":7"#, "tool_call_id: must be a string"),
        (r#""type":"message","role":"user","name":7"#, "name: must be a string"),
        (r#""type":"message","role":"user","content":"x","metadata":[]"#, "metadata: must be a JSON object"),
        (r#""type":"message","role":"user","content":"x","parts":{}"#, "parts: must be a JSON array"),
        (
            r#""type":"message","role":"user","content":"x","metrics":{"stt_ms":"1"}"#,
            "metrics: stt_ms: must be a number",
        ),
        (r#""type":"message","role":"user","content":"x","created_at":"yesterday""#, time),
        (r#""type":"message","role":"user","content":"x","created_at":true"#, time),
        (
            r#""type":"message","role":"user","created_at":-7"#,
            "created_at: a number must be from 0 to 18446744073709551615",
        ),
        (r#""type":"message","role":"user","content":"x","id":"7""#, "id: must be a UUID"),
        (
            r#""type":"message","role":"user","content":"x","interrupted":1"#,
            "interrupted: must be true or false",
        ),
        (
            r#""type":"message","role":"user","content":"x","revision":-1"#,
            "revision: must be a whole number from 0 to 2147483647",
        ),
        (r#""type":"message","role":"user","role":"user","content":"x""#, "role: occurs twice"),
        (
            r#""type":"message","role":"user","contents":"x""#,
            "contents: unknown field; did you mean content?",
        ),
        (r#""type":"message","role":"user","x":1,"x":2"#, "x: occurs twice"),
        (
            r#""type":"message","role":"user","extra":{"x":1},"x":2"#,
            "x: is a field of the frame and also a key of extra",
        ),
        (
            r#""type":"message","role":"user","x":1e999999"#,
            "extra: a number has more than 131072 digits before the decimal point, or more than 16383 after it",
        ),
    ] {
        let (code, message) = problem(&format!("{{{fields}}}"));
        assert_eq!((code, message.as_str()), ("invalid_message", expected), "{fields}");
    }
}

#[test]
fn a_bad_field_of_a_session_is_named() {
    let time = "ended_at: must be an RFC 3339 time such as 2026-11-23T08:00:00Z, or a number of seconds, ms, µs or ns since \
                1970";
    for (fields, expected) in [
        (r#""type":"session.update""#, "metadata: missing"),
        (r#""type":"session.end","reason":7"#, "reason: must be a string"),
        (r#""type":"session.end","status":"active""#, "status: must be one of ended abandoned"),
        (r#""type":"session.end","ended_at":"then""#, time),
        (r#""type":"session.end","content":"x""#, "content: session.end has no such field"),
        (r#""type":"session.start","start_at":1"#, "start_at: session.start has no such field"),
        (
            r#""type":"session.start","metadate":{}"#,
            "metadate: session.start has no such field; did you mean metadata?",
        ),
        (r#""type":"session.update","metadata":{},"meta":{}"#, "meta: session.update has no such field"),
    ] {
        let (code, message) = problem(&format!("{{{fields}}}"));
        assert_eq!((code, message.as_str()), ("invalid_message", expected), "{fields}");
    }
}

#[test]
fn a_lone_half_of_a_surrogate_pair_becomes_a_replacement_character_wherever_it_stands() {
    let mended = message(
        r#"{"type":"message","role":"user","content":"a\ud800b\udc00 \ud83d\ude00 \\ud800","metadata":{"k\udfff":["\ud800\ud800"]},
            "\ud800":1,"parts":["\udc00\ud800"]}"#,
    );
    assert_eq!(mended.content, "a\u{fffd}b\u{fffd} \u{1f600} \\ud800");
    assert_eq!(mended.metadata.unwrap().as_str(), r#"{"k\ufffd":["\ufffd\ufffd"]}"#);
    assert_eq!(mended.parts.unwrap().as_str(), r#"["\ufffd\ufffd"]"#);
    let extra = r#"{"talktrack":{"surrogates_replaced":true},"\ufffd":1}"#;
    assert_eq!(mended.extra, Some(JsonObject::parse(extra).unwrap()));
    let whole = message(r#"{"type":"message","role":"user","content":"\ud83d\ude00"}"#);
    assert_eq!((whole.content.as_str(), whole.extra), ("\u{1f600}", None));
    // Replacing surrogates does not make invalid JSON valid.
    for text in [r#"{"\ud800"#, "\\é", r#"{"type":"ping","x":"\ud80"}"#, r#"{"x":"\u+800\ud800"}"#] {
        assert_eq!(problem(text).0, "invalid_json", "{text}");
    }
}

#[test]
fn what_a_message_has_no_column_for_is_kept_with_a_warning() {
    let frame = Frame::parse(
        r#"{"type":"message","role":"BOT","content":"Hi","meta":{ "a" : 1.0 },"name":"Ann","status":"completed",
            "started_at":"noon","extra":{"own":1}}"#,
    )
    .unwrap();
    let ClientFrame::Message(message) = frame.body else { panic!("not a message") };
    let message = message.in_session(SessionId::from_u128(7));
    assert_eq!((message.role, message.content.as_str()), (Role::Assistant, "Hi"));
    assert_eq!((message.name.as_deref(), message.status), (Some("Ann"), MessageStatus::Final));
    assert_eq!(
        message.extra.unwrap().as_str(),
        r#"{"meta":{ "a" : 1.0 },"own":1,"started_at":"noon","status":"completed"}"#
    );
    assert_eq!(
        frame.warnings.into_texts(),
        [
            "role: BOT is recorded as assistant",
            "meta: unknown field, kept in extra",
            "started_at: unknown field, kept in extra",
            "status: unknown field, kept in extra",
        ]
    );
    let many: String = (10..40).map(|number| format!(r#","f{number}":0"#)).collect();
    let many = Frame::parse(&format!(r#"{{"type":"message","role":"user"{many}}}"#)).unwrap();
    let warnings = many.warnings.into_texts();
    assert_eq!((warnings.len(), warnings.last().unwrap().as_str()), (9, "22 more fields have warnings"));
}

#[test]
fn the_tool_calls_of_chat_apis_become_parts() {
    let asked = message(
        r#"{"type":"message","role":"assistant","content":null,"tool_calls":[
            {"id":"c1","type":"function","function":{"name":"find","arguments":"{\"q\":1.0}"}}]}"#,
    );
    let part = r#"{"type":"tool_call","id":"c1","name":"find","arguments":{"q":1.0}}"#;
    assert_eq!((asked.kind, asked.parts.unwrap().as_str()), (Kind::ToolCall, format!("[{part}]").as_str()));
    assert_eq!(asked.extra, None);

    let told = message(
        r#"{"type":"message","role":"assistant","content":[{"type":"text","text":"Wait."}],"parts":[{"type":"x"}],
            "function_call":{"name":"find","arguments":"{\"q\":1.0}"}}"#,
    );
    let part = r#"{"type":"tool_call","name":"find","arguments":{"q":1.0}}"#;
    assert_eq!((told.kind, told.content.as_str()), (Kind::Message, "Wait."));
    assert_eq!(told.parts.unwrap().as_str(), format!(r#"[{{"type":"x"}},{part}]"#));

    for (fields, part) in [
        (r#""role":"tool","tool_call_id":"c1""#, r#"{"type":"tool_call_response","id":"c1"}"#),
        (r#""role":"function","name":"find""#, r#"{"type":"tool_call_response","name":"find"}"#),
    ] {
        let answer = message(&format!(r#"{{"type":"message","content":"42",{fields}}}"#));
        assert_eq!((answer.role, answer.kind, answer.content.as_str()), (Role::Tool, Kind::ToolResult, "42"));
        assert_eq!((answer.parts.unwrap().as_str(), answer.extra), (format!("[{part}]").as_str(), None));
    }
}

#[test]
fn a_frame_that_is_not_json_is_answered_by_its_ref() {
    for text in [
        r#"{"type":"message","role":"user","metrics":{"e2e_ms":NaN},"ref":7}"#,
        r#"{"ref":7,"metrics":{"e2e_ms":-Infinity}}"#,
        r#"{"a":undefined, "ref" : 7 }"#,
        r#"{"ref":7,"a":"#,
    ] {
        let error = Frame::parse(text).unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.reference),
            ("invalid_json", Some(FrameRef::number(7))),
            "{text}"
        );
    }
    for text in [r#"{"ref":7x,"a":NaN}"#, r#"{"ref":[7],"a":NaN}"#, r#"{"a":{"ref":7},"b":NaN}"#] {
        assert_eq!(Frame::parse(text).unwrap_err().reference, None, "{text}");
    }
}
