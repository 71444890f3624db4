//! Rate limits.

use serde_json::json;
use uuid::Uuid;

use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, new_key, serve_with};
use crate::harness::{Client, Home, HttpAnswer, Server, text, until_told, user};

async fn ask(server: &Server, headers: &[(&str, &str)]) -> HttpAnswer {
    let request = server.request("GET", "/v1/sessions");
    headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send().await
}

fn is_limited(answer: &HttpAnswer) {
    let detail = answer.problem(429, "rate_limited");
    let seconds: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds) && detail.contains("rate_"), "{answer:?}");
}

#[tokio::test]
async fn an_address_may_ask_so_often_and_is_then_told_when_to_come_again() {
    let home = Home::new();
    let server = home.serve(&["--rate-per-address", "3/m"]).await;
    for _ in 0..3 {
        assert_eq!(ask(&server, &[]).await.status, 200);
    }
    is_limited(&ask(&server, &[]).await);
    is_limited(&server.get("/nothing/here").await);
    is_limited(&ask(&server, &[("X-Forwarded-For", "198.51.100.1")]).await);
    for page in ["/healthz", "/readyz"] {
        assert_eq!(server.get(page).await.status, 200, "load balancers ask often");
    }
}

#[tokio::test]
async fn behind_a_proxy_that_is_trusted_each_client_counts_by_itself() {
    let home = Home::new();
    let server = home.serve(&["--rate-per-address", "2/m", "--trusted-proxies", "127.0.0.1"]).await;
    for client in ["198.51.100.1", "198.51.100.2"] {
        for _ in 0..2 {
            assert_eq!(ask(&server, &[("X-Forwarded-For", client)]).await.status, 200);
        }
        is_limited(&ask(&server, &[("X-Forwarded-For", client)]).await);
        let claim = format!("203.0.113.9, {client}");
        is_limited(&ask(&server, &[("X-Forwarded-For", &claim)]).await);
    }
}

#[tokio::test]
async fn a_key_and_a_user_may_ask_so_often_however_many_tokens_they_have() {
    let home = Home::new();
    let one = new_key(&home, "one", "read").await;
    let other = new_key(&home, "other", "read").await;
    let keys = format!("{} {}", one.entry, other.entry);
    let environment = [
        ("TALKTRACK_API_KEYS", &*keys),
        ("SUPABASE_JWT_SECRET", SECRET),
        ("TALKTRACK_RATE_PER_KEY", "2/m"),
        ("TALKTRACK_RATE_PER_USER", "2/m"),
    ];
    let server = serve_with(&home, &environment).await;
    let by = async |token: &str| server.request("GET", "/v1/sessions").token(token).send().await;
    for key in [&one.key, &other.key] {
        assert_eq!([by(key).await.status, by(key).await.status], [200, 200]);
        is_limited(&by(key).await);
    }
    let token = |user: Uuid, mark: u32| {
        let mut claims = claims(user);
        claims["mark"] = mark.into();
        SigningKey::secret(SECRET).token(&claims)
    };
    let ada = Uuid::new_v4();
    let bob = Uuid::new_v4();
    assert_eq!([by(&token(ada, 1)).await.status, by(&token(ada, 2)).await.status], [200, 200]);
    is_limited(&by(&token(ada, 3)).await);
    assert_eq!(by(&token(bob, 1)).await.status, 200);
    assert_eq!(by("hunter2").await.status, 401, "who is not known has no allowance to use up");
}

/// Starts a server that accepts users' tokens, and returns the token of one user.
pub(super) async fn for_users(home: &Home, settings: &[(&str, &str)]) -> (Server, String, Uuid) {
    let environment = [&[("SUPABASE_JWT_SECRET", SECRET)], settings].concat();
    let user = Uuid::new_v4();
    (serve_with(home, &environment).await, SigningKey::secret(SECRET).token(&claims(user)), user)
}

#[tokio::test]
async fn users_and_strangers_are_limited_by_default_and_keys_are_not() {
    let home = Home::new();
    let key = new_key(&home, "agent", "read").await;
    let (server, token, _) = for_users(&home, &[("TALKTRACK_API_KEYS", &key.entry)]).await;
    let ask = async |token: Option<&str>| {
        let request = server.request("GET", "/v1/sessions");
        token.map_or(request, |token| server.request("GET", "/v1/sessions").token(token)).send().await
    };
    let asked = |token| async move {
        let answers = futures_util::future::join_all((0..600).map(|_| ask(token))).await;
        answers.into_iter().filter(|answer| answer.status == 429).inspect(is_limited).count()
    };
    assert!(asked(Some(&*token)).await > 0, "600 requests of a user");
    assert!(asked(None).await > 0, "600 requests of nobody in particular");
    assert!(asked(Some("tt_hunter2")).await > 0, "600 guesses");
    assert_eq!(asked(Some(&*key.key)).await, 0, "requests of a key");
}

#[tokio::test]
async fn a_users_bytes_and_connections_are_limited() {
    let home = Home::new();
    let limits = [("TALKTRACK_BYTES_PER_USER", "1KiB/s"), ("TALKTRACK_MAX_CONNECTIONS_PER_USER", "1")];
    let (server, token, user) = for_users(&home, &limits).await;
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", &*bearer)];
    let path = format!("/v1/ws?user_id={user}");
    let (socket, answer) = crate::harness::upgrade(server.address, &path, &headers).await;
    assert_eq!(answer.status, 101, "{answer:?}");
    let (_, refused) = crate::harness::upgrade(server.address, &path, &headers).await;
    assert!(refused.problem(503, "rate_limited").contains("max_connections_per_user"), "{refused:?}");
    drop(socket);
    let session = server.request("POST", "/v1/sessions").token(&token).json(&json!({})).send().await;
    assert_eq!(session.status, 201, "{session:?}");
    let path = format!("/v1/sessions/{}/messages", session.json()["session_id"].as_str().unwrap());
    let body = json!({"role": "user", "content": "x".repeat(4_000)});
    let say = async || server.request("POST", &path).token(&token).json(&body).send().await;
    let refused =
        until_told("bytes are limited", async || Some(say().await).filter(|answer| answer.status != 202));
    let refused = refused.await;
    assert!(refused.problem(429, "rate_limited").contains("bytes_per_user"), "{refused:?}");
}

#[tokio::test]
async fn metadata_of_a_session_are_bounded() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let path = format!("/v1/sessions/{}", client.session);
    let note = |key: &str, bytes: usize| json!({"metadata": {key: "x".repeat(bytes)}});
    let patch = async |body| server.request("PATCH", &path).json(&body).send().await;
    assert_eq!(patch(note("a", 60_000)).await.status, 202);
    assert!(patch(note("b", 10_000)).await.problem(413, "too_large").contains("metadata"));
    assert_eq!(patch(note("a", 10_000)).await.status, 202, "it becomes shorter");
    client.send(json!({"type": "session.update", "metadata": {"c": "x".repeat(60_000)}, "ref": 7})).await;
    let error = client.receive().await;
    assert_eq!((&error["code"], &error["ref"]), (&json!("too_large"), &json!(7)), "{error}");
    client.say("the connection lives").await;
}

#[tokio::test]
async fn a_frame_over_the_limit_gets_an_error_and_the_connection_lives() {
    let home = Home::new();
    let server = home.serve(&["--rate-per-address", "4/s"]).await;
    let mut client = Client::new(&server).await;
    let mut refused = 0;
    for number in 0..20 {
        client.send(user("quickly", number)).await;
    }
    for _ in 0..20 {
        let frame = client.receive().await;
        if frame["type"] == "ack" {
            continue;
        }
        assert_eq!((&frame["type"], &frame["code"]), (&json!("error"), &json!("rate_limited")), "{frame}");
        assert!(
            frame["ref"].is_number() && frame["message"].as_str().unwrap().contains("try again"),
            "{frame}"
        );
        refused += 1;
        if refused == 10 {
            break;
        }
    }
    assert!(refused > 0, "20 frames at once are more than 4 in a second");
    until_told("a message is taken again", async || {
        client.send(text("user", "slowly")).await;
        loop {
            let frame = client.receive().await;
            match frame["type"].as_str() {
                Some("ack") if frame["acks"].as_array().unwrap().iter().any(|ack| ack["ref"].is_null()) => {
                    return Some(());
                }
                Some("error") if frame["ref"].is_null() => return None,
                _ => {}
            }
        }
    })
    .await;
    assert!(server.log().contains("listening"));
    home.verify().await;
}
