//! Clients that wait for the store, or already have an acknowledgement, are told that the session, the message or the
//! user has been deleted.

use serde_json::json;
use talktrack_testbed::{Database, Postgres, Proxy};
use uuid::Uuid;

use super::{delete, send};
use crate::harness::remote::{arrives, migrated, said};
use crate::harness::{Client, Home, Server, text, user};

/// Two servers on one database. The first does not know what the second deletes.
struct Scene {
    homes: [Home; 2],
    database: Database,
    proxy: Proxy,
    server: Server,
    other: Server,
}

impl Scene {
    async fn new() -> Self {
        let homes = [Home::new(), Home::new()];
        let database = migrated(Postgres::shared()).await;
        let proxy = Proxy::to(Postgres::shared().port());
        let server = homes[0].serve_on(&database.url_at(proxy.port())).await;
        let other = homes[1].serve_on(&database.url()).await;
        Self { homes, database, proxy, server, other }
    }

    /// Starts a session with one message that both the server and the database know.
    async fn talk(&self) -> Client {
        let mut client = Client::new(&self.server).await;
        client
            .track(json!({"type": "message", "role": "user", "content": "before", "external_id": "before"}))
            .await;
        arrives(&self.database, client.session, &["before"]).await;
        self.server.drained().await;
        client
    }

    /// Deletes the session without the server's knowledge.
    async fn delete(&self, client: &Client, how: &str) {
        let session = client.session;
        let user = client.user;
        match how {
            "by SQL" => {
                let by_session = format!("WHERE session_id = '{session}'");
                self.database.psql(&format!(
                    "DELETE FROM conversation_messages {by_session}; DELETE FROM conversation_sessions {by_session}"
                ));
            }
            "on another node" => {
                assert_eq!(delete(&self.other, &format!("/v1/sessions/{session}")).await.status, 200);
            }
            _ => assert_eq!(delete(&self.other, &format!("/v1/users/{user}")).await.status, 200),
        }
    }

    async fn stop(self) {
        self.server.stop().await;
        self.other.stop().await;
        for home in &self.homes {
            home.look_at(&self.database.url(), &["verify"]).await.succeeded();
        }
    }
}

const WAYS: [&str; 3] = ["by SQL", "on another node", "with its user"];

fn waits_in(session: Uuid) -> String {
    format!("/v1/sessions/{session}/messages?wait=stored")
}

#[tokio::test]
async fn whoever_waits_for_the_store_is_not_told_that_a_dropped_message_is_stored() {
    let scene = Scene::new().await;
    for how in WAYS {
        let client = scene.talk().await;
        scene.delete(&client, how).await;
        let answer = send(&scene.server, "POST", &waits_in(client.session), &text("user", "late")).await;
        answer.problem(410, "deleted");
        let client = scene.talk().await;
        scene.delete(&client, how).await;
        let array = json!([text("user", "late"), text("user", "later")]);
        let answer = send(&scene.server, "POST", &waits_in(client.session), &array).await;
        answer.problem(410, "deleted");
        let acks = answer.json()["acks"].clone();
        assert_eq!([0, 1].map(|place| &acks[place]["error"]["code"]), ["deleted", "deleted"], "{how}");
        assert_eq!(said(&scene.database, client.session), [""; 0], "{how}");
    }
    scene.stop().await;
}

#[tokio::test]
async fn whoever_waits_for_a_message_that_was_deleted_by_itself_is_told_so() {
    let scene = Scene::new().await;
    let client = scene.talk().await;
    scene.database.psql("DELETE FROM conversation_messages");
    // The message is sent to the other server, which has no local copy that could count as the message.
    let again = json!({"role": "user", "content": "before", "external_id": "before"});
    send(&scene.other, "POST", &waits_in(client.session), &again).await.problem(410, "deleted");
    let next = send(&scene.other, "POST", &waits_in(client.session), &text("user", "and on")).await;
    assert_eq!(next.status, 201, "{next:?}");
    assert_eq!(said(&scene.database, client.session), ["and on"]);
    // The count of the session still includes the message that was deleted by SQL, and `verify` would report this.
    drop(client);
}

#[tokio::test]
async fn a_deletion_here_while_somebody_waits_for_the_store_answers_them() {
    let scene = Scene::new().await;
    let client = scene.talk().await;
    scene.proxy.cut();
    let path = waits_in(client.session);
    let late = text("user", "late");
    let waits = send(&scene.server, "POST", &path, &late);
    let deletes = async {
        scene.server.shows("talktrack_journal_pending", 1.0).await;
        delete(&scene.server, &format!("/v1/sessions/{}", client.session)).await
    };
    let (answer, deleted) = tokio::join!(waits, deletes);
    assert_eq!(deleted.status, 202, "{deleted:?}");
    answer.problem(410, "deleted");
    scene.proxy.fix();
    scene.server.drained().await;
    drop(client);
    scene.stop().await;
}

#[tokio::test]
async fn a_connection_is_told_that_acknowledged_messages_were_dropped() {
    let scene = Scene::new().await;
    for how in WAYS {
        let mut client = scene.talk().await;
        let mut unconcerned = scene.talk().await;
        scene.delete(&client, how).await;
        client.send(user("late", 1)).await;
        // The server may learn of the deletion only after the acknowledgement.
        let answer = client.receive().await;
        let error = if answer["type"] == "ack" { client.receive().await } else { answer };
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("deleted")), "{error}");
        client.lives().await;
        unconcerned.say("and on").await;
        arrives(&scene.database, unconcerned.session, &["before", "and on"]).await;
        unconcerned.lives().await;
    }
    scene.stop().await;
}
