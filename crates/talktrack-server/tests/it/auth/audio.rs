//! Access to recordings.

use uuid::Uuid;

use super::{SECRET, SigningKey, claims, new_key, serve_with};
use crate::audio::{exchange, wav};
use crate::harness::{Client, Home};

#[tokio::test]
async fn a_user_keeps_and_reads_recordings_of_their_own_sessions_only() {
    let home = Home::new();
    let reader = new_key(&home, "reader", "read").await;
    let writer = new_key(&home, "writer", "write").await;
    let keys = format!("{} {}", reader.entry, writer.entry);
    let environment = [("SUPABASE_JWT_SECRET", SECRET), ("TALKTRACK_API_KEYS", &keys)];
    let server = serve_with(&home, &environment).await;
    let token = |user| SigningKey::secret(SECRET).token(&claims(user));
    let own = token(Uuid::new_v4());
    let other = token(Uuid::new_v4());
    let session = Client::come_with(&server, "", &own).await.expect_started().await.session;
    let send = async |token: &str| {
        let head = format!("POST /v1/sessions/{session}/audio HTTP/1.1\r\nContent-Type: audio/wav\r\n");
        exchange(&server, &format!("{head}Authorization: Bearer {token}\r\n"), &wav(100)).await
    };
    let kept = send(&own).await;
    assert_eq!(kept.status, 201, "{kept:?}");
    send(&other).await.problem(404);
    send(&reader.key).await.problem(403);
    assert_eq!(send(&writer.key).await.status, 201, "a server writes for all");

    let url = kept.json()["audio_url"].as_str().unwrap().to_owned();
    let read = async |authorization: &str| {
        exchange(&server, &format!("GET {url} HTTP/1.1\r\n{authorization}"), &[]).await
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    assert_eq!(read(&bearer(&own)).await.status, 200);
    assert_eq!(read(&bearer(&reader.key)).await.status, 200, "a server reads for all");
    read(&bearer(&other)).await.problem(404);
    read(&bearer(&writer.key)).await.problem(403);
    read("").await.problem(401);
}

#[tokio::test]
async fn a_users_recordings_have_a_quota_and_a_keys_have_none() {
    let home = Home::new();
    let writer = new_key(&home, "writer", "write").await;
    let environment = [
        ("SUPABASE_JWT_SECRET", SECRET),
        ("TALKTRACK_API_KEYS", &*writer.entry),
        ("TALKTRACK_MAX_AUDIO_BYTES_PER_USER", "1KiB"),
    ];
    let server = serve_with(&home, &environment).await;
    let token = SigningKey::secret(SECRET).token(&claims(Uuid::new_v4()));
    let session = Client::come_with(&server, "", &token).await.expect_started().await.session;
    let send = async |token: &str| {
        let head = format!("POST /v1/sessions/{session}/audio HTTP/1.1\r\nContent-Type: audio/wav\r\n");
        exchange(&server, &format!("{head}Authorization: Bearer {token}\r\n"), &wav(700)).await
    };
    assert_eq!(send(&token).await.status, 201);
    let refused = send(&token).await;
    assert_eq!(refused.problem(413), "too_large");
    assert!(refused.json()["detail"].as_str().unwrap().contains("max_audio_bytes_per_user"), "{refused:?}");
    assert_eq!(send(&writer.key).await.status, 201, "a server keeps what it has to");
}
