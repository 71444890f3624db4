//! `?wait=stored`: the server answers when the store has the row, or with the reason why the store refuses it.

use serde_json::json;
use talktrack_testbed::Postgres;

use super::{messages_of, start};
use crate::harness::remote::{migrated, said};
use crate::harness::{Home, until_told};

#[tokio::test]
async fn whoever_waits_for_the_store_finds_the_row_there() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let server = home.serve_on(&database.url()).await;
    let session = start(&server).await;
    for turn in 0..20 {
        let body = json!({"role": "user", "content": turn.to_string()});
        let path = format!("{}?wait=stored", messages_of(session));
        let answer = server.request("POST", path).json(&body).send().await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(said(&database, session).last(), Some(&turn.to_string()));
    }
}

#[tokio::test]
async fn a_database_that_is_away_holds_up_those_alone_who_wait_for_it() {
    let home = Home::new();
    let mut cluster = Postgres::start();
    let database = migrated(&cluster).await;
    let server = home.serve_on(&database.url()).await;
    let session = start(&server).await;
    server.drained().await;
    cluster.stop();
    let body = |content: &str| json!({"role": "user", "content": content});
    let quick = server.request("POST", messages_of(session)).json(&body("durable")).send().await;
    assert_eq!(quick.status, 202, "{quick:?}");
    let path = format!("{}?wait=stored", messages_of(session));
    let waits = server.request("POST", path).json(&body("stored")).send();
    let back = async {
        until_told("both are durable", async || {
            (server.metric("talktrack_journal_pending").await == 2.0).then_some(())
        })
        .await;
        cluster.start_again();
    };
    let (answer, ()) = tokio::join!(waits, back);
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(said(&database, session), ["durable", "stored"]);
}

#[tokio::test]
async fn whoever_waits_for_a_row_that_the_store_refuses_is_told_why() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let server = home.serve_on(&database.url()).await;
    let session = start(&server).await;
    database.psql("ALTER TABLE conversation_messages ADD CHECK (content <> 'forbidden')");
    let path = format!("{}?wait=stored", messages_of(session));
    let body = json!([{"role": "user", "content": "fine"}, {"role": "user", "content": "forbidden"}]);
    // If the writer does not send the two messages in one batch, it needs another accepted row to know that the row is
    // bad and not the store.
    let other = messages_of(start(&server).await);
    let next_rows = async {
        loop {
            let next =
                server.request("POST", other.as_str()).json(&json!({"role": "user", "content": "fine"}));
            assert_eq!(next.send().await.status, 202);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let answer = tokio::select! {
        answer = server.request("POST", path).json(&body).send() => answer,
        () = next_rows => unreachable!("it goes on for ever"),
    };
    assert_eq!(answer.status, 207, "{answer:?}");
    let acks = &answer.json()["acks"];
    assert!(acks[0]["id"].is_string(), "{acks}");
    let why = acks[1]["error"]["message"].as_str().unwrap();
    assert!(why.contains("it is now a dead letter"), "{why}");
    assert!(!answer.body.contains("forbidden"), "the row's words are for its owner: {answer:?}");
    assert_eq!(said(&database, session), ["fine"]);
}

/// Without other rows, a refused row could also mean that the store has failed. The row must wait, but its caller must
/// get an answer in time.
#[tokio::test]
async fn a_lone_user_who_waits_for_a_row_that_the_store_refuses_is_answered_in_time_and_health_names_the_row()
{
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let server = home.serve_on(&database.url()).await;
    let session = start(&server).await;
    server.drained().await;
    database.psql("ALTER TABLE conversation_messages ADD CONSTRAINT polite CHECK (content <> 'forbidden')");
    let path = format!("{}?wait=stored", messages_of(session));
    let body = json!({"role": "user", "content": "forbidden"});
    let answer = server.request("POST", path.as_str()).json(&body).send_patiently(60).await;
    assert!(answer.problem(504, "store_unavailable").starts_with("the message is durable"), "{answer:?}");
    let health = server.readiness(200).await;
    assert!(
        health.contains("polite") && health.contains("they wait until the store accepts them"),
        "{health}"
    );
    assert!(!health.contains("forbidden"), "the row's words are for its owner: {health}");
    // The store accepts the next row, which proves that the earlier row was the cause.
    let body = json!({"role": "user", "content": "fine"});
    let answer = server.request("POST", path).json(&body).send().await;
    assert_eq!(answer.status, 201, "{answer:?}");
    until_told("the refused row is a dead letter", async || {
        (server.metric("talktrack_messages_dead_lettered_total").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(said(&database, session), ["fine"]);
}
