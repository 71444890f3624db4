//! Ben's attempts, and the permitted responses.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{SECRET_WORDS, Scene, token};
use crate::harness::{Client, HttpAnswer, upgrade};

/// Routes that name no session: their results are filtered by user, or contain no conversation. A route that neither is
/// in this list nor names a session fails the suite: decide who may use it, and add a case.
pub(super) const WITHOUT_SESSION: [&str; 9] = [
    "DELETE /v1/users/{user_id}",
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /v1/events",
    "GET /v1/search",
    "GET /v1/sessions",
    "GET /v1/stats",
    "GET /v1/users/{user_id}/export",
];

/// Routes whose bodies name the session. Each has its own case below.
const IN_BODY: [&str; 2] = ["POST /v1/frames", "POST /v1/sessions"];

/// Pages of the dashboard, which are not in the description of the API.
const PAGES: [&str; 4] = [
    "GET /sessions/{session_id}",
    "GET /sessions/{session_id}/head",
    "GET /sessions/{session_id}/said",
    "GET /sessions/{session_id}/delete",
];

/// Returns every route that names a session.
async fn routes(scene: &Scene) -> BTreeSet<String> {
    let description = scene.server.get("/openapi.json").await.json();
    let mut routes = BTreeSet::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let route = format!("{} {path}", method.to_uppercase());
            if IN_BODY.contains(&route.as_str()) || WITHOUT_SESSION.contains(&route.as_str()) {
                continue;
            }
            assert!(path.contains("{session_id}"), "no case for {route}: see WITHOUT_SESSION");
            routes.insert(route);
        }
    }
    routes.extend(PAGES.map(str::to_owned));
    routes
}

/// Returns the response to each attempt on this session, with the session's id replaced.
async fn answers(scene: &Scene, attacker: &str, session: Uuid) -> Vec<(String, u16, String)> {
    let token = token(attacker);
    let name = Uuid::from_u128(7);
    let mut attempts = Vec::new();
    for route in routes(scene).await {
        let (method, path) = route.split_once(' ').unwrap();
        let path = path
            .replace("{session_id}", &session.to_string())
            .replace("{message_id}", &name.to_string())
            .replace("{name}", &format!("{name}.wav"));
        attempts.push((route.clone(), method.to_owned(), path));
    }
    let bodies = |route: &str| match route {
        "POST /v1/sessions/{session_id}/messages" => {
            json!({"role": "user", "content": "forged", "revision": 9})
        }
        "PUT /v1/sessions/{session_id}/messages" => json!([{"role": "user", "content": "forged"}]),
        "PATCH /v1/sessions/{session_id}" => json!({"metadata": {"forged": true}}),
        _ => json!({}),
    };
    let ask = async |(route, method, path): &(String, String, String)| -> (String, HttpAnswer) {
        let request = scene.server.request(method, path.as_str()).token(&token);
        let request = match route.ends_with("/audio") {
            true => request.body("audio/wav", "RIFF    WAVEfmt forged"),
            false => request.json(&bodies(route)),
        };
        (route.clone(), request.send().await)
    };
    let mut answers = join_all(attempts.iter().map(ask)).await;
    let start = json!({"session_id": session});
    answers.push(("POST /v1/sessions".into(), scene.ask(&token, "POST", "/v1/sessions", &start).await));
    let authorization = format!("Bearer {token}");
    for query in
        [format!("session_id={session}"), format!("session_id={session}&user_id={}", in_a_query(attacker))]
    {
        let path = format!("/v1/ws?{query}");
        let (_, answer) = upgrade(scene.server.address, &path, &[("Authorization", &authorization)]).await;
        answers.push(("GET /v1/ws".into(), answer));
    }
    let told = |(route, answer): (String, HttpAnswer)| {
        let text = answer.body.replace(&session.to_string(), "SESSION");
        (route, answer.status, text)
    };
    answers.into_iter().map(told).collect()
}

/// Asserts that all of Ben's attempts have the status `refusal`, with the same text for Ann's session and for one that
/// does not exist.
pub(super) async fn is_refused(scene: &Scene, attacker: &str, session: Uuid, refusal: u16) {
    is_refused_by_name(scene, attacker, session, refusal).await;
    lists_show_nothing(scene, attacker).await;
}

/// Asserts the same without the lists, which would wait for a locked table.
pub(super) async fn is_refused_by_name(scene: &Scene, attacker: &str, session: Uuid, refusal: u16) {
    let foreign = answers(scene, attacker, session).await;
    let absent = answers(scene, attacker, Uuid::new_v4()).await;
    assert_eq!(foreign, absent, "what is Ann's and what is absent must look the same");
    for (route, status, body) in &foreign {
        assert_eq!(*status, refusal, "{route}: {body}");
        assert!(!body.contains(SECRET_WORDS), "{route}: {body}");
    }
    frames_reach_no_other_session(scene, attacker, session).await;
    let foreign = answers_of_a_feed(scene, attacker, session).await;
    let absent = answers_of_a_feed(scene, attacker, Uuid::new_v4()).await;
    assert_eq!(foreign, absent, "what is Ann's and what is absent must look the same");
}

/// Asserts that requests of Ben that name no session show nothing of Ann.
async fn lists_show_nothing(scene: &Scene, attacker: &str) {
    let token = token(attacker);
    for path in ["/v1/sessions", "/v1/search?q=words", "/v1/stats"] {
        let answer = scene.server.get_with(path, &token).await;
        assert!(matches!(answer.status, 200 | 503), "{path}: {answer:?}");
        assert!(!answer.body.contains(SECRET_WORDS), "{path}: {answer:?}");
    }
}

/// Returns the answers to frames of Ben about this session on a feed and in a request, with the session's id replaced. All
/// must be refused.
async fn answers_of_a_feed(scene: &Scene, attacker: &str, session: Uuid) -> Vec<String> {
    let frames = [
        json!({"type": "message", "session_id": session, "role": "user", "content": "forged"}),
        json!({"type": "session.update", "session_id": session, "metadata": {"forged": true}}),
        json!({"type": "session.end", "session_id": session, "reason": "forged"}),
        json!({"type": "session.start", "session_id": session}),
    ];
    let body: String = frames.iter().map(|frame| format!("{frame}\n")).collect();
    let request = scene.server.request("POST", "/v1/frames").token(&token(attacker));
    let answer = request.body("application/x-ndjson", body).send().await;
    let mut answers: Vec<Value> =
        answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut feed = Client::come_with(&scene.server, "feed=true", &token(attacker)).await;
    for frame in frames {
        feed.send(frame).await;
        answers.push(feed.receive().await);
    }
    assert!(answers.iter().all(|answer| answer["type"] == "error"), "{answers:?}");
    answers.iter().map(|answer| answer.to_string().replace(&session.to_string(), "SESSION")).collect()
}

/// Asserts that each frame of Ben's own connection that names Ann's session is refused.
async fn frames_reach_no_other_session(scene: &Scene, attacker: &str, session: Uuid) {
    let mut client = Client::come_with(&scene.server, "", &token(attacker)).await.expect_started().await;
    for frame in [
        json!({"type": "message", "role": "user", "content": "forged"}),
        json!({"type": "session.update", "metadata": {"forged": true}}),
        json!({"type": "session.end", "reason": "forged"}),
        json!({"type": "session.start", "user_id": attacker}),
        json!({"type": "auth", "token": token(attacker)}),
        json!({"type": "ping"}),
    ] {
        let mut frame = frame;
        frame["session_id"] = json!(session);
        frame["ref"] = json!("forged");
        client.send(frame).await;
        client.refused("invalid_message", Value::from("forged")).await;
    }
}

fn in_a_query(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
