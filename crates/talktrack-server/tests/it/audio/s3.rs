//! Recordings in an S3 object store. If no object store is installed, the tests print this and are skipped.

use serde_json::json;
use talktrack_testbed::Moto;

use super::{Upload, exchange, keep, mp3, read, send, session, wav};
use crate::harness::{Home, Server};

/// Starts an object store with the bucket `calls`.
async fn object_store() -> Option<Moto> {
    let moto = Moto::start()?;
    assert_eq!(ask(&moto, "PUT", "/calls").await, 200);
    Some(moto)
}

/// A signature with any content: this object store does not verify signatures.
const SIGNATURE: &str =
    "AWS4-HMAC-SHA256 Credential=me/20261123/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

/// Sends a request directly to the object store and returns the status.
async fn ask(moto: &Moto, method: &str, path: &str) -> u16 {
    let head = format!("{method} {path} HTTP/1.1\r\nContent-Length: 0\r\nAuthorization: {SIGNATURE}\r\n");
    Upload::begin(moto.address(), &head).await.answer().await.status
}

/// Starts a server that keeps its recordings in the object store.
async fn serve(moto: &Moto, home: &Home, flags: &[&str]) -> Server {
    let mut command = home.server_command(flags);
    command.env("TALKTRACK_AUDIO_STORE", "s3://calls/live");
    command.env("TALKTRACK_AUDIO_ENDPOINT", format!("http://{}", moto.address()));
    command.env("TALKTRACK_LOG_LEVEL", "trace");
    command.env("AWS_ACCESS_KEY_ID", "me").env("AWS_SECRET_ACCESS_KEY", "hunter2");
    Server::start(home, command).await
}

#[tokio::test]
async fn recordings_in_an_object_store_are_kept_read_and_refused_like_those_in_a_folder() {
    let Some(moto) = object_store().await else { return };
    let home = Home::new();
    let server = serve(&moto, &home, &["--max-audio-bytes", "12MiB"]).await;
    let session = session(&server).await;
    let row = server.get(&format!("/v1/sessions/{session}")).await.json();
    let owner = row["user_id"].as_str().unwrap();
    for sent in [mp3(1_000), wav(5 << 20), wav(12 << 20)] {
        let url = keep(&server, session, &sent).await;
        let back = read(&server, &url, "").await;
        assert!(back.status == 200 && back.body == sent, "{} bytes of {}", back.body.len(), sent.len());
        let part = read(&server, &url, "Range: bytes=-100\r\n").await;
        assert_eq!((part.status, &part.body[..]), (206, &sent[sent.len() - 100..]));
        let head = exchange(&server, &format!("HEAD {url} HTTP/1.1\r\n"), &[]).await;
        assert_eq!(head.header("content-length"), Some(sent.len().to_string().as_str()));
        let object = url.replace("/v1/sessions/", "/calls/live/").replace("/audio/", &format!("/{owner}/"));
        assert_eq!(ask(&moto, "HEAD", &object).await, 200, "under the prefix: {object}");
    }
    let missing = format!("/v1/sessions/{session}/audio/{}.wav", uuid::Uuid::new_v4());
    assert_eq!(read(&server, &missing, "").await.problem(404), json!("not_found"));
    let mut upload = Upload::chunked(&server, session).await;
    upload.chunk(&wav(12 << 20)).await;
    upload.chunk(b"x").await;
    assert_eq!(upload.answer().await.problem(413), "too_large");
    assert!(!server.log().contains("hunter2") && !home.data_dir().join("audio").exists());
}

#[tokio::test]
async fn an_object_store_that_is_away_is_told_to_whoever_asks_and_holds_up_nothing_else() {
    let Some(moto) = object_store().await else { return };
    let home = Home::new();
    let server = serve(&moto, &home, &[]).await;
    let session = session(&server).await;
    let url = keep(&server, session, &wav(1_000)).await;
    drop(moto);
    for answer in [send(&server, session, "audio/wav", &wav(1_000)).await, read(&server, &url, "").await] {
        assert_eq!(
            (answer.problem(503), answer.header("retry-after")),
            (json!("store_unavailable"), Some("10"))
        );
        assert!(!answer.json()["detail"].as_str().unwrap().contains("127.0.0.1"), "{answer:?}");
    }
    assert_eq!(server.get("/readyz").await.status, 200, "conversations go on");
    server.logged("audio: the store of the recordings cannot be used").await;
    assert!(!server.log().contains("hunter2"));
}
