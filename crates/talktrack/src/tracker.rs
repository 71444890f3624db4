//! The tracker is the entry point of the library. It checks what a caller hands over, stamps it with what it knows
//! about the session, and puts it in the queue.

mod sessions;
mod connections;
mod new_session;
mod session_changes;
mod sweep;
mod claimed_time;
mod dead_letters;
mod deletion;
mod edits;
mod outbox;
mod lifecycle;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use talktrack_core::clock::Timestamp;
use talktrack_core::error::{Reason, Refused};
use talktrack_core::error_code::ErrorCode;
use talktrack_core::ids::{MessageId, UserId};
use talktrack_core::message::{Author, Message};
use talktrack_core::record::{Body, StampedMessage};

use crate::event_log;
use crate::health::Health;
use crate::journal::Shared;
use crate::now::Now;
use crate::options::Options;
use crate::queue::{Admission, Queue};
use crate::receipt::{Durability, Receipt, Reply};
use crate::session::{Registry, SessionRef};
use crate::store::Read;
use crate::tracker::lifecycle::Threads;
use crate::tracker::outbox::OutboxStore;

pub use edits::EditError;
pub use new_session::NewSession;
pub use session_changes::SessionChanges;
pub use sessions::Closing;

/// The maximum size of a message's `extra`, in bytes.
const MAX_EXTRA: usize = 64 << 10;

/// Records conversations. All clones share one tracker. Its methods may be called from any thread, and only the `async`
/// ones wait for I/O.
#[derive(Clone)]
pub struct Tracker {
    inner: Arc<Inner>,
    threads: Arc<Threads>,
}

/// The part of the tracker that checks, stamps and enqueues. The background threads share it.
struct Inner {
    registry: Registry,
    queue: Arc<Queue>,
    /// The progress and the health that the journal reports.
    shared: Shared,
    reader: Arc<dyn Read>,
    /// `None` if the SQLite file of the data directory is the store.
    outbox: Option<OutboxStore>,
    options: Options,
    /// True if new work is refused.
    closing: AtomicBool,
}

/// What the tracker adds to a message.
struct Stamp<'a> {
    /// The user whose claim the message belongs to, if it is known or the caller named it.
    owner: Option<UserId>,
    /// When the session started, if this process knows the claim.
    started_at: Option<Timestamp>,
    author: &'a Author,
    created_at: Timestamp,
    /// The message cancels an inferred end of its session if that end is before this time.
    takes_back: Option<Timestamp>,
}

impl Tracker {
    /// Accepts a message. Returns at once: the message is in the queue, or it is refused.
    ///
    /// # Errors
    /// Returns the message with a [`Reason`] if it cannot be accepted now.
    #[expect(
        clippy::result_large_err,
        reason = "the refusal hands the message back; a box would cost an allocation"
    )]
    pub fn track_message(&self, message: Message) -> Result<Receipt, Refused<Message>> {
        self.track_message_as(message, &Author::Program)
    }

    /// Accepts a message on the authority of an author other than the embedding program.
    ///
    /// # Errors
    /// As [`Self::track_message`].
    #[expect(
        clippy::result_large_err,
        reason = "the refusal hands the message back; a box would cost an allocation"
    )]
    pub fn track_message_as(&self, message: Message, author: &Author) -> Result<Receipt, Refused<Message>> {
        self.track_message_after(message, author, None)
    }

    /// Accepts a message for a session whose last message on another node was at `said_until`: a message without a time
    /// of its own is placed after that. `said_until` is ignored if it is more than a day ahead of this node's clock.
    ///
    /// # Errors
    /// As [`Self::track_message`].
    #[expect(
        clippy::result_large_err,
        reason = "the refusal hands the message back; a box would cost an allocation"
    )]
    pub fn track_message_after(
        &self,
        mut message: Message,
        author: &Author,
        said_until: Option<Timestamp>,
    ) -> Result<Receipt, Refused<Message>> {
        let now = self.inner.now();
        let tracked = match self.inner.check_message(&mut message) {
            Ok(()) => {
                let claimed = message.created_at.take_if(|claimed| self.inner.is_ahead(*claimed, now.at));
                message.set_notes(author, claimed);
                let said_after = said_until.and_then(|until| self.inner.said_after(until, now.at));
                self.inner.accept_message(message, author, now, said_after).map_err(|mut refused| {
                    refused.returned.created_at = refused.returned.created_at.or(claimed);
                    refused
                })
            }
            Err(reason) => Err(Refused { reason, returned: message }),
        };
        if let Err(refused) = &tracked {
            self.count_refusal(refused.reason.code());
        }
        tracked
    }

    /// Follows the durability watermark, for callers that have many messages in flight.
    pub fn durability(&self) -> Durability {
        self.inner.shared.progress.watch()
    }

    /// Returns a reader of the store.
    pub fn reader(&self) -> Arc<dyn Read> {
        Arc::clone(&self.inner.reader)
    }

    /// Returns the current health of the path from the queue to the store.
    pub fn health(&self) -> Health {
        self.inner.shared.health.snapshot()
    }

    /// Counts a refusal that happened before the message reached the tracker, under the code of its reason. The tracker
    /// counts its own refusals in the same counters.
    #[doc(hidden)]
    pub fn count_refusal(&self, code: ErrorCode) {
        self.inner.shared.health.count_refusal(code);
    }

    /// Returns the number of messages accepted since the data directory was created.
    pub fn accepted_messages(&self) -> u64 {
        self.inner.queue.accepted_messages()
    }

    /// Returns the number of entries in the queue.
    pub fn queue_depth(&self) -> usize {
        self.inner.queue.len()
    }
}

impl Inner {
    fn now(&self) -> Now {
        Now::read(&*self.options.clock)
    }

    fn check_message(&self, message: &mut Message) -> Result<(), Reason> {
        self.check_room()?;
        self.check_size(message.heap_bytes())?;
        let extra = message.extra.as_ref().map_or(0, |extra| extra.as_str().len());
        if extra > MAX_EXTRA {
            return Err(Reason::ExtraTooLarge { size: extra, limit: MAX_EXTRA });
        }
        message.validate()?;
        message.replace_nul();
        Ok(())
    }

    fn check_open(&self) -> Result<(), Reason> {
        if self.closing.load(Ordering::Relaxed) { Err(Reason::ShuttingDown) } else { Ok(()) }
    }

    /// Returns an error unless the tracker is open and the journal has room.
    fn check_room(&self) -> Result<(), Reason> {
        self.check_open()?;
        self.shared.health.refusal().map_or(Ok(()), Err)
    }

    fn check_size(&self, size: usize) -> Result<(), Reason> {
        let limit = self.options.max_message_bytes;
        if size > limit { Err(Reason::TooLarge { size, limit }) } else { Ok(()) }
    }

    /// Stamps the message with what is known of its session, and enqueues it.
    #[expect(
        clippy::result_large_err,
        reason = "the refusal hands the message back; a box would cost an allocation"
    )]
    fn accept_message(
        &self,
        message: Message,
        author: &Author,
        now: Now,
        said_after: Option<Timestamp>,
    ) -> Result<Receipt, Refused<Message>> {
        let session_id = message.session_id;
        let claim = SessionRef { session_id, user_id: author.user_id().cloned() };
        let known = self.registry.with_claim(&claim, |mut session| {
            let owner = session.as_ref().map(|session| session.user_id.clone()).or(claim.user_id.clone());
            let started_at = session.as_ref().map(|session| session.started_at());
            let said_at = match &mut session {
                Some(session) => {
                    session.say_after(said_after);
                    session.said_at(message.created_at, now.at)
                }
                None => message.created_at.unwrap_or(said_after.map_or(now.at, |after| after.max(now.at))),
            };
            // A session in memory is active, or it ended less than `grace_period` ago, unless it is about to be swept.
            let grace = self.options.grace_period;
            let may_reopen = session.as_ref().is_none_or(|session| session.has_ended_for(now.elapsed, grace));
            let takes_back = may_reopen.then(|| now.at.minus(grace));
            let stamp = Stamp { owner, started_at, author, created_at: said_at, takes_back };
            let receipt = self.enqueue_message(message, stamp, now.at)?;
            if let Some(session) = session {
                session.count_message(now, receipt.seq(), said_at);
            }
            Ok((receipt, started_at.is_some()))
        });
        known.map(|(receipt, known)| {
            if !known {
                event_log::log_unknown_session(session_id);
            }
            receipt
        })
    }

    #[expect(
        clippy::result_large_err,
        reason = "the refusal hands the message back; a box would cost an allocation"
    )]
    fn enqueue_message(
        &self,
        message: Message,
        stamp: Stamp<'_>,
        now: Timestamp,
    ) -> Result<Receipt, Refused<Message>> {
        let id = message.given_id(stamp.author).unwrap_or_else(|| new_message_id(now));
        match self.queue.reserve(now, message.heap_bytes(), Admission::IfRoom) {
            Ok(permit) => {
                let Stamp { owner, started_at: session_started_at, author, created_at, takes_back } = stamp;
                let by_user = author.is_user();
                let stamped = StampedMessage {
                    id,
                    owner,
                    by_user,
                    session_started_at,
                    created_at,
                    takes_back,
                    message,
                };
                let seq = permit.send(Body::Message(stamped), Reply::None);
                Ok(Receipt::new(id, seq, Arc::clone(&self.shared.progress)))
            }
            Err(reason) => Err(Refused { reason, returned: message }),
        }
    }
}

/// Returns a new UUIDv7: 48 bits of milliseconds, then the microseconds, then random bits.
fn new_message_id(now: Timestamp) -> MessageId {
    let micros = now.as_micros().unsigned_abs();
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let within = u16::try_from(micros % 1_000).unwrap_or(0) << 2;
    [random[0], random[1]] = [within.to_be_bytes()[0], within.to_be_bytes()[1] | (random[1] & 3)];
    uuid::Builder::from_unix_timestamp_millis(micros / 1_000, &random).into_uuid().into()
}
