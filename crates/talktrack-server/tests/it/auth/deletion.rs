//! Who may delete data: users may delete their own sessions and themselves; keys with the scope `admin` may delete
//! everything.

use uuid::Uuid;

use super::{SECRET, SigningKey, claims, new_key, serve_with};
use crate::harness::{Client, Home, HttpAnswer, Server};

async fn delete(server: &Server, path: &str, token: &str) -> HttpAnswer {
    server.request("DELETE", path).token(token).send().await
}

#[tokio::test]
async fn a_user_deletes_their_own_and_nobody_elses() {
    let home = Home::new();
    let rights = ("TALKTRACK_USER_ACCESS", "read+write+delete");
    let server = serve_with(&home, &[("SUPABASE_JWT_SECRET", SECRET), rights]).await;
    let key = SigningKey::secret(SECRET);
    let mine = Uuid::new_v4();
    let theirs = Uuid::new_v4();
    let my_token = key.token(&claims(mine));
    let their_token = key.token(&claims(theirs));
    let mut my_session = Client::come_with(&server, "", &my_token).await.expect_started().await;
    let mut their_session = Client::come_with(&server, "", &their_token).await.expect_started().await;
    my_session.say("mine").await;
    their_session.say("theirs").await;
    let path = |client: &Client| format!("/v1/sessions/{}", client.session);
    assert_eq!(delete(&server, &path(&their_session), &my_token).await.status, 404);
    delete(&server, &format!("/v1/users/{theirs}"), &my_token).await.problem(403, "forbidden");
    assert_eq!(home.database().contents(their_session.session), ["theirs"]);
    assert_eq!(delete(&server, &path(&my_session), &my_token).await.status, 200);
    assert_eq!(home.database().session(my_session.session), None);
    let more = Client::come_with(&server, "", &my_token).await.expect_started().await;
    let answer = delete(&server, &format!("/v1/users/{mine}"), &my_token).await;
    assert_eq!((answer.status, &answer.json()["sessions"]), (200, &1.into()));
    assert_eq!(home.database().session(more.session), None);
    assert_eq!(home.database().contents(their_session.session), ["theirs"]);
    their_session.say("nobody noticed").await;
}

#[tokio::test]
async fn a_key_needs_the_scope_admin_to_delete() {
    let home = Home::new();
    let writer = new_key(&home, "writer", "read,write").await;
    let admin = new_key(&home, "admin", "admin").await;
    let keys = format!("{} {}", writer.entry, admin.entry);
    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", &keys)]).await;
    let query = format!("user_id={}", Uuid::new_v4());
    let mut client = Client::come_with(&server, &query, &writer.key).await.expect_started().await;
    client.say("hello").await;
    let paths = [format!("/v1/sessions/{}", client.session), format!("/v1/users/{}", client.user)];
    for path in &paths {
        let why = delete(&server, path, &writer.key).await.problem(403, "forbidden");
        assert_eq!(why, "this needs an API key with the scope admin");
        delete(&server, path, "tt_nobody").await.problem(401, "unauthorized");
    }
    assert_eq!(home.database().contents(client.session), ["hello"]);
    for path in &paths {
        assert_eq!(delete(&server, path, &admin.key).await.status, 200, "{path}");
    }
    assert_eq!(home.database().session(client.session), None);
}

#[tokio::test]
async fn what_users_may_do_is_a_setting_and_deleting_is_not_the_usual_one() {
    let key = SigningKey::secret(SECRET);
    for (rights, writes, deletes) in [
        (None, true, false),
        (Some("read"), false, false),
        (Some("read+write"), true, false),
        (Some("read+write+delete"), true, true),
    ] {
        let home = Home::new();
        let keys = new_key(&home, "agent", "read,write").await;
        let mut environment = vec![("SUPABASE_JWT_SECRET", SECRET), ("TALKTRACK_API_KEYS", &*keys.entry)];
        environment.extend(rights.map(|rights| ("TALKTRACK_USER_ACCESS", rights)));
        let server = serve_with(&home, &environment).await;
        let user = Uuid::new_v4();
        let token = key.token(&claims(user));
        let query = format!("user_id={user}");
        let mut agent = Client::come_with(&server, &query, &keys.key).await.expect_started().await;
        agent.say("hello").await;
        let path = format!("/v1/sessions/{}", agent.session);
        assert_eq!(server.get_with(&path, &token).await.status, 200, "{rights:?}");
        let message = serde_json::json!({"role": "user", "content": "mine"});
        let said =
            server.request("POST", format!("{path}/messages")).token(&token).json(&message).send().await;
        assert_eq!(said.status, if writes { 202 } else { 403 }, "{rights:?}: {said:?}");
        for path in [path, format!("/v1/users/{user}")] {
            let answer = delete(&server, &path, &token).await;
            assert_eq!(answer.status, if deletes { 200 } else { 403 }, "{rights:?}: {answer:?}");
        }
        assert_eq!(home.database().session(agent.session).is_none(), deletes, "{rights:?}");
    }
}
