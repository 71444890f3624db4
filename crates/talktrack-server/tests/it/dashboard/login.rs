//! Access to the pages: only users who have logged in, and each sees only their own data.

use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use super::csrf;
use crate::auth::signing::{SigningKey, claims, now};
use crate::auth::{SECRET, new_key, serve_with};
use crate::harness::{Client, Home, HttpAnswer, Server, until_told, upgrade};

const FORM: &str = "application/x-www-form-urlencoded";

pub(crate) async fn log_in(server: &Server, token: &str, next: &str) -> HttpAnswer {
    let form = format!("token={token}&next={}", next.replace('/', "%2F").replace('?', "%3F"));
    server.request("POST", "/login").body(FORM, form).send().await
}

/// Returns the cookie that a response sets, in the form in which a browser sends it.
pub(crate) fn cookie(answer: &HttpAnswer) -> String {
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
    // The cookie also gives access to everything that the pages request: events, recordings, exports.
    assert_eq!(server.request("GET", "/v1/sessions").header("Cookie", &cookie).send().await.status, 200);

    let form = format!("csrf={}", csrf(&page));
    let left = server.request("POST", "/logout").header("Cookie", &cookie).body(FORM, form).send().await;
    assert_eq!((left.status, left.header("location")), (303, Some("/login")));
    assert!(left.header("set-cookie").unwrap().contains("Max-Age=0"), "{left:?}");
    let again = server.request("GET", "/v1/sessions").header("Cookie", &cookie).send().await;
    assert!(
        again.problem(401, "unauthorized").contains("log in again"),
        "the login is over on the server too"
    );
    for elsewhere in ["//evil.example", "https://evil.example/"] {
        let entered = log_in(&server, &key.key, elsewhere).await;
        assert_eq!(entered.header("location"), Some("/"), "{elsewhere}");
    }
}

#[tokio::test]
async fn over_tls_the_cookie_is_bound_to_this_host_and_sent_over_tls_only() {
    let home = Home::new();
    let key = new_key(&home, "desk", "read").await;
    let environment = [("TALKTRACK_API_KEYS", &*key.entry), ("TALKTRACK_TRUSTED_PROXIES", "127.0.0.1")];
    let server = serve_with(&home, &environment).await;
    let over_tls = |method, path| server.request(method, path).header("X-Forwarded-Proto", "https");
    let entered = over_tls("POST", "/login").body(FORM, format!("token={}", key.key)).send().await;
    let set = entered.header("set-cookie").unwrap();
    assert!(set.starts_with("__Host-talktrack=") && set.ends_with("; Secure"), "{set}");
    let cookie = cookie(&entered);
    assert_eq!(over_tls("GET", "/v1/sessions").header("Cookie", &cookie).send().await.status, 200);
    // An unencrypted page may have planted a cookie with the other name, so the server ignores that name over TLS.
    let plain = cookie.replace("__Host-talktrack", "talktrack_session");
    assert_eq!(over_tls("GET", "/v1/sessions").header("Cookie", &plain).send().await.status, 401);
}

#[tokio::test]
async fn who_is_no_trusted_proxy_is_not_believed_that_it_speaks_tls() {
    let home = Home::new();
    let key = new_key(&home, "desk", "read").await;
    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", &key.entry)]).await;
    let request = server.request("POST", "/login").header("X-Forwarded-Proto", "https");
    let entered = request.body(FORM, format!("token={}", key.key)).send().await;
    assert!(!cookie(&entered).starts_with("__Host-"), "{entered:?}");
}

#[tokio::test]
async fn the_cookie_is_neither_the_key_nor_anything_made_of_it_and_does_not_outlive_a_restart() {
    let home = Home::new();
    let key = new_key(&home, "desk", "read").await;
    let environment = [("TALKTRACK_API_KEYS", &*key.entry)];
    let server = serve_with(&home, &environment).await;
    let one = cookie(&log_in(&server, &key.key, "/").await);
    let other = cookie(&log_in(&server, &key.key, "/").await);
    let id = one.split_once('=').unwrap().1;
    assert!(one != other && id.len() >= 43 && !one.contains(&key.key) && !key.key.contains(id), "{one}");
    let refused = server.get_with("/v1/sessions", id).await;
    assert_eq!(refused.status, 401, "it opens nothing but as a cookie");
    server.stop().await;
    for file in std::fs::read_dir(home.data_dir()).unwrap().map(|file| file.unwrap().path()) {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap_or_default()).into_owned();
        assert!(!text.contains(id) && !text.contains(&key.key), "{}", file.display());
    }
    let server = serve_with(&home, &environment).await;
    assert_eq!(server.request("GET", "/v1/sessions").header("Cookie", &one).send().await.status, 401);
}

#[tokio::test]
async fn a_login_ends_when_it_is_not_used_and_at_its_greatest_age() {
    let home = Home::new();
    let key = new_key(&home, "desk", "read").await;
    for (setting, is_used) in [("TALKTRACK_LOGIN_IDLE_TIMEOUT", false), ("TALKTRACK_LOGIN_MAX_AGE", true)] {
        let environment = [("TALKTRACK_API_KEYS", &*key.entry), (setting, "3s")];
        let server = serve_with(&home, &environment).await;
        let cookie = cookie(&log_in(&server, &key.key, "/").await);
        let status =
            async || server.request("GET", "/v1/sessions").header("Cookie", &cookie).send().await.status;
        assert_eq!(status().await, 200);
        if is_used {
            until_told("the login is too old", async || (status().await == 401).then_some(())).await;
        } else {
            // A request would count as use of the login and extend it.
            let began = Instant::now();
            let is_over = async || (began.elapsed() > Duration::from_millis(3_200)).then_some(());
            until_told("time goes by", is_over).await;
            assert_eq!(status().await, 401);
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_login_ends_with_the_token_of_its_user() {
    let home = Home::new();
    let server = serve_with(&home, &[("SUPABASE_JWT_SECRET", SECRET)]).await;
    let mut expiring = claims(Uuid::new_v4());
    // With the leeway of 30 s, the token is valid for another 7 s.
    expiring["exp"] = (now() - 23).into();
    let cookie = cookie(&log_in(&server, &SigningKey::secret(SECRET).token(&expiring), "/").await);
    let status = async || server.request("GET", "/v1/sessions").header("Cookie", &cookie).send().await.status;
    assert_eq!(status().await, 200);
    until_told("the token expires", async || (status().await == 401).then_some(())).await;
}

/// To a browser, a page on another port of this machine belongs to the same site, so the browser sends the cookie of
/// the dashboard with its requests.
#[tokio::test]
async fn a_page_on_another_port_of_this_machine_can_do_nothing_with_the_cookie() {
    let home = Home::new();
    let key = new_key(&home, "desk", "admin").await;
    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", &key.entry)]).await;
    let mut client = Client::come_with(&server, &format!("user_id={}", Uuid::new_v4()), &key.key).await;
    client = client.expect_started().await;
    client.say("stay").await;
    let cookie = cookie(&log_in(&server, &key.key, "/").await);
    let page = server.request("GET", "/").header("Cookie", &cookie).send().await;
    let own = csrf(&page);
    let others = {
        let other = self::cookie(&log_in(&server, &key.key, "/").await);
        csrf(&server.request("GET", "/").header("Cookie", &other).send().await)
    };
    let session = client.session;
    let json = json!({"session_id": Uuid::new_v4(), "user_id": Uuid::new_v4()}).to_string();
    let asked = [
        ("POST", format!("/sessions/{session}/delete"), FORM, String::new()),
        ("POST", "/health/drop".into(), FORM, "reason=data".into()),
        ("POST", "/logout".into(), FORM, String::new()),
        ("DELETE", format!("/v1/sessions/{session}"), "application/json", String::new()),
        ("POST", "/v1/sessions".into(), "application/json", json),
        ("POST", format!("/v1/sessions/{session}/end"), "application/json", "{}".into()),
        ("PATCH", format!("/v1/sessions/{session}"), "application/json", r#"{"metadata":{"a":1}}"#.into()),
    ];
    for (method, path, kind, body) in &asked {
        // No CSRF token, the token of another login, and the right token from the wrong origin.
        for (origin, token) in [
            ("http://localhost", None),
            ("http://localhost", Some(&others)),
            ("http://localhost:3000", Some(&own)),
            ("http://127.0.0.1:3000", None),
        ] {
            let mut request = server.request(method, path.as_str()).header("Cookie", &cookie);
            request = request.header("Origin", origin);
            if let Some(token) = token {
                request = request.header("X-CSRF-Token", token);
            }
            let refused = request.body(kind, body.as_str()).send().await;
            assert_eq!(refused.status, 403, "{method} {path} from {origin} with {token:?}: {refused:?}");
        }
    }
    let knock = async |origin: &str, token: &str| {
        let protocols = format!("talktrack, csrf.{token}");
        let headers = [("Cookie", &*cookie), ("Origin", origin), ("Sec-WebSocket-Protocol", &protocols)];
        upgrade(server.address, &format!("/v1/ws?user_id={}", Uuid::new_v4()), &headers).await.1.status
    };
    for (origin, token) in [("http://localhost", &others), ("http://localhost:3000", &own)] {
        assert_eq!(knock(origin, token).await, 403, "{origin}");
    }
    assert_eq!(knock("http://localhost", &own).await, 101, "our own page may");
    assert_eq!(home.database().contents(session), ["stay"]);
    let ours = server.request("DELETE", format!("/v1/sessions/{session}")).header("Cookie", &cookie);
    let gone = ours.header("Origin", "http://localhost").header("X-CSRF-Token", &own).send().await;
    assert_eq!(gone.status, 200, "{gone:?}");
    expect_only_api_across_origins(&server, &key.key).await;
}

/// A page on another port cannot read the pages that contain the CSRF token. It may read the API, without the cookie.
async fn expect_only_api_across_origins(server: &Server, key: &str) {
    let read = async |path: &str| {
        let answer =
            server.request("GET", path).header("Origin", "http://localhost:3000").token(key).send().await;
        answer.header("access-control-allow-origin").is_some()
    };
    assert!(!read("/").await && !read("/health").await && read("/v1/sessions").await);
}

#[tokio::test]
async fn while_no_identity_is_checked_a_form_counts_only_from_our_own_pages() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    client.say("stay").await;
    let path = format!("/sessions/{}/delete", client.session);
    let page = server.get(&path).await;
    for form in ["", "csrf=", "csrf=AAAA"] {
        let refused = server.request("POST", path.as_str()).body(FORM, form).send().await;
        assert!(refused.status == 403 && refused.body.contains("load it again"), "{refused:?}");
    }
    assert_eq!(home.database().contents(client.session), ["stay"]);
    let form = format!("csrf={}", csrf(&page));
    let gone = server.request("POST", path).body(FORM, form).send().await;
    assert!(gone.status == 200 && gone.body.contains("The conversation is deleted"), "{gone:?}");
}

#[tokio::test]
async fn one_login_too_many_of_a_key_ends_the_least_recent_one() {
    let home = Home::new();
    let key = new_key(&home, "desk", "read").await;
    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", &key.entry)]).await;
    let mut cookies = Vec::new();
    for _ in 0..33 {
        cookies.push(cookie(&log_in(&server, &key.key, "/").await));
    }
    let mut lives = Vec::new();
    for cookie in &cookies {
        let answer = server.request("GET", "/v1/sessions").header("Cookie", cookie).send().await;
        lives.push(answer.status == 200);
    }
    assert_eq!((lives[0], lives.iter().filter(|lives| **lives).count()), (false, 32));
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
            assert!(refused.problem(403, "forbidden").starts_with("Origin: "), "{method} {path} {origin}");
        }
    }
    assert_eq!(home.database().contents(client.session), ["stay"]);
    let page = server.request("GET", "/").header("Cookie", &cookie).send().await;
    let from_here =
        server.request("POST", delete).header("Cookie", &cookie).header("Origin", "http://localhost");
    let from_here = from_here.body(FORM, format!("csrf={}", csrf(&page))).send().await;
    assert!(
        from_here.status == 200 && from_here.body.contains("The conversation is deleted"),
        "{from_here:?}"
    );
    assert_eq!(home.database().contents(client.session), [""; 0]);
}

#[tokio::test]
async fn a_user_sees_their_own_conversations_on_every_page_and_no_others() {
    let home = Home::new();
    let rights = ("TALKTRACK_USER_ACCESS", "read+write+delete");
    let server = serve_with(&home, &[("SUPABASE_JWT_SECRET", SECRET), rights]).await;
    let anna = Uuid::new_v4();
    let ben = Uuid::new_v4();
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
    let form = format!("csrf={}", csrf(&list));
    let refused = delete.header("Cookie", &cookie).body(FORM, form).send().await;
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
    assert!(refused.problem(403, "forbidden").starts_with("Host: "), "{refused:?}");
    let session = Uuid::new_v4();
    let body = json!({"session_id": session, "user_id": Uuid::new_v4()});
    let evil = server.request("POST", "/v1/sessions").header("Origin", "https://evil.example").json(&body);
    evil.send().await.problem(403, "forbidden");
    assert!(home.database().session(session).is_none());
}

#[tokio::test]
async fn a_form_that_is_larger_than_a_token_is_refused_before_it_is_read() {
    let home = Home::new();
    let key = new_key(&home, "desk", "admin").await;
    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", &key.entry)]).await;
    let refused = log_in(&server, &"a".repeat(32 << 10), "/").await;
    assert!(refused.status == 413 && refused.body.contains("a form has at most 32768 bytes"), "{refused:?}");
    let announced = "POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                     Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 16777216\r\n\r\n";
    let refused = crate::harness::request(server.address, announced).await;
    assert!(
        refused.status == 413 && refused.body.contains("a form has at most 32768 bytes"),
        "announced: {refused:?}"
    );
    assert_eq!(log_in(&server, &key.key, "/").await.status, 303);
}
