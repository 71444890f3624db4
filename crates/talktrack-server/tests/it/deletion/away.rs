//! Deletion of a user while PostgreSQL is unavailable.

use talktrack_testbed::{Postgres, Proxy};
use uuid::Uuid;

use super::{delete, is_on_the_disk, removed};
use crate::harness::remote::{arrives, migrated, said, select};
use crate::harness::{Client, Home, until};

#[tokio::test]
async fn a_user_who_is_deleted_while_postgresql_is_away_is_gone_here_at_once_and_there_when_it_is_back() {
    for restarts in [false, true] {
        let home = Home::new();
        let other_home = Home::new();
        let database = migrated(Postgres::shared()).await;
        let proxy = Proxy::to(Postgres::shared().port());
        let url = database.url_at(proxy.port());
        let mut server = home.serve_on(&url).await;
        let other = other_home.serve_on(&database.url()).await;
        let leaver = Uuid::new_v4();
        let stays = Uuid::new_v4();
        // One session that this server does not know, one that is stored, and one that waits in the outbox.
        let mut elsewhere = Client::join(&other, Uuid::new_v4(), leaver).await;
        elsewhere.say("said elsewhere").await;
        let mut stored = Client::join(&server, Uuid::new_v4(), leaver).await;
        stored.say("stored before").await;
        let mut neighbour = Client::join(&server, Uuid::new_v4(), stays).await;
        neighbour.say("of somebody else").await;
        arrives(&database, elsewhere.session, &["said elsewhere"]).await;
        arrives(&database, stored.session, &["stored before"]).await;
        server.drained().await;
        proxy.cut();
        let mut waits = Client::join(&server, Uuid::new_v4(), leaver).await;
        waits.say("waits here").await;

        let answer = delete(&server, &format!("/v1/users/{leaver}")).await;
        assert_eq!((answer.status, &answer.json()["store"]), (202, &"pending".into()), "{answer:?}");
        assert_eq!(removed(&answer), [0, 0, 0, 1]);
        assert!(!is_on_the_disk(&home, "stored before") && !is_on_the_disk(&home, "waits here"));
        assert!(is_on_the_disk(&home, "of somebody else"));
        if restarts {
            server.kill().await;
            server = home.serve_on(&url).await;
        }
        proxy.fix();
        let of_leaver = format!("SELECT session_id FROM conversation_sessions WHERE user_id = '{leaver}'");
        until("the database follows", || select(&database, &of_leaver).is_empty().then_some(())).await;
        for session in [elsewhere.session, stored.session, waits.session] {
            assert_eq!(said(&database, session), [""; 0]);
        }
        assert_eq!(said(&database, neighbour.session), ["of somebody else"]);
        let noted = home.data_dir().join("deleted-users");
        until("nothing is left to do", || {
            noted.read_dir().is_ok_and(|mut files| files.next().is_none()).then_some(())
        })
        .await;
        // The same user can start again after the deletion.
        let mut back = Client::join(&server, Uuid::new_v4(), leaver).await;
        back.say("hello again").await;
        arrives(&database, back.session, &["hello again"]).await;
        server.stop().await;
        other.stop().await;
        home.look_at(&database.url(), &["verify"]).await.succeeded();
    }
}

#[tokio::test]
async fn a_server_that_is_killed_while_it_deletes_a_user_goes_on_after_its_restart() {
    let home = Home::new();
    let other_home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let proxy = Proxy::to(Postgres::shared().port());
    let url = database.url_at(proxy.port());
    let server = home.serve_on(&url).await;
    let other = other_home.serve_on(&database.url()).await;
    let leaver = Uuid::new_v4();
    let stays = Uuid::new_v4();
    let mut talks = Vec::new();
    for user in [leaver, leaver, stays] {
        let mut client = Client::join(&other, Uuid::new_v4(), user).await;
        client.say("said elsewhere").await;
        arrives(&database, client.session, &["said elsewhere"]).await;
        talks.push(client);
    }
    // This session was started by a machine whose clock is an hour ahead.
    let ahead = talks[0].session;
    database.psql(&format!(
        "UPDATE conversation_sessions SET started_at = started_at + interval '1 hour' WHERE session_id = '{ahead}'"
    ));
    server.drained().await;
    proxy.cut();
    let path = format!("/v1/users/{leaver}");
    let accepted = async {
        let deletion = "SELECT count(*) FROM journal WHERE instr(body, 'delete_user')";
        until("the deletion is durable", || (home.database().count(deletion, &[]) == 1).then_some(())).await;
    };
    tokio::select! {
        answer = delete(&server, &path) => panic!("too early: {answer:?}"),
        () = accepted => {}
    }
    server.kill().await;
    let server = home.serve_on(&url).await;
    proxy.fix();
    let of_leaver = format!("SELECT session_id FROM conversation_sessions WHERE user_id = '{leaver}'");
    until("the database follows", || select(&database, &of_leaver).is_empty().then_some(())).await;
    assert_eq!(said(&database, talks[2].session), ["said elsewhere"]);
    let noted = home.data_dir().join("deleted-users");
    until("nothing is left to do", || {
        noted.read_dir().is_ok_and(|mut files| files.next().is_none()).then_some(())
    })
    .await;
    server.stop().await;
    other.stop().await;
}
