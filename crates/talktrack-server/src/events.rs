//! Live events: what becomes durable, streamed to listeners. While there is a listener, one reader follows the changes,
//! reads each page of them once, and keeps the latest events in a ring, encoded for the wire. All listeners take their
//! events from the ring; a listener that has fallen behind the ring reads the missing events from the journal itself. A
//! listener therefore costs only a position in the order of events, and no memory for events.

mod listener;
mod ring;
mod source;
mod pending;
mod event;

use std::sync::Arc;
use std::time::Duration;

use metrics::{Gauge, gauge};
use parking_lot::Mutex;
use talktrack::clock::Seq;
use talktrack::store::sqlite::SqliteReader;
use talktrack::{ReadError, Tracker};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub(crate) use event::{closing_event, gap_event, position_event};
pub(crate) use listener::{EventFilter, Listener, NextEvents};

use ring::Ring;
use source::Source;

/// How many listeners may read missing events from the journal at once. The others wait.
const CATCHING_UP: usize = 4;

/// The pause after a failed read.
const PAUSE: Duration = Duration::from_millis(250);

/// The live events. Cheap to clone; all clones refer to the same state.
#[derive(Clone)]
pub(crate) struct Events(Arc<EventsInner>);

struct EventsInner {
    /// The source for the reader that fills the ring.
    live: Source,
    /// The source for listeners that have fallen behind the ring.
    late: Source,
    catching_up: Semaphore,
    ring: Mutex<Ring>,
    /// How far the reader has read.
    head: watch::Sender<Seq>,
    listeners: watch::Sender<usize>,
    /// Holds one permit for each further listener that `max_listeners` allows.
    permits: Arc<Semaphore>,
}

/// The permit for one listener. Dropping it frees the place for another listener.
pub(crate) struct ListenerPermit {
    events: Events,
    _permit: OwnedSemaphorePermit,
}

impl Events {
    /// Makes live events for at most `most` listeners. Changes are read from the file in the data directory. If the
    /// store is remote, rows come from the tracker's reader.
    ///
    /// # Errors
    /// Fails if the file cannot be opened.
    pub(crate) fn new(
        tracker: &Tracker,
        open: impl Fn() -> Result<SqliteReader, ReadError>,
        is_remote: bool,
        most: usize,
    ) -> Result<Self, ReadError> {
        gauge().set(0);
        let source = || -> Result<Source, ReadError> { Ok(Source::new(tracker.clone(), open()?, is_remote)) };
        Ok(Self(Arc::new(EventsInner {
            live: source()?,
            late: source()?,
            catching_up: Semaphore::new(CATCHING_UP),
            ring: Mutex::default(),
            head: watch::Sender::new(Seq::ZERO),
            listeners: watch::Sender::new(0),
            permits: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
        })))
    }

    /// Reserves a place for one more listener; `None` if all places are taken.
    pub(crate) fn acquire_permit(&self) -> Option<ListenerPermit> {
        let permit = Arc::clone(&self.0.permits).try_acquire_owned().ok()?;
        self.0.listeners.send_modify(|listeners| *listeners += 1);
        gauge().increment(1);
        Some(ListenerPermit { events: self.clone(), _permit: permit })
    }

    /// Returns the id of the newest event. A page that was read after this call has everything up to this event.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub(crate) async fn newest_seq(&self) -> Result<Seq, ReadError> {
        self.0.late.newest_seq().await
    }

    /// Waits until there are no listeners.
    pub(crate) async fn wait_until_all_left(&self) {
        // `self` holds the sender, so this cannot fail.
        let _ = self.0.listeners.subscribe().wait_for(|listeners| *listeners == 0).await;
    }

    /// Fills the ring while there are listeners. Never returns.
    pub(crate) async fn run(self) {
        let mut listeners = self.0.listeners.subscribe();
        while listeners.wait_for(|listeners| *listeners > 0).await.is_ok() {
            tokio::select! {
                () = self.follow_changes() => {}
                _ = listeners.wait_for(|listeners| *listeners == 0) => {}
            }
            let head = *self.0.head.borrow();
            self.0.ring.lock().reset(head);
        }
    }

    async fn follow_changes(&self) {
        let EventsInner { live, ring, head, .. } = &*self.0;
        let mut durability = live.durability();
        let Ok(mut place) = live.newest_seq().await else { return tokio::time::sleep(PAUSE).await };
        ring.lock().reset(place);
        head.send_replace(place);
        loop {
            match live.read_page(place).await {
                Ok(page) if page.next == place => durability.changed().await,
                Ok(page) => {
                    place = page.next;
                    let mut ring = ring.lock();
                    // More changes arrived than are kept, so this reader has missed some. A listener at the same
                    // position finds the gap when it reads the journal itself.
                    if let Some(gap) = page.gap {
                        ring.reset(gap);
                    }
                    ring.push(page.events, place);
                    drop(ring);
                    head.send_replace(place);
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot read the next events; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Drop for ListenerPermit {
    fn drop(&mut self) {
        self.events.0.listeners.send_modify(|listeners| *listeners -= 1);
        gauge().decrement(1);
    }
}

fn gauge() -> Gauge {
    gauge!("talktrack_event_listeners")
}
