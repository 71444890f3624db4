//! Full-text search over HTTP: the results, which users find which messages, and a database whose search is not ready.

use serde_json::{Value, json};
use talktrack_testbed::{Database, Postgres, like_supabase};
use uuid::Uuid;

use super::transcript::Transcript;
use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, new_key};
use crate::harness::remote::migrated;
use crate::harness::{Home, Server, until_told};

const SESSION: &str = "fda86359-0000-4000-8000-000000000001";
const USER: &str = "03f6b167-0000-4000-8000-000000000002";

async fn conversation(server: &Server) {
    let session = json!({"session_id": SESSION, "user_id": USER, "started_at": "2026-11-23T08:00:00Z"});
    assert_eq!(server.request("POST", "/v1/sessions").json(&session).send().await.status, 201);
    let message = |number: u8, role: &str, content: &str| {
        let id = format!("11111111-0000-4000-8000-0000000000{number:02}");
        json!({"id": id, "role": role, "content": content, "created_at": format!("2026-11-23T08:00:{number:02}Z")})
    };
    let messages = json!([
        message(1, "user", "I want a refund for order number 7, <b>please</b>."),
        message(2, "assistant", "A refund? For which order?"),
        message(3, "user", "Ich hätte gern Äpfel. 東京都に送ってください"),
    ]);
    let path = format!("/v1/sessions/{SESSION}/messages");
    let said = server.request("POST", path).json(&messages).send().await;
    assert_eq!(said.status, 202, "{said:?}");
}

/// Waits until a search has exactly `count` hits, and returns them.
async fn finds(server: &Server, token: Option<&str>, query: &str, count: usize) -> Vec<Value> {
    until_told(&format!("{query} finds {count}"), async || {
        let request = server.request("GET", format!("/v1/search?{query}"));
        let answer = match token {
            Some(token) => request.token(token).send().await,
            None => request.send().await,
        };
        let hits = if answer.status == 200 { answer.json()["hits"].as_array().cloned() } else { None };
        hits.filter(|hits| hits.len() == count)
    })
    .await
}

#[tokio::test]
async fn a_search_answers_with_hits_and_snippets() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    conversation(&server).await;
    finds(&server, None, "q=refund", 2).await;
    finds(&server, None, "q=apfel", 1).await;
    let mut told = Transcript::default();
    let search = |query: &str| server.request("GET", format!("/v1/search?{query}"));
    told.add("a word, page by page", search("q=refund&limit=1")).await;
    told.add("a phrase and a beginning", search("q=%22order+number%22+ple*")).await;
    told.add("without accents", search("q=apfel")).await;
    told.add("a part of a sentence without spaces", search("q=%E6%9D%B1%E4%BA%AC%E9%83%BD")).await;
    told.add("in a session", search(&format!("q=order+refund&session_id={SESSION}&user_id={USER}&limit=1")))
        .await;
    told.add("of a user who has none", search(&format!("q=refund&user_id={SESSION}"))).await;
    told.add("what reads like a query language", search("q=refund+OR+order")).await;
    for query in ["", "q=", "q=%22*%22", "q=x&limit=0", "q=x&cursor=7", "q=x&page=2"] {
        told.add("a bad query", search(query)).await;
    }
    let sessions = |query: &str| server.request("GET", format!("/v1/sessions?{query}"));
    let ids = async |query: &str| sessions(query).send().await.json()["sessions"].as_array().unwrap().len();
    assert_eq!(
        (ids("q=refund").await, ids("q=refund+apfel").await, ids("q=refund&status=ended").await),
        (1, 0, 0)
    );
    told.add("sessions by nothing", sessions("q=+")).await;
    told.is_as_before("search");
}

#[tokio::test]
async fn without_an_index_a_search_says_so() {
    let home = Home::new();
    let server = home.serve(&["--search", "false"]).await;
    conversation(&server).await;
    let refused = server.request("GET", "/v1/search?q=refund").send().await;
    assert_eq!(refused.problem(503, "internal"), "the search index is not there yet; try again soon");
}

async fn each_finds_their_own(home: &Home, database: Option<&Database>) {
    let key = new_key(home, "k", "read,write").await;
    let mut command = home.server_command(&[]);
    command.env("TALKTRACK_API_KEYS", &key.entry).env("SUPABASE_JWT_SECRET", SECRET);
    database.inspect(|database| {
        command.env("DATABASE_URL", database.url());
    });
    let server = Server::start(home, command).await;
    let users = [Uuid::new_v4(), Uuid::new_v4()];
    for user in users {
        let session = Uuid::new_v4();
        let body = json!({"session_id": session, "user_id": user});
        assert_eq!(
            server.request("POST", "/v1/sessions").token(&key.key).json(&body).send().await.status,
            201
        );
        let path = format!("/v1/sessions/{session}/messages");
        let message = json!({"role": "system", "content": "a secret of each"});
        assert_eq!(server.request("POST", path).token(&key.key).json(&message).send().await.status, 202);
    }
    finds(&server, Some(&key.key), "q=secret", 2).await;
    for user in users {
        let token = SigningKey::secret(SECRET).token(&claims(user));
        for query in ["q=secret".to_owned(), format!("q=secret&user_id={user}")] {
            let hits = finds(&server, Some(&token), &query, 1).await;
            assert_eq!(hits[0]["user_id"], json!(user));
        }
        let other = users.iter().find(|other| **other != user).unwrap();
        let others =
            server.request("GET", format!("/v1/search?q=secret&user_id={other}")).token(&token).send().await;
        assert_eq!(others.status, 403, "{others:?}");
        let sessions = server.request("GET", "/v1/sessions?q=secret").token(&token).send().await.json();
        let sessions = sessions["sessions"].as_array().unwrap();
        assert!(sessions.len() == 1 && sessions[0]["user_id"] == json!(user), "{sessions:?}");
    }
    assert_eq!(server.request("GET", "/v1/search?q=secret").send().await.status, 401);
}

#[tokio::test]
async fn a_user_finds_their_own() {
    each_finds_their_own(&Home::new(), None).await;
}

#[tokio::test]
async fn a_user_finds_their_own_in_postgresql() {
    let home = Home::new();
    let database = Postgres::shared().database();
    like_supabase(&database);
    home.run(&["migrate", "--database-url", &database.url()]).await.succeeded();
    each_finds_their_own(&home, Some(&database)).await;
}

#[tokio::test]
async fn a_database_that_cannot_be_searched_yet_takes_every_message_and_is_searched_once_it_is_mended() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    database.psql("DROP TABLE conversation_search");
    let server = home.serve(&["--database-url", &database.url()]).await;
    conversation(&server).await;
    let stored = format!("/v1/sessions/{SESSION}/messages?wait=stored");
    let message = json!({"role": "user", "content": "one more refund"});
    assert_eq!(
        server.request("POST", stored).json(&message).send().await.status,
        201,
        "nothing is parked for it"
    );
    assert_eq!(server.request("GET", "/readyz").send().await.status, 200);
    let refused = server.request("GET", "/v1/search?q=refund").send().await.problem(503, "internal");
    assert!(refused.contains("talktrack doctor"), "{refused}");
    home.run(&["migrate", "--database-url", &database.url()]).await.succeeded();
    finds(&server, None, "q=refund", 3).await;
}
