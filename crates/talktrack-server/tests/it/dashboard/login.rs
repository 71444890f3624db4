//! Who sees pages: whoever has logged in, and of them everybody their own.

use serde_json::json;
use uuid::Uuid;

use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, new_key, serve_with};
use crate::harness::{Client, Home, HttpAnswer, Server};

const FORM: &str = "application/x-www-form-urlencoded";

async fn log_in(server: &Server, token: &str, next: &str) -> HttpAnswer {
    let form = format!("token={token}&next={}", next.replace('/', "%2F").replace('?', "%3F"));
    server.request("POST", "/login").body(FORM, form).send().await
}

/// The cookie that an answer has the browser keep, as the browser sends it.
fn cookie(answer: &HttpAnswer) -> String {
    let set = answer.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {answer:?}"));
    for attribute in ["Path=/", "HttpOnly", "SameSite=Lax"] {
        assert!(set.contains(attribute), "{set}");
    }
    set.split(';').next().unwrap().to_owned()
}

fn token_of(user: Uuid) -> String {
    SigningKey::secret(SECRET).token(&claims(user))
}

#[tokio::test]
async fn whoever_has_not_logged_in_is_asked_to_and_comes_back_to_where_they_wanted() {
    let home = Home::new();
    let key = new_key(&home, "desk", "admin").await;
    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", &key.entry)]).await;
    let turned_away = server.get("/?q=tea%20%26%20cake").await;
    assert_eq!(turned_away.status, 303, "{turned_away:?}");
    let login = turned_away.header("location").unwrap().to_owned();
    assert_eq!(login, "/login?next=%2F%3Fq%3Dtea%2520%2526%2520cake");
    let form = server.get(&login).await;
    assert!(
        form.status == 200 && form.body.contains(r#"name="next" value="/?q=tea%20%26%20cake""#),
        "{form:?}"
    );

    let wrong = log_in(&server, "tt_nonsense", "/").await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None), "{wrong:?}");
    assert!(wrong.body.contains("role=\"alert\""), "it says why: {wrong:?}");

    let entered = log_in(&server, &key.key, "/stats?a").await;
    assert_eq!((entered.status, entered.header("location")), (303, Some("/stats?a")), "{entered:?}");
    let cookie = cookie(&entered);
    let page = server.request("GET", "/").header("Cookie", &cookie).send().await;
    assert!(
        page.status == 200 && page.body.contains("key desk") && page.body.contains("Log out"),
        "{page:?}"
    );
    // The same cookie opens what pages ask for: events, recordings, exports.
    assert_eq!(server.request("GET", "/v1/sessions").header("Cookie", &cookie).send().await.status, 200);

    let left = server.request("POST", "/logout").header("Cookie", &cookie).body(FORM, "").send().await;
    assert_eq!((left.status, left.header("location")), (303, Some("/login")));
    assert!(left.header("set-cookie").unwrap().contains("Max-Age=0"), "{left:?}");
    for elsewhere in ["//evil.example", "https://evil.example/"] {
        let entered = log_in(&server, &key.key, elsewhere).await;
        assert_eq!(entered.header("location"), Some("/"), "{elsewhere}");
    }
}

#[tokio::test]
async fn over_tls_the_cookie_is_sent_over_tls_only() {
    let home = Home::new();
    let key = new_key(&home, "desk", "read").await;
    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", &key.entry)]).await;
    let form = format!("token={}", key.key);
    let entered =
        server.request("POST", "/login").header("X-Forwarded-Proto", "https").body(FORM, form).send().await;
    assert!(entered.header("set-cookie").unwrap().ends_with("; Secure"), "{entered:?}");
}

#[tokio::test]
async fn a_page_from_elsewhere_can_do_nothing_with_the_cookie() {
    let home = Home::new();
    let key = new_key(&home, "desk", "admin").await;
    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", &key.entry)]).await;
    let mut client = Client::come_with(&server, &format!("user_id={}", Uuid::new_v4()), &key.key).await;
    client = client.expect_started().await;
    client.say("stay").await;
    let cookie = cookie(&log_in(&server, &key.key, "/").await);
    let delete = format!("/sessions/{}/delete", client.session);
    let asked = |method, path: String, origin| {
        server.request(method, path).header("Cookie", &cookie).header("Origin", origin).body(FORM, "").send()
    };
    for (method, path) in [
        ("POST", delete.clone()),
        ("DELETE", format!("/v1/sessions/{}", client.session)),
        ("POST", format!("/v1/sessions/{}/end", client.session)),
        ("POST", "/login".into()),
    ] {
        for origin in ["https://evil.example", "null", "http://localhost.evil.example"] {
            let refused = asked(method, path.clone(), origin).await;
            assert!(refused.problem(403, "unauthorized").starts_with("Origin: "), "{method} {path} {origin}");
        }
    }
    assert_eq!(home.database().contents(client.session), ["stay"]);
    let from_here = asked("POST", delete, "http://localhost").await;
    assert!(from_here.status == 200 && from_here.body.contains("It is gone"), "{from_here:?}");
    assert_eq!(home.database().contents(client.session), [""; 0]);
}

#[tokio::test]
async fn a_user_sees_their_own_conversations_on_every_page_and_no_others() {
    let home = Home::new();
    let server = serve_with(&home, &[("SUPABASE_JWT_SECRET", SECRET)]).await;
    let (anna, ben) = (Uuid::new_v4(), Uuid::new_v4());
    let mut talks = Vec::new();
    for (user, words) in [(anna, "apples of Anna"), (ben, "bread of Ben")] {
        let client = Client::come_with(&server, &format!("user_id={user}"), &token_of(user)).await;
        let mut client = client.expect_started().await;
        client.say(words).await;
        talks.push(client);
    }
    let cookie = cookie(&log_in(&server, &token_of(anna), "/").await);
    let get = async |path: String| server.request("GET", path).header("Cookie", &cookie).send().await;
    let list = get("/".into()).await;
    assert!(list.body.contains("apples of Anna") && !list.body.contains("bread of Ben"), "{list:?}");
    let others = get(format!("/?user={ben}")).await;
    assert!(others.status == 403 && !others.body.contains("bread of Ben"), "{others:?}");
    assert_eq!(get(format!("/sessions/{}", talks[0].session)).await.status, 200);
    for path in ["", "/head", "/said", "/delete"] {
        let answer = get(format!("/sessions/{}{path}", talks[1].session)).await;
        assert!(answer.status == 404 && !answer.body.contains("bread"), "{path}: {answer:?}");
    }
    let delete = server.request("POST", format!("/sessions/{}/delete", talks[1].session));
    let refused = delete.header("Cookie", &cookie).body(FORM, "").send().await;
    assert_eq!(refused.status, 404, "{refused:?}");
    assert_eq!(home.database().contents(talks[1].session), ["bread of Ben"]);
}

#[tokio::test]
async fn where_nobody_is_asked_only_the_names_of_this_machine_lead_here() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    assert_eq!(server.get("/login").await.header("location"), Some("/"), "there is nothing to log in to");
    let text = "GET / HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n";
    let refused = crate::harness::request(server.address, text).await;
    assert!(refused.problem(403, "unauthorized").starts_with("Host: "), "{refused:?}");
    let session = Uuid::new_v4();
    let body = json!({"session_id": session, "user_id": Uuid::new_v4()});
    let evil = server.request("POST", "/v1/sessions").header("Origin", "https://evil.example").json(&body);
    evil.send().await.problem(403, "unauthorized");
    assert!(home.database().session(session).is_none());
}
