//! CORS and security headers: which pages may read the responses, and what browsers may do with them.

use crate::harness::{Home, HttpAnswer, Server};

async fn preflight(server: &Server, origin: &str) -> HttpAnswer {
    let request = server.request("OPTIONS", "/v1/sessions/00000000-0000-4000-8000-000000000001/messages");
    let asked = request.header("Origin", origin).header("Access-Control-Request-Method", "POST");
    asked.header("Access-Control-Request-Headers", "authorization,content-type,idempotency-key").send().await
}

#[tokio::test]
async fn pages_of_allowed_origins_may_use_the_api_and_no_others() {
    let home = Home::new();
    let server = home.serve(&["--allowed-origins", "https://app.example.com"]).await;
    for origin in ["https://app.example.com", "http://localhost:3000"] {
        let allowed = preflight(&server, origin).await;
        assert_eq!(
            (allowed.status, allowed.header("access-control-allow-origin")),
            (200, Some(origin)),
            "{allowed:?}"
        );
        let methods = allowed.header("access-control-allow-methods").unwrap();
        assert!(
            ["GET", "POST", "PATCH", "DELETE"].iter().all(|method| methods.contains(method)),
            "{methods}"
        );
        let headers = allowed.header("access-control-allow-headers").unwrap();
        for header in
            ["authorization", "content-type", "content-encoding", "idempotency-key", "range", "last-event-id"]
        {
            assert!(headers.contains(header), "{headers}");
        }
        assert_eq!(allowed.header("access-control-allow-credentials"), None, "no cookies here");
        let answer = server.request("GET", "/v1/sessions").header("Origin", origin).send().await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert!(
            answer.header("access-control-expose-headers").unwrap().contains("retry-after"),
            "{answer:?}"
        );
    }
    for origin in ["https://example.com", "https://app.example.com.evil.net", "null"] {
        let asked = server.request("GET", "/v1/sessions").header("Origin", origin).send().await;
        for answer in [preflight(&server, origin).await, asked] {
            assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn an_allowed_origin_is_recognised_in_every_form_that_a_client_sends() {
    let home = Home::new();
    let allowed = "https://app.example:443,http://Dev.Example:80,https://[2001:DB8::1]:8443,https://b\u{fc}cher.example,\
                   https://[::FFFF:192.0.2.7],capacitor://localhost,chrome-extension://ABCDEFGHIJKLMNOP";
    let server = home.serve(&["--allowed-origins", allowed]).await;
    let is_allowed = async |origin: &str| {
        let asked = server.request("GET", "/v1/sessions").header("Origin", origin).send().await;
        asked.header("access-control-allow-origin") == Some(origin)
    };
    for origin in [
        "https://app.example",
        "https://app.example:443",
        "HTTPS://APP.EXAMPLE",
        "http://dev.example",
        "http://dev.example:80",
        "https://[2001:db8::1]:8443",
        "https://[2001:0DB8:0::0001]:8443",
        "https://xn--bcher-kva.example",
        "https://XN--BCHER-KVA.example:443",
        "https://[::ffff:c000:207]",
        "capacitor://localhost",
        "chrome-extension://abcdefghijklmnop",
        "http://[::1]:3000",
        "http://[::ffff:7f00:1]:3000",
    ] {
        assert!(is_allowed(origin).await, "{origin}");
    }
    for origin in [
        "null",
        "https://app.example:80",
        "http://app.example:443",
        "https://app.example:8443",
        "https://[2001:db8::1]",
        "https://[2001:db8::2]:8443",
        "https://bucher.example",
        "https://bcher-kva.example",
        "ionic://localhost",
        "capacitor://localhost:443",
        "chrome-extension://abcdefghijklmnoq",
        "file://",
    ] {
        assert!(!is_allowed(origin).await, "{origin}");
    }
}

#[tokio::test]
async fn every_answer_says_that_it_is_not_to_be_framed_kept_or_taken_for_something_else() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    for page in ["/v1/sessions", "/nothing", "/healthz", "/openapi.json", "/docs"] {
        let answer = server.get(page).await;
        let policy = answer.header("content-security-policy").unwrap_or_else(|| panic!("{answer:?}"));
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert_eq!(policy.contains("style-src 'sha256-"), page == "/docs", "{page}: {policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{page}");
        }
    }
}
