//! Limits: how often, how many, how large, how slowly; and what browsers are told. Each by real sockets.

mod rates;
mod reading;
mod turns;
mod connections;
mod slowness;
mod browsers;
mod flood;
mod dead_letters;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::Server;

/// A connection on which something was sent.
async fn sent(server: &Server, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}
