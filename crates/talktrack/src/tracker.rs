//! The tracker: the door. Checks what comes in, stamps it with what it knows of the session, and puts it in the queue.

mod sessions;
mod letters;
mod deletion;
mod life;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use uuid::Uuid;

use crate::clock::{Now, Timestamp};
use crate::error::{Reason, Refused};
use crate::health::Health;
use crate::journal::Shared;
use crate::lines;
use crate::message::Message;
use crate::options::Options;
use crate::queue::{Admission, Queue};
use crate::receipt::{Durability, Receipt, Reply};
use crate::record::{Body, Stamped};
use crate::session::Registry;
use crate::store::Read;
use crate::tracker::life::Life;

pub use sessions::{Closing, NewSession};

/// A message may claim to have been said at most this much later than now: clocks differ, and time zones get lost.
const FUTURE: Duration = Duration::from_secs(24 * 60 * 60);

/// Writes conversations down. Clones share one tracker; its methods may be called from any thread and never wait for I/O,
/// but for those that are `async`.
#[derive(Clone)]
pub struct Tracker {
    door: Arc<Door>,
    life: Arc<Life>,
}

/// What the door needs to let something in.
struct Door {
    registry: Registry,
    queue: Arc<Queue>,
    /// What the journal tells.
    shared: Shared,
    reader: Arc<dyn Read>,
    options: Options,
    /// New work is refused.
    closing: AtomicBool,
}

impl Tracker {
    /// Something was said. Returns at once: in the queue, or refused.
    ///
    /// # Errors
    /// Hands the message back where it cannot be accepted now; see [`Reason`].
    #[expect(
        clippy::result_large_err,
        reason = "the refusal hands the message back; a box would cost an allocation"
    )]
    pub fn track_message(&self, mut message: Message) -> Result<Receipt, Refused<Message>> {
        let now = self.door.now();
        let tracked = match self.door.check(&mut message, now) {
            Ok(()) => self.door.accept(message, now),
            Err(reason) => Err(Refused { reason, returned: message }),
        };
        if let Err(refused) = &tracked {
            self.count_refusal(refused.reason.code());
        }
        tracked
    }

    /// Follows what becomes durable, for callers with many messages under way.
    pub fn durability(&self) -> Durability {
        self.door.shared.progress.watch()
    }

    /// Reads what is stored.
    pub fn reader(&self) -> Arc<dyn Read> {
        Arc::clone(&self.door.reader)
    }

    /// How the path is doing.
    pub fn health(&self) -> Health {
        self.door.shared.vitals.read()
    }

    /// Counts what was refused before it could come here by the code of the reason, beside what is refused here.
    pub fn count_refusal(&self, code: &'static str) {
        self.door.shared.vitals.count_refusal(code);
    }

    /// Messages accepted since the data directory was made.
    pub fn accepted_messages(&self) -> u64 {
        self.door.queue.accepted_messages()
    }

    /// Entries that wait in memory.
    pub fn queue_depth(&self) -> usize {
        self.door.queue.len()
    }
}

impl Door {
    fn now(&self) -> Now {
        Now::by(&*self.options.clock)
    }

    fn check(&self, message: &mut Message, now: Now) -> Result<(), Reason> {
        self.check_room()?;
        self.check_size(message.heap_bytes())?;
        message.check(self.latest(message.created_at, now.at))?;
        message.replace_nul();
        Ok(())
    }

    /// The latest moment at which a message may have been said. Where the clock has stepped back, others need not have: a
    /// moment that this data directory has seen is no lie.
    fn latest(&self, claimed: Option<Timestamp>, now: Timestamp) -> Timestamp {
        let latest = now.plus(FUTURE);
        if claimed.is_none_or(|claimed| claimed <= latest) {
            return latest;
        }
        Timestamp::from_micros(self.queue.last_seq()).map_or(latest, |seen| latest.max(seen.plus(FUTURE)))
    }

    fn check_open(&self) -> Result<(), Reason> {
        if self.closing.load(Ordering::Relaxed) { Err(Reason::ShuttingDown) } else { Ok(()) }
    }

    /// Whether the tracker is open and the journal has room.
    fn check_room(&self) -> Result<(), Reason> {
        self.check_open()?;
        if self.shared.vitals.is_full() { Err(Reason::JournalFull) } else { Ok(()) }
    }

    fn check_size(&self, size: usize) -> Result<(), Reason> {
        let limit = self.options.max_message_bytes;
        if size > limit { Err(Reason::TooLarge { size, limit }) } else { Ok(()) }
    }

    /// Stamps the message with what is known of its session, and queues it.
    #[expect(
        clippy::result_large_err,
        reason = "the refusal hands the message back; a box would cost an allocation"
    )]
    fn accept(&self, message: Message, now: Now) -> Result<Receipt, Refused<Message>> {
        let session_id = message.session_id;
        let known = self.registry.with(session_id, |mut session| {
            let owner = session.as_ref().map(|session| (session.user_id, session.started_at()));
            let said_at = match &mut session {
                Some(session) => session.said_at(message.created_at, now.at),
                None => message.created_at.unwrap_or(now.at),
            };
            let receipt = self.enqueue(message, owner, now.at, said_at)?;
            if let Some(session) = session {
                session.count_message(now, receipt.seq());
            }
            Ok((receipt, owner.is_some()))
        });
        known.map(|(receipt, known)| {
            if !known {
                lines::not_in_state(session_id);
            }
            receipt
        })
    }

    #[expect(
        clippy::result_large_err,
        reason = "the refusal hands the message back; a box would cost an allocation"
    )]
    fn enqueue(
        &self,
        message: Message,
        owner: Option<(Uuid, Timestamp)>,
        now: Timestamp,
        created_at: Timestamp,
    ) -> Result<Receipt, Refused<Message>> {
        let id = message.given_id().unwrap_or_else(|| mint(now));
        match self.queue.admit(now, message.heap_bytes(), Admission::IfRoom) {
            Ok(place) => {
                let (owner, session_started_at) = owner.unzip();
                let stamped = Stamped { id, owner, session_started_at, created_at, message };
                let seq = place.fill(Body::Message(stamped), Reply::Nobody);
                Ok(Receipt::new(id, seq, Arc::clone(&self.shared.progress)))
            }
            Err(reason) => Err(Refused { reason, returned: message }),
        }
    }
}

/// A UUIDv7 of this moment: 48 bits of milliseconds, then the microseconds, then chance.
fn mint(now: Timestamp) -> Uuid {
    let micros = now.as_micros().unsigned_abs();
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let within = u16::try_from(micros % 1_000).unwrap_or(0) << 2;
    [random[0], random[1]] = [within.to_be_bytes()[0], within.to_be_bytes()[1] | (random[1] & 3)];
    uuid::Builder::from_unix_timestamp_millis(micros / 1_000, &random).into_uuid()
}
