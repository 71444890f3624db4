//! Records a conversation in a data directory and reads it back. No server and no database is needed.
//!
//! ```sh
//! cargo run -p talktrack --example embed
//! ```

use std::error::Error;
use std::time::Duration;

use talktrack::{Message, NewSession, Options, Reason, Receipt, Refused, Role, SessionId, Tracker, UserId};
use uuid::Uuid;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A program that is more than an example names a directory that lasts. The tracker creates it if it is missing, and
    // locks it: a directory belongs to one process.
    let data_dir = tempfile::tempdir()?;
    let tracker = Tracker::open(Options::new(data_dir.path()))?;

    // A session is one conversation of one user. Both ids are yours. `durable` waits until the start is on the disk.
    let session = SessionId::new(Uuid::new_v4());
    let user = UserId::new(Uuid::new_v4());
    let started = tracker.start_session(NewSession::new(session, user))?.durable().await?;
    println!("session {session} started, resumed: {}", started.resumed);

    // `track_message` returns at once. The message is now accepted, that is, in a queue in memory.
    let mut receipts = Vec::new();
    for (role, text) in [
        (Role::User, "Where is my order?"),
        (Role::Assistant, "It left our warehouse this morning."),
        (Role::User, "Thank you!"),
    ] {
        receipts.push(track(&tracker, Message::new(session, role, text)).await?);
    }

    // A receipt resolves when its message is durable. Await it, or drop it if the program does not need to know.
    for receipt in receipts {
        let id = receipt.id();
        receipt.await?;
        println!("message {id} is durable");
    }

    // With an id of its own, a message can be sent again without harm: the second one changes nothing.
    for _ in 0..2 {
        let goodbye = Message::new(session, Role::Assistant, "Goodbye!");
        let goodbye = goodbye.with_external_id("turn-4");
        track(&tracker, goodbye).await?.await?;
    }

    let ended = tracker.end_session(session, "completed")?.durable().await?;
    println!("session ended with {} messages", ended.message_count);

    // The reader returns pages. The last row before more is the cursor of the next page.
    let reader = tracker.reader();
    let mut after = None;
    let mut count = 0;
    loop {
        let page = reader.messages(session, after, 2).await?;
        for row in &page {
            println!("{:>9}: {}", row.role.as_str(), row.content);
        }
        count += page.rows.len();
        match page.last_before_more() {
            Some(last) => after = Some(last.cursor()),
            None => break,
        }
    }
    assert_eq!(count, 4, "every message is stored once");

    // Waits until everything accepted is durable. Without it, the end of the program would wait in `drop`.
    tracker.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

/// Hands a message over. If the queue is full, it comes back, and this waits a moment and tries again. A program that
/// must not wait at all decides here what else to do with the message.
async fn track(tracker: &Tracker, mut message: Message) -> Result<Receipt, Box<dyn Error>> {
    loop {
        match tracker.track_message(message) {
            Err(Refused { reason: Reason::QueueFull, returned }) => message = returned,
            tracked => return Ok(tracked?),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn this_example_succeeds() {
    main().unwrap();
}
