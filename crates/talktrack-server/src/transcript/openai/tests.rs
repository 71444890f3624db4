//! Conversations as they are recorded, and what the API gets of them.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};
use talktrack::store::{MessageRow, SessionRow};
use talktrack::{Dimensions, MessageId, MessageStatus, SessionId, Status, Stored, StoredTime};

use super::super::TranscriptWriter as _;
use super::OpenAiTranscript;
use super::pending::{MAX_WAITING, MAX_WAITING_BYTES, NO_RESULT};
use super::rules::accepted;

/// Returns the row of a message. `parts` is the text of the column.
fn row(place: usize, role: &str, kind: &str, content: &str, parts: Option<&str>) -> MessageRow {
    MessageRow {
        id: MessageId::from_u128(place as u128),
        session_id: SessionId::nil(),
        user_id: None,
        role: Stored::parse_word(Some(role), |word| word.parse().ok()),
        content: content.to_owned(),
        audio_url: None,
        metadata: None,
        created_at: StoredTime::Null,
        seq: None,
        external_id: None,
        name: None,
        kind: Stored::parse_word(Some(kind), |word| word.parse().ok()),
        status: MessageStatus::Final.into(),
        revision: 0,
        interrupted: false,
        content_generated: None,
        parts: parts.map(Stored::parse_json),
        metrics: None,
        extra: None,
    }
}

fn session() -> SessionRow {
    SessionRow {
        session_id: SessionId::nil(),
        user_id: None,
        external_id: None,
        status: Status::Ended.into(),
        end_reason: None,
        started_at: StoredTime::Null,
        ended_at: None,
        duration_seconds: None,
        last_event_at: None,
        message_count: 0,
        dimensions: Dimensions::default(),
        metadata: None,
    }
}

/// Exports the rows, and returns the messages after checking that the API takes them.
fn export(rows: &[MessageRow]) -> Vec<Value> {
    let mut transcript = OpenAiTranscript::default();
    let mut text = String::new();
    transcript.write_start(&session(), &mut text);
    rows.iter().for_each(|row| transcript.write_message(row, &mut text));
    transcript.write_end(&session(), &mut text);
    accepted(&text)
}

/// A conversation in short. A call is `("call", id, name)`, a result `("result", id, text)`, and everything else a message
/// with a role and a text.
fn converse(said: &[(&str, &str, &str)]) -> Vec<Value> {
    let rows = said.iter().enumerate().map(|(place, (what, one, other))| {
        let id = Some(*one).filter(|id| !id.is_empty());
        match *what {
            "call" => {
                let part = json!([{"type": "tool_call", "id": id, "name": other, "arguments": {"q": 1.50}}]);
                row(place, "assistant", "tool_call", "", Some(&part.to_string()))
            }
            "result" => {
                let part = json!([{"type": "tool_call_response", "id": id}]);
                row(place, "tool", "tool_result", other, Some(&part.to_string()))
            }
            _ => row(place, one, what, other, None),
        }
    });
    export(&rows.collect::<Vec<_>>())
}

/// Returns the messages in short: `role: content [ids of calls] <id of the answered call>`.
fn in_short(messages: &[Value]) -> Vec<String> {
    let short = |message: &Value| {
        let mut short =
            format!("{}: {}", message["role"].as_str().unwrap(), message["content"].as_str().unwrap_or("-"));
        if let Some(calls) = message["tool_calls"].as_array() {
            let ids: Vec<_> = calls.iter().map(|call| call["id"].as_str().unwrap()).collect();
            short += &format!(" [{}]", ids.join(" "));
        }
        message["tool_call_id"].as_str().map_or(short.clone(), |id| format!("{short} <{id}>"))
    };
    messages.iter().map(short).collect()
}

#[test]
fn parallel_calls_and_words_are_one_message_and_results_follow_their_calls() {
    let messages = converse(&[
        ("message", "user", "Is it cold?"),
        ("message", "assistant", "I look."),
        ("call", "a", "weather"),
        ("event", "user", "dtmf 1"),
        ("call", "b", "time"),
        ("message", "user", "Hello?"),
        ("result", "b", "noon"),
        ("message", "assistant", " \n"),
        ("result", "a", "4 degrees"),
        ("message", "assistant", "No."),
    ]);
    assert_eq!(
        in_short(&messages),
        [
            "user: Is it cold?",
            "assistant: I look. [a b]",
            "tool: 4 degrees <a>",
            "tool: noon <b>",
            "user: Hello?",
            "assistant: No.",
        ]
    );
}

#[test]
fn words_said_while_a_call_is_open_are_in_its_message() {
    let messages = converse(&[
        ("call", "a", "weather"),
        ("message", "assistant", "One moment."),
        ("message", "assistant", "Still looking."),
        ("result", "a", "4"),
        ("call", "b", "time"),
        ("result", "b", "noon"),
    ]);
    let expected =
        ["assistant: One moment.\nStill looking. [a]", "tool: 4 <a>", "assistant: - [b]", "tool: noon <b>"];
    assert_eq!(in_short(&messages), expected);
}

#[test]
fn a_call_without_a_result_is_closed() {
    let messages = converse(&[
        ("call", "a", "weather"),
        ("message", "assistant", "It is cold."),
        ("message", "user", "Bye."),
    ]);
    let closed = format!("tool: {NO_RESULT} <a>");
    assert_eq!(in_short(&messages), ["assistant: - [a]", &closed, "assistant: It is cold.", "user: Bye."]);
}

#[test]
fn a_result_that_comes_twice_or_early_or_without_a_call_is_accepted() {
    let twice =
        converse(&[("call", "a", "f"), ("result", "a", "4"), ("result", "a", "4"), ("result", "a", "5")]);
    assert_eq!(in_short(&twice), ["assistant: - [a]", "tool: 4\n5 <a>"]);
    let repeated = converse(&[
        ("call", "a", "f"),
        ("result", "a", "4"),
        ("message", "user", "Hm"),
        ("result", "a", "4"),
    ]);
    assert_eq!(in_short(&repeated), ["assistant: - [a]", "tool: 4 <a>", "user: Hm"]);
    let early = converse(&[("result", "a", "4"), ("message", "user", "Hm"), ("call", "a", "f")]);
    assert_eq!(in_short(&early), ["user: Hm", "assistant: - [a]", "tool: 4 <a>"]);
    assert_eq!(early[1]["tool_calls"][0]["function"]["name"], "f");
    let alone =
        converse(&[("message", "user", "Hm"), ("result", "x", "4"), ("result", "", "5"), ("result", "", "")]);
    let made_up = "00000000-0000-0000-0000-000000000002";
    assert_eq!(
        in_short(&alone),
        [
            "user: Hm",
            "assistant: - [x]",
            "tool: 4 <x>",
            &format!("assistant: - [{made_up}]"),
            &format!("tool: 5 <{made_up}>"),
        ]
    );
    assert_eq!(alone[1]["tool_calls"][0]["function"], json!({"name": "unknown_function", "arguments": "{}"}));
}

#[test]
fn ids_that_are_missing_or_used_again_still_match_calls_and_results() {
    let missing = converse(&[("call", "", "f"), ("call", "", "g"), ("result", "", "1"), ("result", "", "2")]);
    let ids = ["00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001"];
    assert_eq!(
        in_short(&missing),
        [
            format!("assistant: - [{} {}]", ids[0], ids[1]),
            format!("tool: 1 <{}>", ids[0]),
            format!("tool: 2 <{}>", ids[1]),
        ]
    );
    let again = converse(&[
        ("call", "c", "f"),
        ("call", "c", "g"),
        ("call", "c", "g"),
        ("result", "c", "1"),
        ("result", "c", "2"),
        ("message", "user", "Again"),
        ("call", "c", "f"),
        ("result", "c", "1"),
    ]);
    assert_eq!(
        in_short(&again),
        [
            "assistant: - [c c_2]",
            "tool: 1 <c>",
            "tool: 2 <c_2>",
            "user: Again",
            "assistant: - [c]",
            "tool: 1 <c>"
        ]
    );
    let long = "x".repeat(41);
    let cut = converse(&[("call", &long, "f"), ("result", &long, "1")]);
    assert_eq!(cut[1]["tool_call_id"], cut[0]["tool_calls"][0]["id"]);
}

#[test]
fn roles_of_other_programs_become_roles_of_the_api() {
    let messages = converse(&[
        ("message", "Agent", "Hi"),
        ("message", "HUMAN", "Hi"),
        ("message", "night shift!", "Obey"),
        ("message", "developer", "Be kind"),
        ("message", "function", "4"),
        ("evil", "user", "Hi"),
    ]);
    let short = in_short(&messages);
    assert_eq!(short[..4], ["assistant: Hi", "user: Hi", "user: Obey", "developer: Be kind"]);
    assert!(short[5].starts_with("tool: 4 <") && short.len() == 6, "{short:?}");
    assert_eq!(messages[2]["name"], "night_shift_");
}

#[test]
fn arguments_are_json_in_a_string_and_results_are_text() {
    let said = |arguments: &str, response: &str| {
        let part = format!(r#"{{"type":"tool_call","id":7,"name":"s p\u00e4m","arguments":{arguments}}}"#);
        let result = format!(r#"{{"type":"tool_call_response","id":7,"response":{response}}}"#);
        let rows = [
            row(0, "assistant", "message", "Wait", Some(&format!("[7, {part}, {{\"type\":1}}]"))),
            row(1, "tool", "tool_result", "described", Some(&format!("[{result}]"))),
        ];
        let messages = export(&rows);
        let function = &messages[0]["tool_calls"][0]["function"];
        assert_eq!((&function["name"], &messages[0]["content"]), (&json!("s_p_m"), &json!("Wait")));
        (
            function["arguments"].as_str().unwrap().to_owned(),
            messages[1]["content"].as_str().unwrap().to_owned(),
        )
    };
    for (arguments, expected) in [
        (r#"{"b":1.50,"a":123456789012345678901}"#, r#"{"b":1.50,"a":123456789012345678901}"#),
        (r#""{\"a\":1}""#, r#"{"a":1}"#),
        (r#""not {json""#, r#""not {json""#),
        (r#""""#, "{}"),
        ("null", "{}"),
        ("[1e999]", "[1e999]"),
    ] {
        assert_eq!(said(arguments, "1").0, expected, "{arguments}");
    }
    for (response, expected) in [
        (r#""4 degrees""#, "4 degrees"),
        (r#"{"celsius":4.0}"#, r#"{"celsius":4.0}"#),
        (r#"[{"type":"text","text":"4"},{"type":"text","text":"dry"}]"#, "4\ndry"),
        ("[4]", "[4]"),
        ("null", "described"),
    ] {
        assert_eq!(said("{}", response).1, expected, "{response}");
    }
}

#[test]
fn only_so_many_messages_wait_for_a_result() {
    for (messages, text) in [(MAX_WAITING + 5, "x".to_owned()), (20, "x".repeat(MAX_WAITING_BYTES / 10))] {
        let mut transcript = OpenAiTranscript::default();
        let mut out = String::new();
        transcript.write_start(&session(), &mut out);
        let call = json!([{"type": "tool_call", "id": "a", "name": "f"}]).to_string();
        transcript.write_message(&row(0, "assistant", "tool_call", "", Some(&call)), &mut out);
        (1..=messages).for_each(|place| {
            transcript.write_message(&row(place, "user", "message", &text, None), &mut out);
        });
        assert!(
            out.contains(NO_RESULT) && out.ends_with("\"}"),
            "the call is closed and what waited is written"
        );
        let late = json!([{"type": "tool_call_response", "id": "a", "response": "4"}]).to_string();
        transcript.write_message(&row(messages + 1, "tool", "tool_result", "", Some(&late)), &mut out);
        transcript.write_end(&session(), &mut out);
        let short = in_short(&accepted(&out));
        assert_eq!(short.len(), messages + 4);
        assert_eq!(short[messages + 2..], ["assistant: - [a]", "tool: 4 <a>"]);
    }
}

fn word(words: &[&'static str]) -> impl Strategy<Value = &'static str> + use<> {
    prop::sample::select(words.to_vec())
}

/// Draws the JSON of a part: a call, a result, or anything.
fn part() -> impl Strategy<Value = String> {
    let id = word(&[
        "\"a\"",
        "\"b\"",
        "\"a_2\"",
        "7",
        "\"\"",
        "null",
        "{}",
        "\"\\ud800\"",
        "\"0123456789012345678901234567890123456789x\"",
    ]);
    let name = word(&["\"f\"", "\"g h\"", "\"\"", "null", "4", "\"\u{e9}\""]);
    let value = word(&[
        "{}",
        "{\"a\":1.0}",
        "\"{}\"",
        "\"x\"",
        "\"\"",
        "null",
        "1e999",
        "[{\"type\":\"text\",\"text\":\"t\"}]",
        "\"\\ud800\"",
    ]);
    let kind = word(&["tool_call", "tool_call", "tool_call_response", "tool_call_response", "text"]);
    let member = word(&["arguments", "response", "result", "content"]);
    let object = (kind, id, name, member, value).prop_map(|(kind, id, name, member, value)| {
        format!(r#"{{"type":"{kind}","id":{id},"name":{name},"{member}":{value}}}"#)
    });
    prop_oneof![8 => object, 1 => word(&["7", "[]", "{}", "{\"type\":[]}"]).prop_map(str::to_owned)]
}

fn any_row() -> impl Strategy<Value = MessageRow> {
    let role =
        word(&["user", "assistant", "assistant", "system", "developer", "tool", "tool", "agent", "KING", ""]);
    let kind = word(&[
        "message",
        "message",
        "tool_call",
        "tool_call",
        "tool_result",
        "tool_result",
        "event",
        "evil",
    ]);
    let content = word(&["", " ", "one", "two\n", "{}"]);
    let parts = prop_oneof![
        9 => Just(None),
        3 => word(&["{", "{}", "null", "7"]).prop_map(|odd| Some(odd.to_owned())),
        30 => prop::collection::vec(part(), 0..4).prop_map(|parts| Some(format!("[{}]", parts.join(",")))),
        1 => (100..300usize).prop_map(|count| Some(format!("[{}]", vec![r#"{"type":"tool_call"}"#; count].join(",")))),
    ];
    (0..1_000usize, role, kind, content, parts).prop_map(|(place, role, kind, content, parts)| {
        let content =
            if content.trim().is_empty() { content.to_owned() } else { format!("{content}{place}.") };
        row(place, role, kind, &content, parts.as_deref())
    })
}

/// Prints the seed. `TALKTRACK_SEED` with this value draws the same cases again.
fn config() -> ProptestConfig {
    let seed = talktrack_testbed::cut::seed();
    eprintln!("TALKTRACK_SEED={seed} draws the same again");
    ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        cases: 1_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_api_takes_every_conversation_and_no_text_is_missing(rows in prop::collection::vec(any_row(), 0..40)) {
        let messages = export(&rows);
        let texts: Vec<_> = messages.iter().filter_map(|message| message["content"].as_str()).collect();
        let is_left_out = |row: &&MessageRow| ["event", "evil"].contains(&row.kind.as_str()) || row.content.trim().is_empty();
        for row in rows.iter().filter(|row| row.parts.is_none() && !is_left_out(row)) {
            prop_assert!(texts.iter().any(|text| text.contains(&row.content)), "{:?} in {texts:?}", row.content);
        }
    }
}
