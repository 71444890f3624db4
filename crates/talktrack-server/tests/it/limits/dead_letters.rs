//! Dead letters that a user can cause on purpose.

use serde_json::json;
use uuid::Uuid;

use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, serve_with};
use crate::harness::{Home, Server, until_told};

async fn start(server: &Server, token: &str) -> (String, String) {
    let started = server.request("POST", "/v1/sessions").token(token).json(&json!({})).send().await;
    assert_eq!(started.status, 201, "{started:?}");
    let session = started.json()["session_id"].as_str().unwrap().to_owned();
    (format!("/v1/sessions/{session}/messages"), session)
}

#[tokio::test]
async fn a_user_whose_dead_letters_take_too_much_writes_no_more_and_others_do() {
    let home = Home::new();
    let environment = [("SUPABASE_JWT_SECRET", SECRET), ("TALKTRACK_DEAD_LETTER_BYTES_PER_USER", "16KiB")];
    let server = serve_with(&home, &environment).await;
    let [ben, ann] = [1, 2].map(|user| SigningKey::secret(SECRET).token(&claims(Uuid::from_u128(user))));
    let ((of_ben, session), (of_ann, _)) = (start(&server, &ben).await, start(&server, &ann).await);
    server.stop().await;
    // Dead letters as the server writes them for messages that the store refuses.
    let letter = json!({"seq": 1, "body": {"message": {"owner": Uuid::from_u128(1), "message": {"content": "x".repeat(8_192)}}}});
    home.database().execute(&format!(
        "INSERT INTO dead_letters (seq, session_id, message_id, reason, body, died_at) \
         SELECT value, '{session}', '{session}', 'data', '{letter}', '2026-01-01T00:00:00.000000Z' \
         FROM json_each('[1, 2, 3]')"
    ));
    let server = serve_with(&home, &environment).await;
    let body = json!({"role": "user", "content": "hello"});
    let say =
        async |path: &str, token: &str| server.request("POST", path).token(token).json(&body).send().await;
    let refused = until_told("his letters are counted", async || {
        Some(say(&of_ben, &ben).await).filter(|answer| answer.status == 503)
    });
    let refused = refused.await;
    assert!(refused.problem(503, "journal_full").contains("dead_letter_bytes_per_user"), "{refused:?}");
    assert_eq!(say(&of_ann, &ann).await.status, 202);
    home.look(&["dead-letters", "drop", "--all", "--yes"]).await.succeeded();
    until_told("there is room again", async || (say(&of_ben, &ben).await.status == 202).then_some(())).await;
}
