//! Messages are deleted one by one, cleared, taken from the end, and replaced, over HTTP, on both stores.

use std::collections::HashSet;

use serde_json::{Value, json};
use talktrack_testbed::{Database, Postgres, Proxy};
use uuid::Uuid;

use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, new_key};
use crate::harness::remote::{migrated, said as stored_in, select};
use crate::harness::{Home, HttpAnswer, Listener, Server, until};

fn messages_of(session: Uuid) -> String {
    format!("/v1/sessions/{session}/messages")
}

async fn start(server: &Server) -> Uuid {
    let session = Uuid::new_v4();
    let body = json!({"session_id": session, "user_id": Uuid::new_v4()});
    let answer = server.request("POST", "/v1/sessions").json(&body).send().await;
    assert_eq!(answer.status, 201, "{answer:?}");
    session
}

/// Adds messages with these texts, and returns their ids.
async fn say(server: &Server, session: Uuid, contents: &[&str]) -> Vec<String> {
    let body: Value = contents.iter().map(|content| json!({"role": "user", "content": content})).collect();
    let answer = server.request("POST", messages_of(session)).json(&body).send().await;
    assert_eq!(answer.status, 202, "{answer:?}");
    ids_in(&answer.json()["acks"])
}

fn ids_in(rows: &Value) -> Vec<String> {
    rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

fn contents_in(rows: &Value) -> Vec<String> {
    rows.as_array().unwrap().iter().map(|row| row["content"].as_str().unwrap().to_owned()).collect()
}

async fn said(server: &Server, session: Uuid) -> Vec<String> {
    let answer = server.get(&messages_of(session)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    contents_in(&answer.json()["messages"])
}

async fn count(server: &Server, session: Uuid) -> Value {
    server.get(&format!("/v1/sessions/{session}")).await.json()["message_count"].clone()
}

async fn delete(server: &Server, path: &str) -> HttpAnswer {
    server.request("DELETE", path).send().await
}

async fn put(server: &Server, session: Uuid, body: &Value) -> HttpAnswer {
    server.request("PUT", messages_of(session)).json(body).send().await
}

/// Runs the checks that hold on every store.
async fn messages_are_edited(server: &Server) {
    one_message_is_deleted(server).await;
    all_messages_are_cleared(server).await;
    the_last_messages_are_taken(server).await;
    all_messages_are_replaced(server).await;
    wrong_edits_change_nothing(server).await;
}

async fn one_message_is_deleted(server: &Server) {
    let session = start(server).await;
    let ids = say(server, session, &["one", "two", "three"]).await;
    let path = format!("{}/{}", messages_of(session), ids[1]);
    let answer = delete(server, &path).await;
    assert_eq!((answer.status, &answer.json()["store"]), (200, &json!("done")), "{answer:?}");
    assert_eq!(answer.json()["message_id"], ids[1].as_str());
    assert_eq!(said(server, session).await, ["one", "three"]);
    assert_eq!(count(server, session).await, 2);
    assert_eq!(server.get(&path).await.problem(404, "not_found"), "the session has no such message");
    delete(server, &path).await.problem(404, "not_found");
    let again = json!({"id": ids[1], "role": "user", "content": "two", "revision": 3});
    let answer = server.request("POST", messages_of(session)).json(&again).send().await;
    answer.problem(410, "deleted");
    let refused = "talktrack_messages_refused_total{reason=\"deleted\"}";
    assert!(server.metric(refused).await >= 1.0);
    assert_eq!(said(server, session).await, ["one", "three"]);
}

async fn all_messages_are_cleared(server: &Server) {
    let session = start(server).await;
    let ids = say(server, session, &["one", "two"]).await;
    let answer = delete(server, &messages_of(session)).await;
    assert_eq!((answer.status, &answer.json()["store"]), (200, &json!("done")), "{answer:?}");
    assert_eq!((said(server, session).await, count(server, session).await), (Vec::new(), json!(0)));
    let again = json!({"id": ids[0], "role": "user", "content": "one"});
    server.request("POST", messages_of(session)).json(&again).send().await.problem(410, "deleted");
    say(server, session, &["three"]).await;
    assert_eq!(
        (said(server, session).await, count(server, session).await),
        (vec!["three".to_owned()], json!(1))
    );
}

async fn the_last_messages_are_taken(server: &Server) {
    let session = start(server).await;
    let contents: Vec<String> = (0..43).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = contents.iter().map(String::as_str).collect();
    let ids = say(server, session, &texts).await;
    let answer = delete(server, &format!("{}?last=3", messages_of(session))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(contents_in(&answer.json()["messages"]), ["40", "41", "42"]);
    let path = format!("{}?last=1", messages_of(session));
    let pops = futures_util::future::join_all((0..40).map(|_| delete(server, &path))).await;
    let popped = pops.iter().map(|answer| ids_in(&answer.json()["messages"]).remove(0));
    assert_eq!(popped.collect::<HashSet<_>>(), ids[..40].iter().cloned().collect());
    assert_eq!(delete(server, &path).await.json()["messages"], json!([]));
    assert_eq!((said(server, session).await, count(server, session).await), (Vec::new(), json!(0)));
}

async fn all_messages_are_replaced(server: &Server) {
    let session = start(server).await;
    let ids = say(server, session, &["one", "two", "three"]).await;
    let news = json!([
        {"role": "system", "content": "a summary"},
        {"id": ids[2], "role": "assistant", "content": "THREE"},
        {"role": "user", "content": "four", "external_id": "m4"},
    ]);
    let answer = put(server, session, &news).await;
    assert_eq!((answer.status, &answer.json()["removed"]), (200, &json!(2)), "{answer:?}");
    assert_eq!(contents_in(&answer.json()["messages"]), ["a summary", "THREE", "four"]);
    let listed = server.get(&messages_of(session)).await.json();
    assert_eq!(listed["messages"], answer.json()["messages"]);
    assert_eq!(listed["messages"][1]["revision"], 1);
    assert_eq!(count(server, session).await, 3);
    let answer = put(server, session, &json!([])).await;
    assert_eq!((answer.status, &answer.json()["removed"]), (200, &json!(3)), "{answer:?}");
    assert_eq!((said(server, session).await, count(server, session).await), (Vec::new(), json!(0)));
    // A list brings a deleted message back.
    let answer = put(server, session, &json!([{"id": ids[0], "role": "user", "content": "one"}])).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    say(server, session, &["more"]).await;
    assert_eq!(said(server, session).await, ["one", "more"]);
}

async fn wrong_edits_change_nothing(server: &Server) {
    let session = start(server).await;
    let ids = say(server, session, &["one", "two"]).await;
    let elsewhere = start(server).await;
    let foreign = say(server, elsewhere, &["elsewhere"]).await;
    server.drained().await;
    let refused = put(server, session, &json!([{"role": "user", "content": "x"}, {"role": "nobody"}])).await;
    assert!(refused.problem(400, "invalid_message").starts_with("message 2: "), "{refused:?}");
    put(server, session, &json!({"role": "user", "content": "x"})).await.problem(400, "invalid_message");
    let twice = json!([{"id": ids[0], "role": "user", "content": "x"}, {"id": ids[0], "role": "user", "content": "y"}]);
    put(server, session, &twice).await.problem(400, "invalid_message");
    let stolen = json!([{"id": foreign[0], "role": "user", "content": "x"}]);
    put(server, session, &stolen).await.problem(409, "id_conflict");
    delete(server, &format!("{}/{}", messages_of(session), foreign[0])).await.problem(404, "not_found");
    delete(server, &format!("{}/7", messages_of(session))).await.problem(400, "invalid_message");
    for query in ["last=0", "last=501", "last=x", "first=1"] {
        delete(server, &format!("{}?{query}", messages_of(session))).await.problem(400, "invalid_message");
    }
    let unknown = Uuid::new_v4();
    for path in [messages_of(unknown), format!("{}?last=1", messages_of(unknown))] {
        delete(server, &path).await.problem(404, "session_not_found");
    }
    put(server, unknown, &json!([])).await.problem(404, "session_not_found");
    assert_eq!(said(server, session).await, ["one", "two"]);
    assert_eq!(said(server, elsewhere).await, ["elsewhere"]);
}

#[tokio::test]
async fn messages_are_deleted_taken_and_replaced() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    messages_are_edited(&server).await;
    server.stop().await;
    home.verify().await;
}

#[tokio::test]
async fn messages_are_deleted_taken_and_replaced_in_postgresql() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let server = home.serve_on(&database.url()).await;
    messages_are_edited(&server).await;
    server.drained().await;
    server.stop().await;
    home.look_at(&database.url(), &["verify"]).await.succeeded();
}

/// A server whose database can be cut off, with a session that has stored messages.
async fn scene_with_stored() -> (Home, Database, Proxy, Server, Uuid, Vec<String>) {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let proxy = Proxy::to(Postgres::shared().port());
    let server = home.serve_on(&database.url_at(proxy.port())).await;
    let session = start(&server).await;
    let ids = say(&server, session, &["stored 1", "stored 2"]).await;
    server.drained().await;
    (home, database, proxy, server, session, ids)
}

#[tokio::test]
async fn a_message_that_is_deleted_while_postgresql_is_away_is_gone_here_at_once_and_there_when_it_is_back() {
    for restarts in [false, true] {
        let (home, database, proxy, mut server, session, stored) = scene_with_stored().await;
        proxy.cut();
        let waits = say(&server, session, &["waits 1", "waits 2"]).await;
        for id in [&stored[0], &waits[0]] {
            let answer = delete(&server, &format!("{}/{id}", messages_of(session))).await;
            assert_eq!((answer.status, &answer.json()["store"]), (202, &json!("pending")), "{answer:?}");
        }
        let again = json!({"id": waits[0], "role": "user", "content": "waits 1"});
        server.request("POST", messages_of(session)).json(&again).send().await.problem(410, "deleted");
        if restarts {
            server.kill().await;
            server = home.serve_on(&database.url_at(proxy.port())).await;
        }
        proxy.fix();
        until("the database follows", || {
            (stored_in(&database, session) == ["stored 2", "waits 2"]).then_some(())
        })
        .await;
        server.drained().await;
        assert_eq!(said(&server, session).await, ["stored 2", "waits 2"]);
        assert_eq!(count(&server, session).await, 2);
        let tombstones = select(&database, "SELECT message_id FROM conversation_message_deletions");
        assert_eq!(tombstones.len(), 2, "also of the message that the database never had");
        server.stop().await;
        home.look_at(&database.url(), &["verify"]).await.succeeded();
    }
}

#[tokio::test]
async fn a_session_that_is_cleared_while_postgresql_is_away_is_empty_at_once_and_goes_on() {
    let (home, database, proxy, server, session, _) = scene_with_stored().await;
    proxy.cut();
    say(&server, session, &["waits 1"]).await;
    let answer = delete(&server, &messages_of(session)).await;
    assert_eq!((answer.status, &answer.json()["journal"]), (202, &json!(1)), "{answer:?}");
    assert_eq!((said(&server, session).await, count(&server, session).await), (Vec::new(), json!(0)));
    say(&server, session, &["after"]).await;
    assert_eq!(
        (said(&server, session).await, count(&server, session).await),
        (vec!["after".to_owned()], json!(1))
    );
    // What only the database can decide is refused, and nothing changes.
    let popped = delete(&server, &format!("{}?last=1", messages_of(session))).await;
    popped.problem(503, "store_unavailable");
    put(&server, session, &json!([])).await.problem(503, "store_unavailable");
    server.kill().await;
    let server = home.serve_on(&database.url_at(proxy.port())).await;
    proxy.fix();
    until("the database follows", || (stored_in(&database, session) == ["after"]).then_some(())).await;
    server.drained().await;
    assert_eq!(count(&server, session).await, 1);
    server.stop().await;
    home.look_at(&database.url(), &["verify"]).await.succeeded();
}

async fn deletions_are_told(server: &Server) {
    let session = start(server).await;
    let ids = say(server, session, &["one", "two"]).await;
    server.drained().await;
    let mut listener = Listener::new(server).await;
    delete(server, &format!("{}/{}", messages_of(session), ids[0])).await;
    let told = listener.expect("messages.deleted").await.data;
    assert_eq!((&told["session_id"], &told["message_ids"]), (&json!(session), &json!([ids[0]])), "{told}");
    delete(server, &messages_of(session)).await;
    let told = listener.expect("messages.deleted").await.data;
    assert_eq!((&told["session_id"], &told["message_ids"]), (&json!(session), &Value::Null), "{told}");
}

#[tokio::test]
async fn listeners_are_told_which_messages_were_deleted() {
    let home = Home::new();
    deletions_are_told(&home.serve(&[]).await).await;
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    deletions_are_told(&home.serve_on(&database.url()).await).await;
}

#[tokio::test]
async fn a_users_token_deletes_only_what_a_user_wrote_in_the_users_own_session() {
    for database in [None, Some(migrated(Postgres::shared()).await)] {
        let home = Home::new();
        let key = new_key(&home, "agent", "read,write").await;
        let mut command = home.server_command(&[]);
        command.env("TALKTRACK_API_KEYS", &key.entry).env("SUPABASE_JWT_SECRET", SECRET);
        command.env("TALKTRACK_USER_ACCESS", "read+write+delete");
        database.iter().for_each(|database| _ = command.env("DATABASE_URL", database.url()));
        let server = Server::start(&home, command).await;
        let [ann, ben] = [Uuid::new_v4(), Uuid::new_v4()];
        let token = |user| SigningKey::secret(SECRET).token(&claims(user));
        let ask = async |token: &str, method: &str, path: &str, body: &Value| {
            server.request(method, path).token(token).json(body).send().await
        };
        let session = Uuid::new_v4();
        let begin = json!({"session_id": session, "user_id": ann});
        assert_eq!(ask(&key.key, "POST", "/v1/sessions", &begin).await.status, 201);
        let path = messages_of(session);
        let mut ids = Vec::new();
        for (token, content) in [(&key.key, "by the agent"), (&token(ann), "by ann")] {
            let answer = ask(token, "POST", &path, &json!({"role": "user", "content": content})).await;
            ids.extend(ids_in(&answer.json()["acks"]));
        }
        // The key may write, and not delete.
        for (method, path) in [("DELETE", &path), ("PUT", &path), ("DELETE", &format!("{path}/{}", ids[0]))] {
            ask(&key.key, method, path, &json!([])).await.problem(403, "forbidden");
            ask(&token(ben), method, path, &json!([])).await.problem(404, "session_not_found");
        }
        let agents = ask(&token(ann), "DELETE", &format!("{path}/{}", ids[0]), &json!({})).await;
        agents.problem(403, "forbidden");
        let forged = json!([{"id": Uuid::new_v4(), "role": "user", "content": "ann again"}]);
        let answer = ask(&token(ann), "PUT", &path, &forged).await;
        assert_eq!((answer.status, &answer.json()["removed"]), (200, &json!(1)), "{answer:?}");
        let rows = server.get_with(&path, &key.key).await.json();
        assert_eq!(contents_in(&rows["messages"]), ["by the agent", "ann again"]);
        assert_eq!(ask(&token(ann), "DELETE", &path, &json!({})).await.status, 200);
        let rows = server.get_with(&path, &key.key).await.json();
        assert_eq!(contents_in(&rows["messages"]), ["by the agent"]);
    }
}
