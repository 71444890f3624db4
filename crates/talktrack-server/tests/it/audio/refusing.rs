//! Refused uploads leave no file behind.

use serde_json::json;
use uuid::Uuid;

use super::{Upload, files, keep, send, session, wav};
use crate::harness::{Home, until, until_told};

#[tokio::test]
async fn bytes_tell_what_they_are_and_what_is_no_audio_is_refused() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = session(&server).await;
    for body in [&b"<!doctype html><script>alert(1)</script>"[..], b"RIFF", b"\0", &[0; 100_000]] {
        let answer = send(&server, session, "audio/wav", body).await;
        assert_eq!(answer.problem(415), "unsupported", "{answer:?}");
    }
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "audio", ""] {
        let answer = send(&server, session, content_type, &wav(100)).await;
        assert_eq!(answer.problem(415), "unsupported", "{answer:?}");
    }
    assert_eq!(send(&server, session, "audio/wav", &[]).await.problem(400), "invalid_message");
    assert!(!home.data_dir().join("audio").exists(), "nothing was kept");
}

#[tokio::test]
async fn a_recording_that_is_too_large_is_refused_and_nothing_of_it_stays() {
    let home = Home::new();
    let server = home.serve(&["--max-audio-bytes", "1MiB"]).await;
    let session = session(&server).await;
    keep(&server, session, &wav(1 << 20)).await;
    let announced = send(&server, session, "audio/wav", &wav((1 << 20) + 1)).await;
    assert_eq!(announced.problem(413), "too_large");
    assert!(announced.json()["detail"].as_str().unwrap().contains("max_audio_bytes"), "{announced:?}");
    let mut upload = Upload::chunked(&server, session).await;
    upload.chunk(&wav(1 << 20)).await;
    upload.chunk(b"x").await;
    assert_eq!(upload.answer().await.problem(413), "too_large", "however it comes");
    until("only the first is there", || (files(&home, session).len() == 1).then_some(())).await;
}

#[tokio::test]
async fn recordings_have_a_quota_and_deleting_makes_room() {
    let home = Home::new();
    let limits = ["--max-audio-bytes-total", "3MiB"];
    let server = home.serve(&limits).await;
    let one = session(&server).await;
    let other = session(&server).await;
    keep(&server, one, &wav(1 << 20)).await;
    keep(&server, other, &wav(1 << 20)).await;
    let refused = send(&server, other, "audio/wav", &wav(2 << 20)).await;
    assert_eq!(refused.problem(413), "too_large");
    assert!(refused.json()["detail"].as_str().unwrap().contains("max_audio_bytes_total"), "{refused:?}");
    server.stop().await;
    let server = home.serve(&limits).await;
    let refused = until_told("what was kept before the start is counted", async || {
        let answer = send(&server, other, "audio/wav", &wav(1 << 20)).await;
        (answer.status == 413).then_some(answer)
    });
    refused.await;
    let deleted = server.request("DELETE", format!("/v1/sessions/{one}")).send().await;
    assert!(matches!(deleted.status, 200 | 202), "{deleted:?}");
    until_told("there is room", async || {
        (send(&server, other, "audio/wav", &wav(100 << 10)).await.status == 201).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_recording_needs_a_session() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let stranger = Uuid::new_v4();
    assert_eq!(
        send(&server, stranger, "audio/wav", &wav(100)).await.problem(404),
        json!("session_not_found")
    );
    assert!(files(&home, stranger).is_empty());
}
