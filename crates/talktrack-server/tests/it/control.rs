//! The control socket: every program that can enter the data directory may use it, and no input harms the server.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::harness::{Client, Home, until, within};

async fn connect(home: &Home) -> UnixStream {
    within("the control socket answers", UnixStream::connect(home.data_dir().join("control"))).await.unwrap()
}

/// Sends this text and returns the response, up to the end of the connection.
async fn answer(home: &Home, said: &[u8]) -> Value {
    let mut stream = connect(home).await;
    // The write may fail if the server responds before it has read everything.
    let _ = within("something is said", stream.write_all(said)).await;
    read_answer(stream).await
}

async fn read_answer(mut stream: UnixStream) -> Value {
    let mut answer = Vec::new();
    let _ = within("the connection ends", stream.read_to_end(&mut answer)).await;
    serde_json::from_slice(&answer).unwrap_or_else(|_| panic!("{:?}", String::from_utf8_lossy(&answer)))
}

#[tokio::test]
async fn only_the_owner_may_speak_to_it_and_it_goes_with_the_server() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let path = home.data_dir().join("control");
    let metadata = std::fs::metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let names = |home: &Home| {
        let entries = std::fs::read_dir(home.data_dir()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert!(!names(&home).contains(&"control.new".to_owned()), "{:?}", names(&home));
    server.stop().await;
    assert!(!path.exists());

    // A socket file that a killed server left behind does not prevent the next start.
    let server = home.serve(&[]).await;
    server.kill().await;
    assert!(path.exists());
    let _server = home.serve(&[]).await;
    assert_eq!(answer(&home, b"{\"drop\":[1]}\n").await["outcomes"][0]["outcome"], "not_there");
}

#[tokio::test]
async fn what_is_no_request_gets_an_error_and_the_next_one_its_answer() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let many = json!({"replay": (0..101).collect::<Vec<_>>()}).to_string() + "\n";
    for (said, part) in [
        (&b"garbage\n"[..], "not a request"),
        (b"\xff\xfe\x00\n", "not a request"),
        (b"\n", "not a request"),
        (b"{\"replay\":[1]", "not a request"),
        (b"{\"burn\":[1]}\n", "not a request"),
        (b"{\"drop\":[\"1\"]}\n", "not a request"),
        (many.as_bytes(), "more than 100"),
    ] {
        let mut stream = connect(&home).await;
        stream.write_all(said).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = read_answer(stream).await;
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(part)), "{part}: {answer}");
    }
    let endless = answer(&home, &vec![b'x'; 1 << 20]).await;
    assert_eq!(endless["error"], "longer than 8192 bytes");
    assert_eq!(answer(&home, b"{\"replay\":[]}\n").await, json!({"outcomes": []}));
    client.say("nobody else notices").await;
    home.verify().await;
}

#[tokio::test]
async fn people_who_say_nothing_are_sent_away_and_the_next_one_is_heard() {
    let home = Home::new();
    let _server = home.serve(&[]).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(connect(&home).await);
    }
    let output = home.look(&["dead-letters", "drop", "1", "--json"]).await;
    assert_eq!(output.json()["outcome"], "not_there", "{output:?}");
    for stream in silent {
        let answer = read_answer(stream).await;
        assert!(answer["error"].as_str().unwrap().contains("no request arrived"), "{answer}");
    }
}

#[tokio::test]
async fn a_data_directory_may_lie_deeper_than_a_sockets_path_is_long() {
    let home = Home::new();
    let path = home.path(&["deep"; 40].join("/"));
    let deep = path.to_str().unwrap();
    let socket = path.join("control");
    let mut command = home.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", deep]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let _server = command.spawn().unwrap();
    until("the socket is there", || socket.exists().then_some(())).await;
    let output = home.run(&["dead-letters", "drop", "1", "--json", "--data-dir", deep]).await;
    assert_eq!(output.json()["outcome"], "not_there", "{output:?}");
}

#[tokio::test]
async fn a_server_that_cannot_have_one_goes_on_without_and_the_command_says_why() {
    let home = Home::new();
    std::fs::create_dir_all(home.data_dir().join("control/full")).unwrap();
    let server = home.serve(&[]).await;
    server.logged("no control socket").await;
    let mut client = Client::new(&server).await;
    client.say("nobody else notices").await;
    let line = home.look(&["dead-letters", "drop", "1"]).await.failed(1);
    assert!(line.contains(&server.pid().to_string()) && line.contains("control socket"), "{line}");
}
