//! Accepted recordings are kept and read back unchanged.

use std::fs::File;
use std::time::{Duration, SystemTime};

use serde_json::json;
use uuid::Uuid;

use super::{exchange, files, keep, mp3, ogg, read, send, session, wav};
use crate::harness::{Client, Home, until};

#[tokio::test]
async fn a_recording_comes_back_as_it_was_and_a_message_leads_to_it() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    for (sent, content_type, extension) in [
        (ogg(70), "audio/ogg", "ogg"),
        (mp3(300 << 10), "audio/mpeg", "mp3"),
        (wav(3_000_001), "audio/wav", "wav"),
    ] {
        let answer = send(&server, client.session, "audio/x-whatever; rate=8000", &sent).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let told = answer.json();
        let url = told["audio_url"].as_str().unwrap();
        assert_eq!((&told["content_type"], &told["bytes"]), (&json!(content_type), &json!(sent.len())));
        assert!(url.starts_with(&format!("/v1/sessions/{}/audio/", client.session)), "{url}");
        assert!(url.ends_with(&format!(".{extension}")) && answer.header("location") == Some(url), "{url}");

        let back = read(&server, url, "").await;
        assert_eq!((back.status, back.header("content-type")), (200, Some(content_type)), "{back:?}");
        assert!(back.body == sent, "{} bytes of {}", back.body.len(), sent.len());
        client.track(json!({"type": "message", "role": "user", "content": "heard", "audio_url": url})).await;
    }
    let urls = home.database().messages(client.session);
    assert!(urls.iter().all(|row| row.audio_url.is_some()));
    assert_eq!(files(&home, client.session).len(), 3, "and nothing besides");
}

#[tokio::test]
async fn a_player_may_ask_for_a_part() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let sent = wav(1_000);
    let url = keep(&server, session(&server).await, &sent).await;
    for (range, from, to) in [
        ("0-0", 0, 1),
        ("100-299", 100, 300),
        ("990-", 990, 1_000),
        ("-10", 990, 1_000),
        ("0-9999", 0, 1_000),
    ] {
        let part = read(&server, &url, &format!("Range: bytes={range}\r\n")).await;
        assert_eq!((part.status, &part.body[..]), (206, &sent[from..to]), "{range}: {part:?}");
        let told = format!("bytes {from}-{}/1000", to - 1);
        assert_eq!(part.header("content-range"), Some(told.as_str()));
        assert_eq!(part.header("content-length"), Some((to - from).to_string().as_str()));
    }
    let beyond = read(&server, &url, "Range: bytes=1000-\r\n").await;
    assert_eq!(
        (beyond.problem(416), beyond.header("content-range")),
        (json!("invalid_message"), Some("bytes */1000"))
    );
    let several = read(&server, &url, "Range: bytes=0-1,5-6\r\n").await;
    assert!(several.status == 200 && several.body == sent, "{several:?}");
}

#[tokio::test]
async fn who_has_it_already_is_told_so_and_whoever_asks_for_the_head_gets_that() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let sent = wav(1_000);
    let url = keep(&server, session(&server).await, &sent).await;
    let whole = read(&server, &url, "").await;
    let etag = whole.header("etag").unwrap();
    let again = read(&server, &url, &format!("If-None-Match: \"x\", {etag}\r\n")).await;
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(etag)), "{again:?}");
    assert_eq!(read(&server, &url, "If-None-Match: \"x\"\r\n").await.status, 200);
    let part = |tag: &str| format!("Range: bytes=0-9\r\nIf-Range: {tag}\r\n");
    assert_eq!(read(&server, &url, &part(etag)).await.status, 206);
    assert_eq!(
        read(&server, &url, &part("\"x\"")).await.status,
        200,
        "a part of something else would not fit"
    );

    let head = exchange(&server, &format!("HEAD {url} HTTP/1.1\r\n"), &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0), "{head:?}");
    for (name, value) in [
        ("content-length", "1000"),
        ("content-type", "audio/wav"),
        ("accept-ranges", "bytes"),
        ("cache-control", "private, no-cache"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!((head.header(name), whole.header(name)), (Some(value), Some(value)), "{name}");
    }
    assert!(head.header("content-disposition").unwrap().starts_with("inline; filename=\""), "{head:?}");
}

#[tokio::test]
async fn what_a_recording_weighs_is_not_held_in_memory() {
    const BYTES: usize = 96 << 20;
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = session(&server).await;
    let sent = wav(BYTES);
    keep(&server, session, &sent[..1 << 20]).await;
    let before = server.resident_kib();
    let url = keep(&server, session, &sent).await;
    let after_upload = server.resident_kib();
    let back = read(&server, &url, "").await;
    assert!(back.body == sent, "{} bytes of {BYTES}", back.body.len());
    let grown = after_upload.max(server.resident_kib()).saturating_sub(before);
    assert!(grown < 24 << 10, "{grown} KiB for a recording of {BYTES} bytes");
}

#[tokio::test]
async fn what_is_not_there_cannot_be_read_and_no_name_leads_elsewhere() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = session(&server).await;
    let url = keep(&server, session, &wav(100)).await;
    let name = url.rsplit('/').next().unwrap();
    for url in [
        format!("/v1/sessions/{session}/audio/{}.wav", Uuid::new_v4()),
        format!("/v1/sessions/{session}/audio/{}", name.replace("wav", "ogg")),
        format!("/v1/sessions/{session}/audio/{name}%231"),
        format!("/v1/sessions/{session}/audio/..%2f..%2ftalktrack.db"),
        format!("/v1/sessions/{session}/audio/%00"),
        format!("/v1/sessions/{}/audio/{name}", Uuid::new_v4()),
    ] {
        read(&server, &url, "").await.problem(404);
    }
    assert_eq!(
        read(&server, &format!("/v1/sessions/x/audio/{name}"), "").await.problem(400),
        "invalid_message"
    );
}

#[tokio::test]
async fn recordings_go_with_their_session_at_the_next_start_at_the_latest() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let gone = session(&server).await;
    let other = session(&server).await;
    let url = keep(&server, gone, &wav(100_000)).await;
    keep(&server, gone, &wav(70_000)).await;
    keep(&server, other, &wav(50_000)).await;
    let deleted = server.request("DELETE", format!("/v1/sessions/{gone}")).send().await;
    assert_eq!((deleted.status, &deleted.json()["audio"]), (200, &2.into()), "{deleted:?}");
    assert!(!home.data_dir().join("audio").join(gone.to_string()).exists());
    assert_eq!(read(&server, &url, "").await.status, 404);
    let late = send(&server, gone, "audio/wav", &wav(10_000)).await;
    assert_eq!(late.status, 410, "{late:?}");
    server.kill().await;
    // The state that a kill between the deletion of the session and the removal of its files would leave.
    let left = home.data_dir().join("audio").join(gone.to_string());
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join(url.rsplit('/').next().unwrap()), wav(1_000)).unwrap();
    let server = home.serve(&[]).await;
    until("what was left is removed", || (!left.exists()).then_some(())).await;
    assert_eq!(files(&home, other).len(), 1, "and nobody else's");
    server.stop().await;
}

#[tokio::test]
async fn an_old_recording_is_deleted_and_its_message_stays() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let old = keep(&server, client.session, &wav(1_000)).await;
    client.track(json!({"type": "message", "role": "user", "content": "heard", "audio_url": old})).await;
    let young = keep(&server, client.session, &wav(2_000)).await;
    server.stop().await;
    let folder = home.data_dir().join("audio").join(client.session.to_string()).join(client.user.to_string());
    let file = File::options().write(true).open(folder.join(old.rsplit('/').next().unwrap())).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3 * 86_400)).unwrap();
    let server = home.serve(&["--audio-retention-days", "2"]).await;
    server.logged("retention: deleted 1 recording from before ").await;
    assert_eq!(server.get(&old).await.status, 404);
    assert_eq!(read(&server, &young, "").await.status, 200);
    assert_eq!(home.database().contents(client.session), ["heard"]);
}
