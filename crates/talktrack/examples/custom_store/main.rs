//! A store of your own: the writer delivers to it what is durable in the data directory, retries, and keeps the order
//! within a session. This toy keeps rows in memory. This file writes; `reading.rs` answers queries.
//!
//! ```sh
//! cargo run -p talktrack --example custom_store
//! ```
//!
//! A real store must do more, and the conformance suite `talktrack_testkit::conformance`  checks it:
//! revisions, conflicting ids and owners, resumed sessions, metadata, deletions, several nodes, search and statistics.
//! `talktrack_testkit::memory::MemoryStore` passes the suite and is the shortest complete store.

mod reading;

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use talktrack::record::{Body, DeadReason, Record, Verdict};
use talktrack::store::{Delivery, ErrorClass, MessageRow, SessionRow, Store, StoreError};
use talktrack::{
    Ended, Message, MessageId, NewSession, Options, Role, SessionId, Timestamp, Tracker, UserId,
};
use uuid::Uuid;

/// Rows in memory. Clones share them.
#[derive(Clone, Default)]
struct ToyStore {
    tables: Arc<Mutex<ToyTables>>,
    /// The only user whose rows this clone shows. `None`: no restriction.
    viewer: Option<UserId>,
}

#[derive(Default)]
struct ToyTables {
    sessions: HashMap<SessionId, SessionRow>,
    messages: HashMap<MessageId, MessageRow>,
    /// The number of the last delivery of each lane of each node.
    deliveries: HashMap<(Uuid, usize), i64>,
}

#[async_trait::async_trait]
impl Store for ToyStore {
    /// In a database this is one transaction, and it ends with a commit that survives a power cut.
    async fn write(&self, delivery: Delivery<'_>) -> Result<Vec<Verdict>, StoreError> {
        let mut tables = self.tables.lock();
        let lane = (delivery.node, delivery.lane);
        if let Some(numbers) = delivery.numbers {
            // A lower number means that the store has lost deliveries. On this error the lane asks `delivered` and
            // delivers again what is missing.
            if tables.deliveries.get(&lane).copied().unwrap_or(0) != numbers.last() {
                return Err(StoreError::new(
                    ErrorClass::Transient,
                    "this lane's last delivery is another one",
                ));
            }
            let number = numbers.next();
            tables.deliveries.insert(lane, number);
            numbers.commit(number); // a real store does this after its commit
        }
        Ok(delivery.records.iter().map(|record| tables.write(record)).collect())
    }

    async fn last_delivery(&self, node: Uuid, lane: usize) -> Result<Option<i64>, StoreError> {
        Ok(self.tables.lock().deliveries.get(&(node, lane)).copied())
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(()) // a real store checks its connection, its tables and its rights
    }

    async fn end_idle_sessions(&self, _since: Timestamp) -> Result<u64, StoreError> {
        Ok(0) // a real store ends sessions that no node has heard of since this moment
    }
}

impl ToyTables {
    /// Applies one record. It may come again after a crash, so every write is idempotent by the record's id.
    fn write(&mut self, record: &Record) -> Verdict {
        println!("the store gets record {} of session {}", record.seq, record.session_id());
        let session = self.sessions.get_mut(&record.session_id());
        match (&record.body, session) {
            (Body::Start(_), Some(_)) => Verdict::Started { resumed: true },
            (Body::Start(start), None) => {
                self.sessions.insert(start.session_id, SessionRow::from_start(start, record.seq));
                Verdict::Started { resumed: false }
            }
            (Body::Message(stamped), Some(_)) if self.messages.contains_key(&stamped.id) => {
                Verdict::AlreadyThere
            }
            (Body::Message(stamped), Some(session)) => {
                session.message_count += 1;
                let row = MessageRow::from_stamped(stamped, record.seq, session.user_id.as_ref());
                self.messages.insert(stamped.id, row);
                Verdict::Inserted
            }
            (Body::End(end), Some(session)) => {
                (session.status, session.ended_at) = (end.status.into(), Some(end.ended_at.into()));
                let known = Ended { duration_seconds: 0.0, message_count: 0 };
                Verdict::Ended(end.known.unwrap_or(known))
            }
            (_, None) => Verdict::Dead(DeadReason::UnknownSession),
            // A dead letter keeps the record with its reason until an operator replays it.
            _ => Verdict::Dead(DeadReason::Data("the toy store does not know this kind of record".into())),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let data_dir = tempfile::tempdir()?;
    let store = Arc::new(ToyStore::default());
    let tracker = Tracker::open_with_store(Options::new(data_dir.path()), store)?;
    let session = SessionId::new(Uuid::new_v4());
    let user = UserId::new(Uuid::new_v4());
    tracker.start_session(NewSession::new(session, user))?.durable().await?;
    tracker.track_message(Message::new(session, Role::User, "Hello"))?.await?; // durable in the data directory
    tracker.flush_to_store().await?; // stored in the toy
    let transcript = tracker.reader().messages(session, None, 100).await?;
    assert_eq!(transcript.len(), 1, "the message is stored once");
    println!("{}: {}", transcript[0].role.as_str(), transcript[0].content);
    tracker.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

#[test]
fn this_example_succeeds() {
    main().unwrap();
}
