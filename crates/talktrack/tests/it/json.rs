//! JSON is validated once, on entry, and is then carried exactly as the caller spelled it.

use serde_json::json;
use talktrack::json::{InvalidJson, MAX_DEPTH, depth};
use talktrack::message::TurnMetrics;
use talktrack::{JsonArray, JsonObject};

fn nested(levels: usize) -> String {
    format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
}

#[test]
fn json_may_be_nested_up_to_the_limit_and_no_deeper() {
    assert_eq!(depth(&nested(MAX_DEPTH)), MAX_DEPTH);
    JsonObject::parse(&nested(MAX_DEPTH)).expect("the limit is within it");
    assert_eq!(JsonObject::parse(&nested(MAX_DEPTH + 1)), Err(InvalidJson::TooDeep));
    assert_eq!(JsonObject::parse(&nested(100_000)), Err(InvalidJson::TooDeep), "and no stack overflows");
    let objects = format!("[{}1{}]", "{\"a\":".repeat(MAX_DEPTH), "}".repeat(MAX_DEPTH));
    assert_eq!(JsonArray::parse(&objects), Err(InvalidJson::TooDeep));
    let open = "[".repeat(50_000);
    assert_eq!(JsonArray::parse(&open), Err(InvalidJson::TooDeep));
}

#[test]
fn brackets_inside_strings_nest_nothing() {
    let text = format!("{{\"{}\":\"\\\"{}\\\\\"}}", "[{".repeat(500), "{[".repeat(500));
    assert_eq!(depth(&text), 1);
    let parsed = JsonObject::parse(&text).unwrap();
    assert_eq!(parsed.to_value()["[{".repeat(500).as_str()], format!("\"{}\\", "{[".repeat(500)));
    assert_eq!((depth("[[],[[]],{}]"), depth("1"), depth("")), (3, 0, 0));
}

#[test]
fn numbers_may_have_as_many_digits_as_postgresql_holds_and_no_more() {
    let nines = |digits: usize| "9".repeat(digits);
    for good in [
        "0",
        "-0.0e0",
        "1e131071",
        "12.5E+131070",
        "1e-16383",
        "0.1e-16382",
        &nines(131_072),
        &format!("0.{}", nines(16_383)),
        "\"1e999999\"",
        "\"\\\"1e999999\"",
    ] {
        let parsed = JsonObject::parse(&format!("{{\"a\":[1,{good}]}}"));
        assert!(parsed.is_ok(), "{}: {parsed:?}", &good[..good.len().min(40)]);
    }
    for bad in [
        "1e131072",
        "-1e131072",
        "1e999999",
        "12.5E+131071",
        "1e99999999999999999999999999",
        "1e-99999999999999999999999999",
        "1e-16384",
        "1.5e-16383",
        "-1.5e-999999",
        &nines(131_073),
        &format!("0.{}", nines(16_384)),
    ] {
        let refused = JsonArray::parse(&format!("[\"1\",{{\"b\":{bad}}}]"));
        assert_eq!(refused, Err(InvalidJson::NumberOutOfRange), "{}", &bad[..bad.len().min(40)]);
    }
}

/// PostgreSQL returns numbers without exponents. Without this bound a few bytes could become gigabytes.
#[test]
fn numbers_together_have_a_bound_by_what_they_are_written_out() {
    let many = |number: &str, times: usize| format!("[{}]", vec![number; times].join(","));
    assert!(JsonArray::parse(&many("1e131071", 8)).is_ok());
    assert_eq!(JsonArray::parse(&many("1e131071", 9)), Err(InvalidJson::TooManyDigits));
    assert_eq!(JsonArray::parse(&many("-1.5e-1000", 2_000)), Err(InvalidJson::TooManyDigits));
    // An embedding is accepted, and so are numbers that are written out in full.
    assert!(JsonArray::parse(&many("-0.00012345678901234567e-5", 4_096)).is_ok());
    assert!(JsonArray::parse(&many(&"7".repeat(1_000), 2_000)).is_ok());
}

#[test]
fn half_a_surrogate_pair_is_refused_wherever_it_stands() {
    for bad in [
        r#"{"a":"\ud83d"}"#,
        r#"{"a":"\ude00"}"#,
        r#"{"a":"\ud83dx"}"#,
        r#"{"a":"\ude00\ud83d"}"#,
        r#"{"a":"\ud83d\ud83d"}"#,
        r#"{"\ud83d":1}"#,
        r#"{"a":[[{"b":"\uD83D"}]]}"#,
        r#"{"a":"\u12"}"#,
    ] {
        let refused = JsonObject::parse(bad);
        assert!(matches!(refused, Err(InvalidJson::Syntax(_))), "{bad}: {refused:?}");
    }
    let whole = JsonObject::parse(r#"{"a":"\ud83d\ude00","b":"\\ud83d"}"#).unwrap();
    assert_eq!(serde_json::Value::Object(whole.to_value()), json!({"a": "\u{1F600}", "b": "\\ud83d"}));
}

#[test]
fn a_text_is_refused_for_its_escapes_exactly_where_a_full_parse_refuses_it() {
    const PIECES: [&str; 10] =
        ["\\ud83d", "\\ude00", "\\uDBFF", "\\udc00", "\\u0041", "\\u0000", "\\\\", "\\n", "ud83d", "\u{e9}"];
    let mut random = fastrand::Rng::with_seed(7);
    let mut refused = 0;
    for _ in 0..20_000 {
        let string: String = (0..random.usize(1..6)).map(|_| PIECES[random.usize(..10)]).collect();
        let text = format!("[\"{string}\"]");
        let parsed = serde_json::from_str::<serde_json::Value>(&text);
        assert_eq!(JsonArray::parse(&text).is_ok(), parsed.is_ok(), "{text}");
        refused += u32::from(parsed.is_err());
    }
    assert!((1_000..19_000).contains(&refused), "both happen: {refused} of 20,000 are refused");
}

#[test]
fn merging_keeps_every_value_as_it_is_spelled() {
    let one = JsonObject::parse(
        r#"{ "big" : 123456789012345678901234567890, "huge":1e400 ,"s":"\u0041", "x":{ "a":1 }}"#,
    )
    .unwrap();
    let other = JsonObject::parse(r#"{"x":[ 1.50 ],"\u0079":null}"#).unwrap();
    let merged = one.merged(&other);
    let expected =
        r#"{"big":123456789012345678901234567890,"huge":1e400,"s":"\u0041","x":[ 1.50 ],"y":null}"#;
    assert_eq!(merged.as_str(), expected);
    assert_eq!(JsonObject::parse(expected).unwrap(), merged);
    assert_eq!(JsonObject::default().merged(&JsonObject::default()).as_str(), "{}");
}

#[test]
fn what_is_no_json_or_of_another_type_is_refused_with_the_reason() {
    let wrong_type = InvalidJson::WrongType;
    for other in ["[]", "null", "1", "\"{}\"", "true", "", "  "] {
        assert_eq!(JsonObject::parse(other), Err(wrong_type("object")), "{other:?}");
    }
    for other in ["{}", "null", ""] {
        assert_eq!(JsonArray::parse(other), Err(wrong_type("array")), "{other:?}");
    }
    for broken in [
        "{",
        "{}}",
        "{\"a\"}",
        "{\"a\":1,}",
        "{'a':1}",
        "{\"a\":1} x",
        "{\"a\":NaN}",
        "{\"a\":01}",
        "{\"a\":\"\n\"}",
    ] {
        assert!(matches!(JsonObject::parse(broken), Err(InvalidJson::Syntax(_))), "{broken:?}");
    }
    assert_eq!(JsonObject::parse("[]").unwrap_err().to_string(), "must be a JSON object");
    assert_eq!(JsonArray::parse("{}").unwrap_err().to_string(), "must be a JSON array");
}

#[test]
fn json_is_carried_as_it_is_spelled_surrounding_space_aside() {
    let spelled = r#"{ "b" : 1.0 ,"a":1e3, "b":2,"big":98765432109876543210,"s":"\u0041\/" }"#;
    let parsed = JsonObject::parse(&format!("\n\t {spelled} \r\n")).unwrap();
    assert_eq!(parsed.as_str(), spelled);
    assert_eq!(serde_json::to_string(&parsed).unwrap(), spelled);
    assert_eq!(serde_json::from_str::<JsonObject>(spelled).unwrap(), parsed);
    assert!(serde_json::from_str::<JsonObject>("[1]").is_err());
    assert!(serde_json::from_str::<JsonArray>(r#"["\ud83d"]"#).is_err());
}

#[test]
fn a_map_becomes_the_object_it_was() {
    let map = json!({"a\"b\\\n": [1, null, {"\u{0}": "\u{1F600}"}], "": -1.5}).as_object().unwrap().clone();
    let object = JsonObject::from(&map);
    assert_eq!(object.to_value(), map);
    assert_eq!(JsonObject::parse(object.as_str()).unwrap(), object);
    assert_eq!(JsonObject::from(&serde_json::Map::new()).as_str(), "{}");
}

#[test]
fn the_known_metrics_have_their_types_and_unknown_ones_are_kept() {
    let metrics = |text: &str| TurnMetrics::try_from(JsonObject::parse(text).unwrap());
    let numbers = "stt_ms eou_ms llm_ttft_ms tts_ttfb_ms e2e_ms heard_ms audio_start_ms audio_end_ms input_tokens \
                   output_tokens confidence";
    for key in numbers.split_whitespace() {
        metrics(&format!("{{\"{key}\":1.5}}")).expect("a number");
        metrics(&format!("{{\"{key}\":null}}")).expect("nothing known");
        let refused = metrics(&format!("{{\"{key}\":\"1\"}}")).expect_err("no number");
        assert_eq!(refused.to_string(), format!("metrics: {key}: must be a number"));
    }
    for key in ["model", "provider", "language"] {
        metrics(&format!("{{\"{key}\":\"x\"}}")).expect("a string");
        let refused = metrics(&format!("{{\"{key}\":1}}")).expect_err("no string");
        assert_eq!(refused.to_string(), format!("metrics: {key}: must be a string"));
    }
    let own = r#"{"own": {"nested": [1]}, "stt_ms": 12}"#;
    assert_eq!(metrics(own).unwrap().as_json().as_str(), own);
}

#[test]
fn texts_are_equal_exactly_where_they_mean_the_same() {
    let groups = [
        vec![
            r#"{"a":1,"b":[true,null,"x"]}"#,
            r#" { "b" : [ true, null, "\u0078" ], "a" : 1.0 } "#,
            r#"{"a":2,"b":[true,null,"x"],"a":10e-1}"#,
        ],
        vec![r#"{"a":1,"b":[true,null,"y"]}"#],
        vec![r#"{"a":1,"b":[null,true,"x"]}"#],
        vec![r#"{"a":1}"#, r#"{"a":100e-2}"#],
        vec![r#"{"a":"1"}"#],
        vec![r#"{"a":-1}"#],
        vec![r#"{"a":0}"#, r#"{"a":-0.00e7}"#],
        vec![r#"{"a":12345678901234567890123}"#, r#"{"a":1234567890123456789012.3E+1}"#],
        vec![r#"{"a":12345678901234567890124}"#],
        vec![r#"{"a":1e400}"#, r#"{"a":10e399}"#],
        vec![r#"{"a":null}"#],
        vec!["{}"],
    ];
    let parse = |text: &str| JsonObject::parse(text).unwrap();
    for (place, group) in groups.iter().enumerate() {
        for (other_place, other_group) in groups.iter().enumerate() {
            for (one, other) in group.iter().flat_map(|one| other_group.iter().map(move |other| (one, other)))
            {
                assert_eq!(parse(one) == parse(other), place == other_place, "{one} and {other}");
            }
        }
    }
}

#[test]
fn line_breaks_between_the_parts_become_spaces_so_that_a_line_of_jsonl_stays_one() {
    let parsed = JsonObject::parse("{\"a\":\n 1,\r\n\"b\":\"x\\ny\"}").unwrap();
    assert_eq!(parsed.as_str(), "{\"a\":  1,  \"b\":\"x\\ny\"}");
}
