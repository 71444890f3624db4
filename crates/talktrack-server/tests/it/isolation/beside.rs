//! Requests of Ben that name no session: statistics, the event stream, the pages, and operations on users and dead
//! letters.

use std::time::Duration;

use serde_json::{Value, json};
use talktrack_testbed::{Postgres, Proxy};
use uuid::Uuid;

use super::attack::WITHOUT_SESSION;
use super::{SECRET_WORDS, Scene, token};
use crate::harness::remote::{arrives, migrated};
use crate::harness::{Client, Listener, until_told, upgrade};

/// How long the test listens to a stream that must stay silent.
const SILENCE: Duration = Duration::from_millis(300);

/// Pages and forms that name no session.
const PAGES: [(&str, &str); 11] = [
    ("GET", "/"),
    ("GET", "/stats"),
    ("GET", "/talk"),
    ("GET", "/health"),
    ("GET", "/health/figures"),
    ("GET", "/health/letters/1"),
    ("POST", "/health/replay"),
    ("GET", "/health/drop"),
    ("POST", "/health/drop"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
];

/// Asserts that Ben gets the same responses for Ann as for a user who does not exist, and that they show nothing of
/// Ann.
async fn shows_nothing(scene: &Scene, attacker: Uuid, ann: Uuid, session: Uuid) {
    let token = token(attacker);
    let nobody = Uuid::new_v4();
    let absent = Uuid::new_v4();
    let ask = async |method: &str, path: &str, user: Uuid, session: Uuid| {
        let path = path.replace("{user_id}", &user.to_string()).replace("{session_id}", &session.to_string());
        let answer = scene.ask(&token, method, &path, &json!({})).await;
        let text = answer.body.replace(&user.to_string(), "USER").replace(&session.to_string(), "SESSION");
        (answer.status, text)
    };
    let mut paths: Vec<(&str, String)> =
        WITHOUT_SESSION.map(|route| route.split_once(' ').unwrap()).map(|(m, p)| (m, p.to_owned())).into();
    // The event stream never ends; `hears_nothing` tests it.
    paths.retain(|(_, path)| path != "/v1/events");
    for (path, filter) in [
        ("/v1/sessions", "user_id={user_id}"),
        ("/v1/search", "q=words&user_id={user_id}"),
        ("/v1/search", "q=words&session_id={session_id}"),
        ("/v1/stats", "user_id={user_id}"),
        ("/v1/events", "user_id={user_id}"),
        ("/sessions", "user_id={user_id}"),
    ] {
        paths.push(("GET", format!("{path}?{filter}")));
    }
    paths.extend(PAGES.map(|(method, path)| (method, path.to_owned())));
    for (method, path) in &paths {
        let foreign = ask(method, path, ann, session).await;
        let said = format!("{method} {path}: {foreign:?}");
        assert!(!foreign.1.contains(SECRET_WORDS), "{said}");
        for id in [ann, session] {
            assert!(!foreign.1.contains(&id.to_string()), "{said}");
        }
        let is_figures = matches!(path.as_str(), "/metrics" | "/healthz" | "/readyz" | "/v1/stats");
        // Ben's own data may change between the two requests, and the index may still be incomplete, so the comparison
        // is repeated. A real difference would appear every time.
        let same = async || {
            let foreign = ask(method, path, ann, session).await;
            let absent = ask(method, path, nobody, absent).await;
            (foreign == absent).then_some(())
        };
        if !is_figures {
            until_told(&format!("{method} {path} is answered alike"), same).await;
        }
        if method != &"GET" || path.contains("health/") {
            assert!((400..=503).contains(&foreign.0), "a user may do nothing of the kind: {said}");
        }
    }
    let figures = scene.ask(&token, "GET", "/metrics", &json!({})).await;
    assert_eq!(figures.status, 403, "the figures are of all users: {figures:?}");
}

/// Asserts that Ben's streams contain only his own events while Ann talks, and that one that asks for Ann's session
/// contains none.
async fn hears_nothing(scene: &Scene, attacker: Uuid, session: Uuid, his: &mut Client) {
    let authorization = format!("Authorization: Bearer {}\r\n", token(attacker));
    let mut streams = Vec::new();
    for query in ["", "last_event_id=0", &format!("session_id={session}&last_event_id=0")] {
        streams
            .push((query.contains("session_id"), Listener::with(&scene.server, query, &authorization).await));
    }
    scene.says(&scene.key.key, session, "Ann goes on").await;
    his.say("Ben's own").await;
    for (_, stream) in streams.iter_mut().filter(|(is_of_ann, _)| !is_of_ann) {
        loop {
            let told = stream.next().await.expect("the stream goes on");
            assert_eq!(told.data["session_id"], json!(his.session), "{told:?}");
            if told.data["content"] == "Ben's own" {
                break;
            }
        }
    }
    // By now the server has told the other streams what came after Ann's words.
    for (_, stream) in streams.iter_mut().filter(|(is_of_ann, _)| *is_of_ann) {
        let told = tokio::time::timeout(SILENCE, stream.next()).await;
        assert!(told.is_err(), "Ben's stream of Ann's session is silent: {told:?}");
    }
}

/// Asserts that an `auth` frame can only continue a connection as the same user.
async fn stays_who_he_is(scene: &Scene, attacker: Uuid, ann: Uuid, session: Uuid) {
    let mut client = Client::come_with(&scene.server, "", &token(attacker)).await.expect_started().await;
    for frame in [
        json!({"type": "auth", "token": token(ann), "ref": "auth"}),
        json!({"type": "auth", "token": scene.key.key, "ref": "auth"}),
    ] {
        client.send(frame).await;
        let refused = client.receive().await;
        assert_eq!((&refused["type"], &refused["ref"]), (&json!("error"), &json!("auth")), "{refused}");
    }
    let naming = json!({"type": "auth", "token": token(attacker), "session_id": session, "ref": "auth"});
    client.send(naming).await;
    client.refused("invalid_message", Value::from("auth")).await;
    client.say("still Ben").await;
    let row = scene.server.get_with(&format!("/v1/sessions/{}", client.session), &token(attacker)).await;
    assert!(matches!(row.status, 200 | 503), "{row:?}");
    if row.status == 200 {
        assert_eq!(row.json()["user_id"], json!(attacker));
    }
    client.close().await;
}

/// Asserts that the server refuses a request without authentication before it looks up the requested data.
async fn strangers_are_asked_who_they_are(scene: &Scene, ann: Uuid, session: Uuid) {
    for path in [
        "/v1/sessions".to_owned(),
        format!("/v1/sessions/{session}"),
        format!("/v1/sessions/{}", Uuid::new_v4()),
        format!("/v1/events?session_id={session}"),
        format!("/v1/sessions?user_id={ann}"),
    ] {
        scene.server.get(&path).await.problem(401, "unauthorized");
    }
    let (_, answer) = upgrade(scene.server.address, &format!("/v1/ws?session_id={session}"), &[]).await;
    assert_eq!(answer.status, 401, "{answer:?}");
}

async fn tries_everything(scene: &Scene, ann: Uuid, session: Uuid) {
    let ben = Uuid::new_v4();
    let mut his = Client::come_with(&scene.server, "", &token(ben)).await.expect_started().await;
    shows_nothing(scene, ben, ann, session).await;
    hears_nothing(scene, ben, session, &mut his).await;
    stays_who_he_is(scene, ben, ann, session).await;
    strangers_are_asked_who_they_are(scene, ann, session).await;
}

#[tokio::test]
async fn in_sqlite_nothing_beside_the_sessions_shows_another_user() {
    let scene = Scene::new(None).await;
    let ann = Uuid::new_v4();
    let session = scene.session_of(ann).await;
    tries_everything(&scene, ann, session).await;
    let scene = scene.restart().await;
    tries_everything(&scene, ann, session).await;
    assert_eq!(scene.home.database().contents(session), [SECRET_WORDS, "Ann goes on", "Ann goes on"]);
}

#[tokio::test]
async fn in_postgresql_nothing_beside_the_sessions_shows_another_user_while_it_is_there_or_away() {
    let ann = Uuid::new_v4();
    let database = migrated(Postgres::shared()).await;
    let proxy = Proxy::to(Postgres::shared().port());
    let scene = Scene::new(Some(database.url_at(proxy.port()))).await;
    let session = scene.session_of(ann).await;
    arrives(&database, session, &[SECRET_WORDS]).await;
    tries_everything(&scene, ann, session).await;
    let other = scene.neighbour(&database).await;
    tries_everything(&other, ann, session).await;
    arrives(&database, session, &[SECRET_WORDS, "Ann goes on", "Ann goes on"]).await;
    proxy.cut();
    tries_everything(&scene, ann, session).await;
    let scene = scene.restart().await;
    shows_nothing(&scene, Uuid::new_v4(), ann, session).await;
    proxy.fix();
    arrives(&database, session, &[SECRET_WORDS, "Ann goes on", "Ann goes on", "Ann goes on"]).await;
}
