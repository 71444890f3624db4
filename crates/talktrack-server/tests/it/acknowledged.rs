//! Reads see what this node has acknowledged, also while it waits for PostgreSQL, and while PostgreSQL is away.

use serde_json::{Value, json};
use talktrack_testbed::{Database, Postgres, Proxy, open_client};
use uuid::Uuid;

use crate::harness::remote::migrated;
use crate::harness::{Home, HttpAnswer, Server};

/// A server whose writer waits for locks on the tables, while readers see the rows.
struct Scene {
    database: Database,
    server: Server,
    user: Uuid,
    _home: Home,
}

impl Scene {
    async fn new() -> Self {
        let home = Home::new();
        let database = migrated(Postgres::shared()).await;
        let server = home.serve_on(&database.url()).await;
        Self { database, server, user: Uuid::new_v4(), _home: home }
    }

    /// Holds up all writes to the tables until the returned connection is dropped.
    async fn hold_up_writes(&self) -> impl Sized + use<> {
        self.server.drained().await;
        let connection = open_client(&self.database.url()).await;
        let lock = "BEGIN; LOCK TABLE conversation_sessions, conversation_messages IN SHARE MODE";
        connection.batch_execute(lock).await.unwrap();
        connection
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> HttpAnswer {
        self.server.request(method, path).json(body).send().await
    }

    async fn start(&self, name: &str) -> String {
        let body = json!({"external_id": name, "user_id": self.user});
        let answer = self.ask("POST", "/v1/sessions", &body).await;
        assert!([200, 201].contains(&answer.status), "{answer:?}");
        answer.json()["session_id"].as_str().unwrap().to_owned()
    }

    async fn say(&self, session: &str, body: Value) -> Value {
        let answer = self.ask("POST", &format!("/v1/sessions/{session}/messages"), &body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["acks"][0]["id"].clone()
    }

    async fn read(&self, path: &str) -> Value {
        let answer = self.server.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    async fn session(&self, session: &str) -> Value {
        self.read(&format!("/v1/sessions/{session}")).await
    }

    /// Returns the sessions of a list, each with its status and its count of messages.
    async fn list(&self, query: &str) -> Vec<(String, String, i64)> {
        let listed = self.read(&format!("/v1/sessions?{query}")).await;
        let row = |row: &Value| {
            let text = |field: &str| row[field].as_str().unwrap().to_owned();
            (text("session_id"), text("status"), row["message_count"].as_i64().unwrap())
        };
        listed["sessions"].as_array().unwrap().iter().map(row).collect()
    }
}

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

#[tokio::test]
async fn the_count_of_messages_is_right_after_each_write() {
    let scene = Scene::new().await;
    let session = scene.start("call").await;
    let first = scene.say(&session, user("stored")).await;
    let held = scene.hold_up_writes().await;
    for turn in 2..5 {
        let body = json!({"role": "user", "content": "waits", "external_id": format!("m{turn}")});
        scene.say(&session, body.clone()).await;
        scene.say(&session, body).await;
        assert_eq!(scene.session(&session).await["message_count"], turn);
    }
    // Only final messages count, and a revision can make one final.
    let going = json!({"external_id": "p", "role": "user", "content": "go", "status": "in_progress"});
    scene.say(&session, going).await;
    assert_eq!(scene.session(&session).await["message_count"], 4);
    scene.say(&session, json!({"external_id": "p", "role": "user", "content": "gone", "revision": 1})).await;
    assert_eq!(scene.session(&session).await["message_count"], 5);
    // Neither a revision of a stored message nor one of a waiting message counts.
    scene.say(&session, json!({"id": first, "role": "user", "content": "revised", "revision": 1})).await;
    scene
        .say(&session, json!({"external_id": "m2", "role": "user", "content": "again", "revision": 1}))
        .await;
    assert_eq!(scene.session(&session).await["message_count"], 5);
    drop(held);
    scene.server.drained().await;
    assert_eq!(scene.session(&session).await["message_count"], 5);
}

#[tokio::test]
async fn lists_by_user_and_by_external_id_show_what_waits() {
    let scene = Scene::new().await;
    let stored = scene.start("stored").await;
    scene.say(&stored, user("one")).await;
    let ended = scene.start("ended").await;
    let mut held = Some(scene.hold_up_writes().await);
    scene.say(&stored, user("two")).await;
    let waits = scene.start("waits").await;
    scene.say(&waits, user("three")).await;
    let end = scene.ask("POST", &format!("/v1/sessions/{ended}/end"), &json!({})).await;
    assert_eq!(end.status, 202, "{end:?}");
    let row = |session: &str, status: &str, count| (session.to_owned(), status.to_owned(), count);
    let all = [row(&waits, "active", 1), row(&ended, "ended", 0), row(&stored, "active", 2)];
    for _ in 0..2 {
        let of_user = format!("user_id={}", scene.user);
        assert_eq!(scene.list(&of_user).await, all);
        assert_eq!(scene.list(&format!("{of_user}&status=ended")).await, all[1..2]);
        assert_eq!(scene.list(&format!("{of_user}&status=active")).await, [all[0].clone(), all[2].clone()]);
        for (name, expected) in ["waits", "ended", "stored"].into_iter().zip(&all) {
            assert_eq!(scene.list(&format!("external_id={name}")).await, std::slice::from_ref(expected));
        }
        assert_eq!(scene.list(&format!("user_id={}", Uuid::new_v4())).await, []);
        // Page by page, each session comes once.
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let page = scene.read(&format!("/v1/sessions?{of_user}&limit=1{next}")).await;
            seen.extend(page["sessions"].as_array().unwrap().iter().map(|row| row["session_id"].clone()));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            next = format!("&cursor={cursor}");
        }
        assert_eq!(seen, [waits.as_str(), ended.as_str(), stored.as_str()]);
        drop(held.take());
        scene.server.drained().await;
    }
}

#[tokio::test]
async fn updates_ends_and_an_earlier_first_message_are_seen_while_they_wait() {
    let scene = Scene::new().await;
    let session = scene.start("call").await;
    let held = scene.hold_up_writes().await;
    let update =
        scene.ask("PATCH", &format!("/v1/sessions/{session}"), &json!({"metadata": {"plan": "b"}})).await;
    assert_eq!(update.status, 202, "{update:?}");
    assert_eq!(scene.session(&session).await["metadata"]["plan"], "b");
    let earlier = json!({"role": "user", "content": "hello", "created_at": "2026-11-30T10:00:00Z"});
    scene.say(&session, earlier).await;
    assert_eq!(scene.session(&session).await["started_at"], "2026-11-30T10:00:00.000000Z");
    scene.ask("POST", &format!("/v1/sessions/{session}/end"), &json!({"reason": "hangup"})).await;
    let seen = scene.session(&session).await;
    drop(held);
    scene.server.drained().await;
    let stored = scene.session(&session).await;
    for field in ["status", "end_reason", "started_at", "ended_at", "message_count", "metadata"] {
        assert_eq!(seen[field], stored[field], "{field}");
    }
}

#[tokio::test]
async fn a_session_that_is_stored_is_read_from_this_node_while_postgresql_is_away() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let proxy = Proxy::to(Postgres::shared().port());
    let server = home.serve_on(&database.url_at(proxy.port())).await;
    let scene = Scene { database, server, user: Uuid::new_v4(), _home: home };
    let session = scene.start("call").await;
    let id = scene.say(&session, user("stored")).await;
    scene.server.drained().await;
    proxy.cut();
    scene.say(&session, json!({"id": id, "role": "user", "content": "revised", "revision": 1})).await;
    scene.say(&session, user("waits")).await;
    let row = scene.session(&session).await;
    assert_eq!((&row["message_count"], &row["external_id"]), (&json!(2), &json!("call")));
    let path = format!("/v1/sessions/{session}/messages");
    let said = scene.read(&path).await;
    let said: Vec<_> = said["messages"].as_array().unwrap().iter().map(|row| &row["content"]).collect();
    assert_eq!(said, ["revised", "waits"]);
    assert_eq!(scene.read(&format!("{path}/{}", id.as_str().unwrap())).await["content"], "revised");
    let export = scene.server.get(&format!("/v1/sessions/{session}/export?format=text")).await;
    assert!(export.body.contains("revised") && export.body.contains("waits"), "{export:?}");
    // Of a session that this node does not know, it cannot say that there is none.
    let unknown = scene.server.get(&format!("/v1/sessions/{}", Uuid::new_v4())).await;
    unknown.problem(503, "store_unavailable");
}

/// Filters are applied to stored and to waiting messages, in both directions, page by page.
async fn filters_narrow_the_list(scene: &Scene, session: &str) {
    let path = format!("/v1/sessions/{session}/messages?limit=2");
    let all = async |query: &str| {
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let page = scene.read(&format!("{path}&{query}{next}")).await;
            let rows = page["messages"].as_array().unwrap();
            seen.extend(rows.iter().map(|row| row["content"].as_str().unwrap().to_owned()));
            let Some(cursor) = page["next_cursor"].as_str() else { return seen };
            next = format!("&cursor={cursor}");
        }
    };
    let at = |minute: usize| format!("2026-11-30T10:{minute:02}:00Z");
    let numbers = |range: std::ops::Range<usize>| range.map(|number| number.to_string()).collect::<Vec<_>>();
    assert_eq!(all("order=asc").await, numbers(0..10));
    let since_and_until = format!("since={}&until={}", at(2), at(7));
    assert_eq!(all(&since_and_until).await, numbers(2..7));
    let mut backwards = numbers(2..7);
    backwards.reverse();
    assert_eq!(all(&format!("{since_and_until}&order=desc")).await, backwards);
    assert_eq!(all(&format!("since={}", at(8))).await, numbers(8..10));
    assert_eq!(all(&format!("until={}&order=desc", at(1))).await, numbers(0..1));
    assert_eq!(all("kind=event").await, ["0", "3", "6", "9"]);
    assert_eq!(all(&format!("kind=event&since={}&order=desc", at(1))).await, ["9", "6", "3"]);
    assert_eq!(all("kind=tool_call").await, [""; 0]);
    for wrong in ["kind=words", "since=yesterday", "until=", "order=up", "status=x", "limit=0"] {
        let answer = scene.server.get(&format!("/v1/sessions/{session}/messages?{wrong}")).await;
        answer.problem(400, "invalid_message");
    }
}

#[tokio::test]
async fn lists_of_messages_can_be_narrowed_by_time_and_kind_while_some_wait() {
    let scene = Scene::new().await;
    let session = scene.start("call").await;
    let say = async |number: usize| {
        let kind = if number.is_multiple_of(3) { "event" } else { "message" };
        let at = format!("2026-11-30T10:{number:02}:00Z");
        let body = json!({"role": "user", "kind": kind, "content": number.to_string(), "created_at": at});
        scene.say(&session, body).await;
    };
    for number in [0, 2, 3, 5, 8] {
        say(number).await;
    }
    let held = scene.hold_up_writes().await;
    for number in [1, 4, 6, 7, 9] {
        say(number).await;
    }
    filters_narrow_the_list(&scene, &session).await;
    drop(held);
    scene.server.drained().await;
    filters_narrow_the_list(&scene, &session).await;
}

#[tokio::test]
async fn lists_show_messages_in_progress_and_discarded_ones_only_if_asked() {
    let scene = Scene::new().await;
    let session = scene.start("call").await;
    let say = async |content: &str, status: &str| {
        let body = json!({"role": "assistant", "content": content, "status": status});
        scene.say(&session, body).await;
    };
    let held = scene.hold_up_writes().await;
    for (content, status) in
        [("said", "final"), ("half", "in_progress"), ("never", "discarded"), ("other", "completed")]
    {
        say(content, status).await;
    }
    let listed = async |query: &str| {
        let list = scene.server.get(&format!("/v1/sessions/{session}/messages?{query}")).await.json();
        let rows = list["messages"].as_array().unwrap().clone();
        rows.iter().map(|row| row["content"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let are_shown = async || {
        assert_eq!(listed("").await, ["said", "half", "other"]);
        assert_eq!(listed("status=all&order=desc").await, ["other", "never", "half", "said"]);
        assert_eq!(listed("status=in_progress").await, ["half"]);
        assert_eq!(listed("status=final").await, ["said", "other"]);
        assert_eq!(listed("status=discarded").await, ["never"]);
    };
    are_shown().await;
    drop(held);
    scene.server.drained().await;
    are_shown().await;
}
