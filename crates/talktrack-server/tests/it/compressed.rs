//! Request bodies in gzip, and files in gzip and Zstandard.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::harness::{Client, Home, Server, within};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Sends a body with this encoding, and returns the status and the body of the answer.
async fn post(server: &Server, path: &str, encoding: &str, body: &[u8]) -> (u16, String) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    within("an answer to a compressed request", async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server may answer before it has read everything.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.get(9..12).unwrap_or_default().parse().unwrap_or_default();
        (status, answer)
    })
    .await
}

#[tokio::test]
async fn a_body_in_gzip_is_read_and_its_limit_counts_what_it_holds() {
    let home = Home::new();
    let server = home.serve(&["--max-body-bytes", "100000"]).await;
    let client = Client::new(&server).await;
    let path = format!("/v1/sessions/{}/messages", client.session);
    let message = json!({"role": "user", "content": "in gzip"}).to_string();
    for encoding in ["gzip", "GZIP", "x-gzip"] {
        assert_eq!(post(&server, &path, encoding, &gzip(message.as_bytes())).await.0, 202, "{encoding}");
    }
    assert_eq!(post(&server, &path, "identity", message.as_bytes()).await.0, 202);
    // Two members, as log shippers append them.
    let (one, two) = message.split_at(10);
    assert_eq!(
        post(&server, &path, "gzip", &[gzip(one.as_bytes()), gzip(two.as_bytes())].concat()).await.0,
        202
    );
    assert_eq!(home.database().contents(client.session), ["in gzip"; 5]);

    let bomb = gzip(&vec![b' '; 50_000_000]);
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let (status, answer) = post(&server, &path, "gzip", &bomb).await;
    assert_eq!((status, answer.contains("at most 100000 bytes")), (413, true), "{answer}");
    let broken = &gzip(message.as_bytes())[..20];
    for (encoding, body, status, text) in [
        ("gzip", broken, 400, "not valid gzip, or it ends early"),
        ("gzip", message.as_bytes(), 400, "not valid gzip"),
        ("br", message.as_bytes(), 415, "Content-Encoding must be gzip"),
        ("gzip, gzip", message.as_bytes(), 415, "Content-Encoding must be gzip"),
    ] {
        let (told, answer) = post(&server, &path, encoding, body).await;
        assert_eq!((told, answer.contains(text)), (status, true), "{encoding}: {answer}");
    }
    assert_eq!(home.database().contents(client.session).len(), 5);
}

#[tokio::test]
async fn a_file_in_gzip_or_zstandard_is_imported_and_replayed() {
    let home = Home::new();
    let lines = |session: Uuid| {
        let start = json!({"type": "session.start", "session_id": session, "user_id": Uuid::new_v4()});
        let said = json!({"type": "message", "session_id": session, "role": "user", "content": "in a file"});
        format!("\u{feff}{start}\r\n{said}\r\n")
    };
    let pack = |name: &str, text: &str| {
        let (one, two) = text.split_at(20);
        let parts = [one, two].map(|part| match name {
            "gz" => gzip(part.as_bytes()),
            "zst" => zstd::encode_all(part.as_bytes(), 3).unwrap(),
            _ => part.as_bytes().to_vec(),
        });
        let path = home.path(&format!("calls.jsonl.{name}"));
        std::fs::write(&path, parts.concat()).unwrap();
        path.display().to_string()
    };
    let sessions = ["gz", "zst", "txt"].map(|name| (name, Uuid::new_v4()));
    for (name, session) in sessions {
        home.look(&["import", &pack(name, &lines(session))]).await.succeeded();
        assert_eq!(home.database().contents(session), ["in a file"], "{name}");
    }
    let torn = pack("gz", &lines(Uuid::new_v4()));
    let bytes = std::fs::read(&torn).unwrap();
    std::fs::write(&torn, &bytes[..bytes.len() - 9]).unwrap();
    let errors = home.look(&["import", &torn]).await.failed(1);
    assert!(errors.contains("calls.jsonl.gz"), "{errors}");
    let server = home.serve(&[]).await;
    let replayed = Uuid::new_v4();
    let file = pack("zst", &lines(replayed));
    let url = format!("ws://{}", server.address);
    home.run(&["client", "--url", &url, "--file", &file]).await.succeeded();
    assert_eq!(home.database().contents(replayed), ["in a file"]);
}
