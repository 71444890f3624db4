//! Messages without a time keep their order when a session moves between servers whose clocks differ.

use serde_json::json;
use talktrack_testbed::{Database, Postgres};
use uuid::Uuid;

use crate::faults::clock::Calendar;
use crate::harness::remote::{arrives, migrated};
use crate::harness::{Client, Home, Server};

/// How many seconds the clock of one server is ahead of the other's.
const AHEAD: i64 = 300;

/// Sends a message as an agent does: over a new socket, or over HTTP to a server that does not know the session.
async fn says(server: &Server, session: Uuid, user: Uuid, content: &str, over_http: bool) {
    if over_http {
        let path = format!("/v1/sessions/{session}/messages");
        let said =
            server.request("POST", path).json(&json!({"role": "user", "content": content})).send().await;
        assert_eq!(said.status, 202, "{said:?}");
    } else {
        let mut client = Client::join(server, session, user).await;
        client.say(content).await;
        client.close().await;
    }
}

/// Sends messages to these servers in turn; each server finds the previous message in the database.
async fn take_turns(
    start: &Server,
    servers: [&Server; 2],
    database: &Database,
    over_http: bool,
) -> (Uuid, Vec<String>) {
    let session = Uuid::new_v4();
    let user = Uuid::new_v4();
    let body = json!({"session_id": session, "user_id": user});
    assert_eq!(start.request("POST", "/v1/sessions").json(&body).send().await.status, 201);
    start.drained().await;
    let mut said = Vec::new();
    for turn in 0..6 {
        says(servers[turn % 2], session, user, &turn.to_string(), over_http).await;
        said.push(turn.to_string());
        let expected: Vec<&str> = said.iter().map(String::as_str).collect();
        arrives(database, session, &expected).await;
    }
    (session, said)
}

#[tokio::test]
async fn a_session_that_moves_between_servers_whose_clocks_are_apart_keeps_its_order() {
    let homes = [Home::new(), Home::new(), Home::new()];
    let database = migrated(Postgres::shared()).await;
    let Some(calendar) = Calendar::in_home(&homes[0]) else { return };
    calendar.put(AHEAD);
    let url = database.url();
    let flags = ["--database-url", &url];
    let ahead = Server::start(&homes[0], calendar.on(homes[0].server_command(&flags))).await;
    let right = homes[1].serve(&flags).await;
    let third = homes[2].serve(&flags).await;
    for over_http in [false, true] {
        for servers in [[&ahead, &right], [&right, &ahead]] {
            let (session, said) = take_turns(&third, servers, &database, over_http).await;
            let listed = right.get(&format!("/v1/sessions/{session}/messages")).await.json();
            let rows = listed["messages"].as_array().unwrap();
            let contents: Vec<&str> = rows.iter().map(|row| row["content"].as_str().unwrap()).collect();
            assert_eq!(contents, said, "over HTTP: {over_http}");
        }
    }
    for server in [ahead, right, third] {
        server.stop().await;
    }
}
