//! A key with every scope that is limited to Ben: it learns nothing of Ann and nothing about the server as a whole.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{SECRET_WORDS, Scene};
use crate::auth::{new_key, new_limited_key, serve_with};
use crate::harness::{Home, HttpAnswer, Server};

/// How a route responds to the key.
#[derive(Debug, Clone, Copy)]
enum Answers {
    /// As if the session did not exist: the same for Ann's session and for one that does not exist.
    NotFound,
    /// 403, because the route concerns all users.
    Forbidden,
    /// Only Ben's rows; 403 if the query names Ann.
    OwnOnly,
    /// The same as to a caller without a key.
    AsToStrangers,
    /// Not tested here, because the route has its own tests.
    Starts,
}

/// Every route of the API description, and the pages of the dashboard, which are not in it. A route that is missing
/// here fails the test: decide what a limited key may see there.
const ROUTES: [(&str, Answers); 34] = [
    ("DELETE /v1/sessions/{session_id}", Answers::NotFound),
    ("DELETE /v1/sessions/{session_id}/messages", Answers::NotFound),
    ("DELETE /v1/sessions/{session_id}/messages/{message_id}", Answers::NotFound),
    ("DELETE /v1/users/{user_id}", Answers::Forbidden),
    ("GET /", Answers::OwnOnly),
    ("GET /health", Answers::Forbidden),
    ("GET /health/drop", Answers::Forbidden),
    ("GET /health/figures", Answers::Forbidden),
    ("GET /health/letters/1", Answers::Forbidden),
    ("GET /healthz", Answers::AsToStrangers),
    ("GET /metrics", Answers::Forbidden),
    ("GET /readyz", Answers::AsToStrangers),
    ("GET /sessions/{session_id}", Answers::NotFound),
    ("GET /sessions/{session_id}/delete", Answers::NotFound),
    ("GET /sessions/{session_id}/head", Answers::NotFound),
    ("GET /sessions/{session_id}/said", Answers::NotFound),
    ("GET /stats", Answers::OwnOnly),
    ("GET /v1/events", Answers::OwnOnly),
    ("GET /v1/search", Answers::OwnOnly),
    ("GET /v1/sessions", Answers::OwnOnly),
    ("GET /v1/sessions/{session_id}", Answers::NotFound),
    ("GET /v1/sessions/{session_id}/audio/{name}", Answers::NotFound),
    ("GET /v1/sessions/{session_id}/export", Answers::NotFound),
    ("GET /v1/sessions/{session_id}/messages", Answers::NotFound),
    ("GET /v1/sessions/{session_id}/messages/{message_id}", Answers::NotFound),
    ("GET /v1/stats", Answers::OwnOnly),
    ("GET /v1/users/{user_id}/export", Answers::Forbidden),
    ("PATCH /v1/sessions/{session_id}", Answers::NotFound),
    ("POST /v1/frames", Answers::Starts),
    ("POST /v1/sessions", Answers::Starts),
    ("POST /v1/sessions/{session_id}/audio", Answers::NotFound),
    ("POST /v1/sessions/{session_id}/end", Answers::NotFound),
    ("POST /v1/sessions/{session_id}/messages", Answers::NotFound),
    ("PUT /v1/sessions/{session_id}/messages", Answers::NotFound),
];

async fn known_routes(server: &Server) -> BTreeMap<String, Answers> {
    let mut known: BTreeMap<_, _> =
        ROUTES.into_iter().map(|(route, answers)| (route.to_owned(), answers)).collect();
    let description = server.get("/openapi.json").await.json();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let route = format!("{} {path}", method.to_uppercase());
            assert!(known.contains_key(&route), "what may a limited key see at {route}?");
        }
    }
    known.retain(|_, answers| !matches!(answers, Answers::Starts));
    known
}

async fn ask(server: &Server, key: &str, route: &str, session: Uuid, user: Uuid) -> HttpAnswer {
    let (method, path) = route.split_once(' ').unwrap();
    let path = path
        .replace("{session_id}", &session.to_string())
        .replace("{user_id}", &user.to_string())
        .replace("{message_id}", "00000000-0000-4000-8000-000000000008")
        .replace("{name}", "00000000-0000-4000-8000-000000000007.wav");
    let request = server.request(method, path.as_str()).token(key);
    let body = match route {
        "POST /v1/sessions/{session_id}/messages" => json!({"role": "user", "content": "forged"}),
        "PUT /v1/sessions/{session_id}/messages" => json!([{"role": "user", "content": "forged"}]),
        "PATCH /v1/sessions/{session_id}" => json!({"metadata": {"forged": true}}),
        _ => json!({}),
    };
    match route.ends_with("/audio") {
        true => request.body("audio/wav", "RIFF    WAVEfmt forged").send().await,
        false if method == "GET" => request.send().await,
        false => request.json(&body).send().await,
    }
}

#[tokio::test]
async fn a_key_that_is_limited_to_a_user_learns_nothing_of_others_and_of_the_server() {
    let mut scene = Scene::new(None).await;
    let ann = Uuid::new_v4();
    let ben = Uuid::new_v4();
    let session = scene.session_of(ann).await;
    let limited =
        new_limited_key(&scene.home, "ben", "read,write,metrics,admin", &["--users", &ben.to_string()]).await;
    scene.key.entry = format!("{} {}", scene.key.entry, limited.entry);
    let scene = scene.restart().await;
    let server = &scene.server;
    let key = &*limited.key;
    for (route, answers) in known_routes(server).await {
        match answers {
            Answers::NotFound => {
                let foreign = ask(server, key, &route, session, ann).await;
                let absent = ask(server, key, &route, Uuid::new_v4(), ann).await;
                assert_eq!((foreign.status, absent.status), (404, 404), "{route}: {foreign:?}");
            }
            Answers::Forbidden => {
                let refused = ask(server, key, &route, session, ann).await;
                assert_eq!(refused.status, 403, "{route}: {refused:?}");
            }
            Answers::OwnOnly => own_only(server, key, &route, ann).await,
            Answers::AsToStrangers => {
                let path = route.trim_start_matches("GET ");
                let strangers = server.get(path).await;
                let keys = server.get_with(path, key).await;
                assert_eq!((strangers.status, strangers.body), (keys.status, keys.body), "{route}");
            }
            Answers::Starts => {}
        }
    }
    for form in ["/health/replay", "/health/drop", "/sessions/x/delete"] {
        let form = form.replace('x', &session.to_string());
        let answer = server.request("POST", form.as_str()).token(key).json(&json!({})).send().await;
        assert!((400..=499).contains(&answer.status), "{form}: {answer:?}");
    }
    let path = format!("/v1/sessions/{session}/messages");
    let rows = server.get_with(&path, &scene.key.key).await.json();
    let said: Vec<_> = rows["messages"].as_array().unwrap().iter().map(|row| &row["content"]).collect();
    assert_eq!(said, [SECRET_WORDS], "nothing was changed or deleted");
}

/// Asserts that lists without a user contain only Ben's rows, and that the key cannot name Ann.
async fn own_only(server: &Server, key: &str, route: &str, ann: Uuid) {
    let path = route.trim_start_matches("GET ");
    let words = if path == "/v1/search" { "&q=words" } else { "" };
    let name = if path.starts_with("/v1/") { "user_id" } else { "user" };
    let refused = server.get_with(&format!("{path}?{name}={ann}{words}"), key).await;
    assert!(refused.status == 403 && !refused.body.contains(SECRET_WORDS), "{route}: {refused:?}");
    // The stream of events would never end.
    if path != "/v1/events" {
        let own = server.get_with(&format!("{path}?{}", words.trim_start_matches('&')), key).await;
        assert!(own.status == 200 && !own.body.contains(SECRET_WORDS), "{route}: {own:?}");
    }
}

/// The causes name hosts and tables and concern all users.
#[tokio::test]
async fn a_key_that_is_limited_to_a_user_does_not_learn_what_is_wrong_with_the_server() {
    let home = Home::new();
    let all = new_key(&home, "all", "metrics").await;
    let one = new_limited_key(&home, "one", "metrics,admin", &["--users", &Uuid::new_v4().to_string()]).await;
    let keys = format!("{} {}", all.entry, one.entry);
    // No server listens on this port.
    let environment = [("TALKTRACK_API_KEYS", &*keys), ("DATABASE_URL", "postgres://me@127.0.0.1:9/x")];
    let server = serve_with(&home, &environment).await;
    let told = async || {
        let ready = server.get_with("/readyz", &all.key).await;
        (ready.status == 503).then(|| ready.json())
    };
    let causes: Value = crate::harness::until_told("the store is missed", told).await;
    assert!(causes["causes"].as_array().is_some_and(|causes| !causes.is_empty()), "{causes}");
    let limited = server.get_with("/readyz", &one.key).await;
    assert_eq!((limited.status, limited.json()), (503, json!({"status": "not ready"})));
}
