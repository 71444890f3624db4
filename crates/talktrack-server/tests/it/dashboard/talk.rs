//! The page with the chat: who may use it, and how it explains the connection of an agent.

use uuid::Uuid;

use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, new_key, serve_with};
use crate::harness::Home;

#[tokio::test]
async fn the_page_says_that_the_agent_is_an_echo_and_how_to_connect_ones_own() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let page = server.get("/talk").await;
    assert_eq!(page.status, 200, "{page:?}");
    for part in [
        "The agent here is an echo",
        "ws://localhost/v1/ws?user_id=",
        "from websockets.asyncio.client import connect",
        "new WebSocket(",
        "data-user=\"\"",
    ] {
        assert!(page.body.contains(part), "{part}: {page:?}");
    }
    assert!(!page.body.contains("Bearer"), "nobody is asked for a token here: {page:?}");
    for script in ["line.js", "voice.js", "talk.js"] {
        assert!(
            page.body.contains(&format!("<script defer src=\"/assets/{script}?v=")),
            "{script}: {page:?}"
        );
        assert_eq!(server.get(&format!("/assets/{script}")).await.status, 200, "{script}");
    }
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("connect-src 'self'") && !policy.contains("unsafe"), "{policy}");
}

#[tokio::test]
async fn a_user_talks_as_themselves_and_who_may_not_write_not_at_all() {
    let home = Home::new();
    let reader = new_key(&home, "eyes", "read").await;
    let environment = [("TALKTRACK_API_KEYS", reader.entry.as_str()), ("SUPABASE_JWT_SECRET", SECRET)];
    let server = serve_with(&home, &environment).await;
    assert_eq!(server.get("/talk").await.status, 303, "who has not logged in does so first");
    let refused = server.get_with("/talk", &reader.key).await;
    assert!(refused.status == 403 && refused.body.contains("the scope write"), "{refused:?}");

    let user = Uuid::new_v4();
    let token = SigningKey::secret(SECRET).token(&claims(user));
    let asked = server.request("GET", "/talk").token(&token).header("X-Forwarded-Proto", "https");
    let page = asked.send().await;
    assert!(page.status == 200 && page.body.contains(&format!("data-user=\"{user}\"")), "{page:?}");
    assert!(page.body.contains("wss://localhost/v1/ws") && page.body.contains("Bearer {token}"), "{page:?}");
}
