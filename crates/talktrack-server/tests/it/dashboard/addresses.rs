//! Addresses: those below a path prefix, and those where nothing is.

use serde_json::json;
use uuid::Uuid;

use super::login::{cookie, log_in};
use crate::auth::{new_key, serve_with};
use crate::harness::{Client, Home, HttpAnswer, Server};

const FORM: &str = "application/x-www-form-urlencoded";
const HTML: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

#[tokio::test]
async fn a_mistyped_address_is_a_page_to_a_person_and_a_problem_to_a_program() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let is_page = |answer: &HttpAnswer| {
        answer.header("content-type").unwrap().starts_with("text/html")
            && answer.body.contains("href=\"/stats\"")
    };
    let session = Uuid::new_v4();
    for path in [
        "/stat",
        "/sessions",
        &format!("/sessions/{session}/edit"),
        "/health/x/y",
        "/assets/x.js",
        "/index.html",
    ] {
        let answer = server.request("GET", path).header("Accept", HTML).send().await;
        assert!(answer.status == 404 && is_page(&answer), "{path}: {answer:?}");
        assert!(answer.body.contains("There is nothing here"), "{answer:?}");
    }
    for path in ["/sessions/", "/stats/x", "/talk/x", "/login/x", "/assets/x/y", "/health/letters/x"] {
        let answer = server.get(path).await;
        assert!(answer.status == 404 && is_page(&answer), "{path}: {answer:?}");
    }
    for path in [&*format!("/sessions/{session}/said?limit=many"), "/health?before=x", "/?q=1&q=2"] {
        let answer = server.get(path).await;
        assert!(answer.status == 400 && is_page(&answer), "{path}: {answer:?}");
    }
    let answer = server.request("POST", "/stats").header("Accept", HTML).send().await;
    assert!(answer.status == 405 && is_page(&answer), "{answer:?}");
    let marked = server.request("GET", "/%3Cscript%3E").header("Accept", HTML).send().await;
    assert!(marked.status == 404 && !marked.body.contains("<script>alert"), "{marked:?}");

    server.get("/stat").await.problem(404, "not_found");
    server.request("GET", "/v1/nothing").header("Accept", HTML).send().await.problem(404, "not_found");
    server.request("PUT", "/v1/sessions").header("Accept", HTML).send().await.problem(405, "unsupported");
}

/// Asserts that every address of this server in the answer begins with the prefix, and returns the answer.
async fn below(server: &Server, prefix: &str, path: &str) -> HttpAnswer {
    let answer = server.request("GET", path).header("X-Forwarded-Prefix", prefix).send().await;
    for attribute in [" href=\"/", " src=\"/", " action=\"/"] {
        for address in answer.body.split(attribute).skip(1) {
            let address = address.split('"').next().unwrap();
            let prefix = prefix.trim_end_matches('/');
            assert!(format!("/{address}").starts_with(&format!("{prefix}/")), "{path}: {address}");
        }
    }
    answer
}

#[tokio::test]
async fn a_trusted_proxy_says_below_which_path_the_pages_are() {
    let home = Home::new();
    let server = home.serve(&["--trusted-proxies", "127.0.0.1"]).await;
    let empty = below(&server, "/tools/talk", "/").await.body;
    assert!(empty.contains("ws://localhost/tools/talk/v1/ws"), "{empty}");
    let mut talk = Client::new(&server).await;
    talk.say("Look at href=\"/secret\" and src=\"/x\"").await;
    let session = talk.session;
    let audio = format!("/v1/sessions/{session}/audio/x.wav");
    talk.track(json!({"type": "message", "role": "user", "content": "Hear", "audio_url": audio})).await;
    for path in ["/", "/stats", "/talk", "/health", "/health/nothing", &format!("/sessions/{session}/delete")]
    {
        let page = below(&server, "/tools/talk", path).await;
        assert!(page.body.contains("<script defer src=\"/tools/talk/assets/page.js"), "{path}: {page:?}");
    }
    let page = below(&server, "/tools/talk/", &format!("/sessions/{session}")).await.body;
    assert!(page.contains(&format!("href=\"/tools/talk{audio}\"")), "{page}");
    assert!(page.contains("href=&#34;/secret&#34;"), "what was said stays as it is: {page}");
    let redirected = below(&server, "/tools/talk", "/login").await;
    assert_eq!(redirected.header("location"), Some("/tools/talk/"));
    for wrong in ["//evil.example", "https://evil.example", "/a\" onclick=\"x", "/..", "a"] {
        let page = server.request("GET", "/").header("X-Forwarded-Prefix", wrong).send().await;
        assert!(page.body.contains(" href=\"/stats\""), "{wrong}: {page:?}");
    }
    let two =
        server.request("GET", "/").header("X-Forwarded-Prefix", "/a").header("X-Forwarded-Prefix", "/b");
    assert!(two.send().await.body.contains(" href=\"/stats\""));
    server.stop().await;

    let server = home.serve(&[]).await;
    let page = server.request("GET", "/").header("X-Forwarded-Prefix", "/tools/talk").send().await;
    assert!(
        page.body.contains(" href=\"/stats\"") && !page.body.contains("/tools"),
        "anybody could say so: {page:?}"
    );
}

#[tokio::test]
async fn with_a_base_path_the_server_answers_with_and_without_it() {
    let home = Home::new();
    let key = new_key(&home, "desk", "read").await;
    let environment = [("TALKTRACK_API_KEYS", &*key.entry), ("TALKTRACK_BASE_PATH", "/tools/talktrack/")];
    let server = serve_with(&home, &environment).await;
    let prefix = "/tools/talktrack";
    for path in ["/healthz", "/tools/talktrack/healthz"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    let asked = server.get(&format!("{prefix}/stats?range=24h")).await;
    let login = asked.header("location").unwrap();
    assert_eq!((asked.status, login), (303, "/tools/talktrack/login?next=%2Fstats%3Frange%3D24h"));
    let form = server.get(login).await.body;
    assert!(form.contains("action=\"/tools/talktrack/login\""), "{form}");
    let entered = server.request("POST", format!("{prefix}/login"));
    let entered = entered.body(FORM, format!("token={}&next=%2Fstats%3Frange%3D24h", key.key)).send().await;
    assert_eq!(entered.header("location"), Some("/tools/talktrack/stats?range=24h"), "{entered:?}");
    let list = server.request("GET", prefix).header("Cookie", &cookie(&entered)).send().await;
    assert!(list.status == 200 && list.body.contains("href=\"/tools/talktrack/talk\""), "{list:?}");
    assert_eq!(log_in(&server, &key.key, "/").await.header("location"), Some("/tools/talktrack/"));
    assert_eq!(server.get("/tools/talktracks").await.status, 404);
    server.stop().await;
    for (path, told) in
        [("talktrack", "base_path"), ("/v1/x", "/v1"), ("/talk", "/talk"), ("/a/../b", "base_path")]
    {
        let refused = home.run(&["serve", "--listen", "127.0.0.1:0", "--base-path", path]).await.failed(2);
        assert!(refused.contains(told), "{path}: {refused}");
    }
}
