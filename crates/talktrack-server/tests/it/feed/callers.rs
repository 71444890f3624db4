//! Feeds of users and of limited keys: every session is the caller's, and nobody else's can be told from an absent one.

use serde_json::{Value, json};
use talktrack_testbed::Postgres;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use uuid::Uuid;

use super::{lines, post, say, says, start};
use crate::auth::signing::{SigningKey, claims, now};
use crate::auth::{ApiKey, SECRET, new_key, new_limited_key};
use crate::harness::remote::migrated;
use crate::harness::{Client, Home, Server};

fn token(user: Uuid) -> String {
    SigningKey::secret(SECRET).token(&claims(user))
}

async fn serve(home: &Home, key: &ApiKey, database: Option<&str>) -> Server {
    let mut command = home.server_command(&[]);
    command.env("TALKTRACK_API_KEYS", &key.entry).env("SUPABASE_JWT_SECRET", SECRET);
    database.inspect(|url| _ = command.env("DATABASE_URL", url));
    Server::start(home, command).await
}

async fn open(server: &Server, token: &str) -> Client {
    Client::come_with(server, "feed=true", token).await
}

/// Returns the answers to these frames on a feed and in a request, without the numbers of lines.
async fn answers(server: &Server, token: &str, frames: &[Value]) -> Vec<Value> {
    let mut answers = Vec::new();
    let mut feed = open(server, token).await;
    for frame in frames {
        feed.send(frame.clone()).await;
        answers.push(feed.receive().await);
    }
    let mut in_request = lines(&post(server, token, frames).await);
    in_request.iter_mut().for_each(|answer| _ = answer.as_object_mut().unwrap().remove("line"));
    answers.extend(in_request);
    answers
}

/// Ben tries everything on a session of Ann, and on one that does not exist.
async fn two_users_are_kept_apart(database: Option<&str>) {
    let home = Home::new();
    let key = new_key(&home, "agent", "read,write").await;
    let server = serve(&home, &key, database).await;
    let (ann, ben) = (Uuid::new_v4(), Uuid::new_v4());
    let mut feed = open(&server, &token(ann)).await;
    feed.send(json!({"type": "session.start", "external_id": "call 7"})).await;
    let started = feed.expect("session.started").await;
    assert_eq!(started["user_id"], json!(ann));
    let anns: Uuid = started["session_id"].as_str().unwrap().parse().unwrap();
    says(&mut feed, anns, "private").await;
    feed.send(say("external:call 7", "by name")).await;
    assert_eq!(feed.acks(1).await.len(), 1);
    let attempts = |session: Uuid| {
        [
            json!({"type": "message", "session_id": session, "role": "user", "content": "forged", "ref": 1}),
            json!({"type": "session.update", "session_id": session, "metadata": {"forged": true}, "ref": 2}),
            json!({"type": "session.end", "session_id": session, "reason": "forged", "ref": 3}),
            json!({"type": "session.start", "session_id": session, "ref": 4}),
            json!({"type": "session.start", "session_id": session, "resume": true, "ref": 5}),
        ]
    };
    let absent = Uuid::new_v4();
    let foreign = answers(&server, &token(ben), &attempts(anns)).await;
    let missing = answers(&server, &token(ben), &attempts(absent)).await;
    let without_id = |answers: &[Value], id: Uuid| {
        answers.iter().map(|answer| answer.to_string().replace(&id.to_string(), "ID")).collect::<Vec<_>>()
    };
    assert_eq!(without_id(&foreign, anns), without_id(&missing, absent));
    assert!(foreign.iter().all(|answer| answer["code"] == "session_not_found"), "{foreign:?}");
    // The same name means a session of his own.
    let named = json!({"type": "session.start", "external_id": "call 7"});
    let bens = answers(&server, &token(ben), &[named]).await;
    assert!(bens.iter().all(|answer| answer["session_id"] != json!(anns) && answer["user_id"] == json!(ben)));
    let wrong_user = answers(&server, &token(ben), &[start(Uuid::new_v4(), ann)]).await;
    assert!(wrong_user.iter().all(|answer| answer["code"] == "forbidden"), "{wrong_user:?}");
    let rows = server.get_with(&format!("/v1/sessions/{anns}/messages"), &key.key).await.json();
    let said: Vec<_> =
        rows["messages"].as_array().unwrap().iter().map(|row| row["content"].clone()).collect();
    assert_eq!(said, ["private", "by name"]);
    let row = server.get_with(&format!("/v1/sessions/{anns}"), &key.key).await.json();
    assert_eq!((&row["status"], &row["metadata"]), (&json!("active"), &json!({})), "{row}");
}

#[tokio::test]
async fn two_users_are_kept_apart_in_sqlite() {
    two_users_are_kept_apart(None).await;
}

#[tokio::test]
async fn two_users_are_kept_apart_in_postgresql() {
    let database = migrated(Postgres::shared()).await;
    two_users_are_kept_apart(Some(&database.url())).await;
}

#[tokio::test]
async fn a_limited_key_reaches_the_sessions_of_its_users_alone() {
    let home = Home::new();
    let (ann, ben) = (Uuid::new_v4(), Uuid::new_v4());
    let mut key = new_key(&home, "agent", "read,write").await;
    let limited = new_limited_key(&home, "ben", "write", &["--users", &ben.to_string()]).await;
    key.entry = format!("{} {}", key.entry, limited.entry);
    let server = serve(&home, &key, None).await;
    let anns = Uuid::new_v4();
    lines(&post(&server, &key.key, &[start(anns, ann)]).await);
    for answer in answers(&server, &limited.key, &[say(anns, "forged")]).await {
        assert_eq!(answer["code"], "session_not_found", "{answer}");
    }
    for answer in answers(&server, &limited.key, &[start(anns, ann)]).await {
        assert_eq!(answer["code"], "forbidden", "{answer}");
    }
    for answer in answers(&server, &limited.key, &[start(anns, ben)]).await {
        assert_eq!(answer["code"], "session_not_found", "{answer}");
    }
    let bens = json!({"type": "session.start", "external_id": "call 7"});
    let said = say("external:call 7", "Hello");
    let answers = answers(&server, &limited.key, &[bens, said]).await;
    assert_eq!((&answers[0]["user_id"], &answers[1]["type"]), (&json!(ben), &json!("ack")), "{answers:?}");
}

#[tokio::test]
async fn a_caller_who_may_not_write_gets_no_feed() {
    let home = Home::new();
    let key = new_key(&home, "reader", "read").await;
    let server = serve(&home, &key, None).await;
    post(&server, &key.key, &[start(Uuid::new_v4(), Uuid::new_v4())]).await.problem(403, "forbidden");
    post(&server, "nonsense", &[]).await.problem(401, "unauthorized");
    let authorization = format!("Bearer {}", key.key);
    let (_, answer) =
        crate::harness::upgrade(server.address, "/v1/ws?feed=true", &[("Authorization", &authorization)])
            .await;
    answer.problem(403, "forbidden");
}

#[tokio::test]
async fn a_feed_goes_on_with_a_new_token_and_closes_without_one() {
    let home = Home::new();
    let key = new_key(&home, "agent", "read,write").await;
    let server = serve(&home, &key, None).await;
    let user = Uuid::new_v4();
    let short = || {
        let mut claims = claims(user);
        claims["exp"] = (now() - 30 + 6).into();
        SigningKey::secret(SECRET).token(&claims)
    };
    let mut renewed = open(&server, &short()).await;
    let mut expired = open(&server, &short()).await;
    for feed in [&mut renewed, &mut expired] {
        feed.expect("token.expiring").await;
    }
    renewed.send(json!({"type": "auth", "token": token(Uuid::new_v4()), "ref": 1})).await;
    renewed.refused("unauthorized", 1).await;
    renewed.send(json!({"type": "auth", "token": token(user)})).await;
    expired.refused("unauthorized", Value::Null).await;
    assert_eq!(expired.closed().await, Some(CloseCode::Policy));
    renewed.lives().await;
    renewed.send(json!({"type": "session.start", "external_id": "call 7"})).await;
    renewed.expect("session.started").await;
}

#[tokio::test]
async fn the_frames_of_a_feed_count_against_the_rate_of_the_user() {
    let home = Home::new();
    let mut command = home.server_command(&[]);
    command.env("SUPABASE_JWT_SECRET", SECRET).env("TALKTRACK_RATE_PER_USER", "1/s");
    let server = Server::start(&home, command).await;
    let mut feed = open(&server, &token(Uuid::new_v4())).await;
    let mut answer = Value::Null;
    while answer["type"] != "error" {
        feed.send(json!({"type": "ping", "ref": 7})).await;
        answer = feed.receive().await;
    }
    assert_eq!((&answer["code"], &answer["ref"]), (&json!("rate_limited"), &json!(7)));
    let starts: Vec<Value> = (0..200).map(|_| json!({"type": "session.start"})).collect();
    let answers = lines(&post(&server, &token(Uuid::new_v4()), &starts).await);
    let started = answers.iter().filter(|answer| answer["type"] == "session.started").count();
    assert!(started < 100 && answers.last().unwrap()["code"] == "rate_limited", "{started} of 200");
}
