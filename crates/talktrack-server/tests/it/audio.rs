//! Recordings: uploads, downloads in full and in part, refused and interrupted uploads, and a real object store.

mod keeping;
mod refusing;
mod breaking_off;
mod s3;

// Helpers of the modules above.
mod exchange;
mod recording;

use std::path::Path;

use uuid::Uuid;

use crate::harness::{Client, Home, Server};
pub(crate) use exchange::{Answer, Upload, exchange};
pub(crate) use recording::{mp3, ogg, wav};

/// Starts a session and returns its id.
pub(crate) async fn session(server: &Server) -> Uuid {
    Client::new(server).await.session
}

/// Uploads a recording and returns the response.
async fn send(server: &Server, session: Uuid, content_type: &str, body: &[u8]) -> Answer {
    let head = format!("POST /v1/sessions/{session}/audio HTTP/1.1\r\nContent-Type: {content_type}\r\n");
    exchange(server, &head, body).await
}

/// Uploads a recording that must be accepted, and returns its URL.
pub(crate) async fn keep(server: &Server, session: Uuid, body: &[u8]) -> String {
    let answer = send(server, session, "audio/x-whatever", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["audio_url"].as_str().unwrap().to_owned()
}

/// Sends a GET request with these additional headers, each of which ends with CRLF.
pub(crate) async fn read(server: &Server, url: &str, headers: &str) -> Answer {
    exchange(server, &format!("GET {url} HTTP/1.1\r\n{headers}"), &[]).await
}

/// Returns the names of the files that a server keeps for a session, including unfinished uploads.
fn files(home: &Home, session: Uuid) -> Vec<String> {
    names_in(&home.data_dir().join("audio").join(session.to_string()))
}

/// Returns the names of all files below a folder. Each user who claims a session has a separate subfolder.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    let names = |entry: std::fs::DirEntry| match entry.path().is_dir() {
        true => names_in(&entry.path()),
        false => vec![entry.file_name().into_string().unwrap()],
    };
    entries.flat_map(names).collect()
}
