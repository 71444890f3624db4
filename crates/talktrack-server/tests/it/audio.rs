//! Recordings: sent, read back as a whole and in part, refused, broken off, and kept in a real object store.

mod keeping;
mod refusing;
mod breaking_off;
mod s3;

// What these are made of.
mod exchange;
mod recording;

use std::path::Path;

use uuid::Uuid;

use crate::harness::{Client, Home, Server};
pub(crate) use exchange::{Answer, Upload, exchange};
pub(crate) use recording::{mp3, ogg, wav};

/// A session that is there.
pub(crate) async fn session(server: &Server) -> Uuid {
    Client::new(server).await.session
}

/// Sends a recording.
async fn send(server: &Server, session: Uuid, content_type: &str, body: &[u8]) -> Answer {
    let head = format!("POST /v1/sessions/{session}/audio HTTP/1.1\r\nContent-Type: {content_type}\r\n");
    exchange(server, &head, body).await
}

/// Sends a recording that is kept, and says where.
async fn keep(server: &Server, session: Uuid, body: &[u8]) -> String {
    let answer = send(server, session, "audio/x-whatever", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["audio_url"].as_str().unwrap().to_owned()
}

/// Reads with further headers, each with its line's end.
async fn read(server: &Server, url: &str, headers: &str) -> Answer {
    exchange(server, &format!("GET {url} HTTP/1.1\r\n{headers}"), &[]).await
}

/// The files that a server keeps for a session, with those that are being written.
fn files(home: &Home, session: Uuid) -> Vec<String> {
    names_in(&home.data_dir().join("audio").join(session.to_string()))
}

/// The names of the files in a folder and in those below it: each user's claim has one of its own.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    let names = |entry: std::fs::DirEntry| match entry.path().is_dir() {
        true => names_in(&entry.path()),
        false => vec![entry.file_name().into_string().unwrap()],
    };
    entries.flat_map(names).collect()
}
