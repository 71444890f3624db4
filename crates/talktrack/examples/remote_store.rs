//! Records a conversation in PostgreSQL or Supabase and reads it back.
//!
//! ```sh
//! DATABASE_URL=postgresql://postgres:password@localhost:5432/postgres cargo run -p talktrack --example remote_store
//! ```
//!
//! It creates talktrack's tables in that database, or adds what is missing from them, and keeps every row.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use talktrack::store::postgres::{Address, PostgresStore, schema};
use talktrack::{Message, NewSession, Options, Role, SessionId, Tracker, UserId};
use uuid::Uuid;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Ok(url) = std::env::var("DATABASE_URL") else {
        eprintln!(
            "DATABASE_URL is not set; set it to a PostgreSQL database in which this example may create tables, \
             such as postgresql://postgres:password@localhost:5432/postgres"
        );
        return Ok(ExitCode::FAILURE);
    };
    let address: Address = url.parse()?;

    // Programs usually do this once per release and not at each start (`talktrack migrate` does the same). It may run
    // again at any time. What it leaves to an administrator comes back with the SQL for it.
    for difference in schema::migrate(&address.connect().await?).await? {
        println!("left to do: {}: {}", difference.problem, difference.fix);
    }

    // The SQLite file in the data directory is the outbox: it holds what is durable until the database has it. So a
    // program that is more than an example names a directory on a disk that lasts.
    let data_dir = tempfile::tempdir()?;
    let store = Arc::new(PostgresStore::new(&address)?);
    let tracker = Tracker::open_with_store(Options::new(data_dir.path()), store)?;

    let session = SessionId::new(Uuid::new_v4());
    let user = UserId::new(Uuid::new_v4());
    tracker.start_session(NewSession::new(session, user))?.durable().await?;
    let messages = [
        Message::new(session, Role::User, "Where is my order?"),
        Message::new(session, Role::Assistant, "It left our warehouse this morning."),
    ];
    for message in messages {
        // The receipt resolves when the message is on the local disk. It does not wait for the database.
        tracker.track_message(message)?.await?;
        println!("durable here");
    }
    tracker.end_session(session, "completed")?.durable().await?;

    // An outage of the database delays this and loses nothing. A program rarely needs to wait for it.
    match tokio::time::timeout(Duration::from_secs(30), tracker.flush_to_store()).await {
        Ok(flushed) => flushed?,
        Err(_) => println!("not stored yet: {}", tracker.health().store.unwrap_or_default()),
    }

    // The reader asks PostgreSQL, so it shows what is stored.
    for row in tracker.reader().messages(session, None, 100).await? {
        println!("{:>9}: {}", row.role.as_str(), row.content);
    }
    let books = tracker.health().books;
    println!("{} durable = {} stored + {} pending", books.durable, books.stored, books.pending());

    tracker.shutdown(Duration::from_secs(5)).await?;
    Ok(ExitCode::SUCCESS)
}
