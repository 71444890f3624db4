//! `POST /v1/frames`: one answer for each line, in the same order.

use serde_json::{Value, json};
use talktrack_testbed::Postgres;
use uuid::Uuid;

use super::{lines, post, say, start};
use crate::harness::remote::{arrives, has_status, migrated, said};
use crate::harness::{Home, Server};

/// Lines of these sessions: a start, two messages, an update and an end of each, interleaved.
fn conversation(sessions: &[Uuid], user: Uuid) -> Vec<Value> {
    let steps: [fn(Uuid, Uuid) -> Value; 5] = [
        start,
        |session, _| say(session, "one"),
        |session, _| say(session, "two"),
        |session, _| json!({"type": "session.update", "session_id": session, "metadata": {"room": 7}, "ref": "u"}),
        |session, _| json!({"type": "session.end", "session_id": session, "reason": "hangup", "ref": "e"}),
    ];
    steps.iter().flat_map(|step| sessions.iter().map(move |session| step(*session, user))).collect()
}

async fn adds_frames_of_many_sessions(server: &Server) -> Vec<Uuid> {
    let sessions: Vec<Uuid> = (0..200).map(|_| Uuid::new_v4()).collect();
    let frames = conversation(&sessions, Uuid::new_v4());
    let answers = lines(&post(server, "", &frames).await);
    assert_eq!(answers.len(), frames.len());
    let types = ["session.started", "ack", "ack", "session.updated", "session.ended"];
    for (place, (answer, frame)) in answers.iter().zip(&frames).enumerate() {
        assert_eq!(
            (&answer["type"], &answer["line"]),
            (&json!(types[place / 200]), &json!(place + 1)),
            "{answer}"
        );
        let told = if answer["type"] == "ack" { &answer["acks"][0] } else { answer };
        assert_eq!((&told["session_id"], &told["ref"]), (&frame["session_id"], &frame["ref"]), "{answer}");
    }
    sessions
}

#[tokio::test]
async fn a_request_adds_frames_of_many_sessions_in_sqlite() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let sessions = adds_frames_of_many_sessions(&server).await;
    server.kill().await;
    for session in &sessions {
        let row = home.database().session(*session).unwrap();
        assert_eq!((row.end(), row.message_count), (("ended", Some("hangup")), 2), "{session}");
        assert_eq!(
            (home.database().contents(*session), &row.metadata["room"]),
            (vec!["one".into(), "two".into()], &json!(7))
        );
    }
    home.verify().await;
}

#[tokio::test]
async fn a_request_adds_frames_of_many_sessions_in_postgresql() {
    let database = migrated(Postgres::shared()).await;
    let home = Home::new();
    let server = home.serve_on(&database.url()).await;
    for session in adds_frames_of_many_sessions(&server).await {
        arrives(&database, session, &["one", "two"]).await;
        assert_eq!(has_status(&database, session, "ended").await["end_reason"], "hangup");
    }
}

#[tokio::test]
async fn a_request_that_waits_for_the_store_is_answered_when_the_rows_are_there() {
    let database = migrated(Postgres::shared()).await;
    let home = Home::new();
    let server = home.serve_on(&database.url()).await;
    let session = Uuid::new_v4();
    let body = format!("{}\n{}\n", start(session, Uuid::new_v4()), say(session, "Hello"));
    let request = server.request("POST", "/v1/frames?wait=stored").body("application/x-ndjson", body);
    assert_eq!(lines(&request.send().await).len(), 2);
    assert_eq!(said(&database, session), ["Hello"]);
    let request = server.request("POST", "/v1/frames?wait=long").body("application/x-ndjson", "");
    request.send().await.problem(400, "invalid_message");
}

#[tokio::test]
async fn sessions_of_a_request_stay_open_and_the_next_request_continues_them() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let (session, user) = (Uuid::new_v4(), Uuid::new_v4());
    lines(&post(&server, "", &[start(session, user), say(session, "one")]).await);
    let again = lines(&post(&server, "", &[start(session, user), say(session, "two")]).await);
    assert_eq!((&again[0]["repeated"], &again[1]["type"]), (&json!(true), &json!("ack")), "{again:?}");
    assert_eq!(home.database().session(session).unwrap().status, "active");
    assert_eq!(home.database().contents(session), ["one", "two"]);
}

#[tokio::test]
async fn a_bad_line_touches_no_other_line() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let (session, user) = (Uuid::new_v4(), Uuid::new_v4());
    let bad = [
        ("nonsense".to_owned(), "invalid_json"),
        (r#"{"type":"message","ref":"r","content":"#.to_owned(), "invalid_json"),
        ("[]".to_owned(), "invalid_json"),
        (r#"{"type":"message","role":"user","ref":"r"}"#.to_owned(), "invalid_message"),
        (format!(r#"{{"type":"auth","token":"x","ref":"r","session_id":"{session}"}}"#), "invalid_message"),
        (say(Uuid::new_v4(), "r").to_string(), "session_not_found"),
    ];
    let mut body = format!("\u{FEFF}{}\r\n\n", start(session, user));
    for (line, _) in &bad {
        body.push_str(&format!("{line}\n \n{}\r\n", say(session, "good")));
    }
    body.push_str(r#"{"type":"ping","ref":"p"}"#);
    let request = server.request("POST", "/v1/frames").body("application/x-ndjson", body);
    let answers = lines(&request.send().await);
    assert_eq!((answers[0]["type"].as_str(), answers.len()), (Some("session.started"), 2 * bad.len() + 2));
    for (place, (line, code)) in bad.iter().enumerate() {
        let [error, ack] = &answers[2 * place + 1..2 * place + 3] else { panic!("{answers:?}") };
        assert_eq!((&error["code"], &error["line"]), (&json!(code), &json!(3 + 3 * place)), "{error}");
        assert_eq!(error["ref"] == "r", line.contains("\"r\""), "{error}");
        assert_eq!((&ack["type"], &ack["line"]), (&json!("ack"), &json!(5 + 3 * place)), "{ack}");
    }
    assert_eq!((&answers[13]["type"], &answers[13]["ref"]), (&json!("pong"), &json!("p")));
    assert_eq!(home.database().contents(session).len(), bad.len());
}

#[tokio::test]
async fn the_body_of_a_request_is_lines_of_json_within_its_limits() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let ping = r#"{"type":"ping"}"#;
    for accepted in ["application/x-ndjson", "application/jsonl; charset=utf-8", "application/json"] {
        let request = server.request("POST", "/v1/frames").body(accepted, ping);
        assert_eq!(lines(&request.send().await).len(), 1, "{accepted}");
    }
    for refused in ["text/plain", "application/x-www-form-urlencoded"] {
        let request = server.request("POST", "/v1/frames").body(refused, ping);
        request.send().await.problem(415, "unsupported");
    }
    let empty = server.request("POST", "/v1/frames").body("application/x-ndjson", "\n \n");
    assert!(lines(&empty.send().await).is_empty());
    let many = server.request("POST", "/v1/frames").body("application/x-ndjson", "{}\n".repeat(50_001));
    assert!(many.send().await.problem(413, "too_large").contains("50000 lines"));
}

#[tokio::test]
async fn while_the_store_is_away_frames_are_durable_and_delivered_later() {
    let mut cluster = Postgres::start();
    let database = migrated(&cluster).await;
    let home = Home::new();
    let server = home.serve_on(&database.url()).await;
    let (session, user) = (Uuid::new_v4(), Uuid::new_v4());
    cluster.stop();
    let answers =
        lines(&post(&server, "", &[start(session, user), say(session, "one"), say(session, "two")]).await);
    assert!(answers.iter().all(|answer| answer["type"] != "error"), "{answers:?}");
    cluster.start_again();
    arrives(&database, session, &["one", "two"]).await;
}
