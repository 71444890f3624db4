//! Limits on rates, counts, sizes and slow peers, and the headers for browsers. All tests use real sockets.

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

/// Opens a connection and sends this text.
async fn sent(server: &Server, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}
