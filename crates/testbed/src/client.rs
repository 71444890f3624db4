//! Connections on which a test sends several statements: a transaction that holds a lock, for example.

use tokio_postgres::{Client, NoTls};

/// Opens a connection to this URL, without TLS and without any code of talktrack. A task on the current
/// runtime drives it until the client is dropped.
pub async fn open_client(url: &str) -> Client {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    // A statement on a broken connection fails, so the error of the connection itself is not needed.
    tokio::spawn(async move { drop(connection.await) });
    client
}
