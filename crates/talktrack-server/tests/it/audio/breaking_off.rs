//! Uploads that never end.

use uuid::Uuid;

use super::{Upload, files, keep, read, session, wav};
use crate::harness::{Home, Server, until};

/// More than the server buffers before it writes the first bytes to the file.
const SOME: usize = 1 << 20;

/// Starts an upload and waits until its first bytes are in a file.
async fn half_way(home: &Home, server: &Server, session: Uuid) -> Upload {
    let before = files(home, session).len();
    let mut upload = Upload::chunked(server, session).await;
    upload.chunk(&wav(SOME)).await;
    until("some of it is written", || (files(home, session).len() > before).then_some(())).await;
    upload
}

#[tokio::test]
async fn who_leaves_in_the_middle_leaves_nothing() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = session(&server).await;
    drop(half_way(&home, &server, session).await);
    let folder = home.data_dir().join("audio").join(session.to_string());
    until("it is cleared away, and its folder with it", || (!folder.exists()).then_some(())).await;
    keep(&server, session, &wav(SOME)).await;
}

#[tokio::test]
async fn who_falls_silent_is_not_waited_for() {
    let home = Home::new();
    let server = home.serve(&["--ping-interval", "200ms", "--peer-timeout", "500ms"]).await;
    let session = session(&server).await;
    let upload = half_way(&home, &server, session).await;
    upload.answer().await.problem(408);
    until("it is cleared away", || files(&home, session).is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_kill_in_the_middle_leaves_nothing_that_the_next_start_does_not_clear_away() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let (session, other) = (session(&server).await, session(&server).await);
    let kept = keep(&server, session, &wav(SOME)).await;
    let uploads = (half_way(&home, &server, session).await, half_way(&home, &server, other).await);
    server.kill().await;
    drop(uploads);
    assert_eq!(
        (files(&home, session).len(), files(&home, other).len()),
        (2, 1),
        "a kill clears nothing away"
    );

    let server = home.serve(&[]).await;
    server.logged("removed 2 recordings").await;
    assert_eq!((files(&home, session).len(), files(&home, other).len()), (1, 0));
    assert!(read(&server, &kept, "").await.body == wav(SOME), "what was kept is there");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_upload() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = session(&server).await;
    let _upload = half_way(&home, &server, session).await;
    server.stop().await;
    let server = home.serve(&[]).await;
    until("nothing of it is left", || files(&home, session).is_empty().then_some(())).await;
    server.stop().await;
}
