//! What becomes durable, for whoever listens. One reader follows the changes while somebody listens, reads each page of them
//! once, and keeps the latest events, as they go over the wire, in a ring from which all listeners take them. Whoever is
//! behind the ring reads what is missing for themselves. So a listener costs a place in the order, and no memory.

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

pub(crate) use event::{closing, gap, mark};
pub(crate) use listener::{Filter, Listener, Next};

use ring::Ring;
use source::Source;

/// Listeners that read what is missing for themselves at the same time; the others wait for their turn.
const CATCHING_UP: usize = 4;

/// A pause after the store could not be read.
const PAUSE: Duration = Duration::from_millis(250);

/// Shared by all; clones are one.
#[derive(Clone)]
pub(crate) struct Events(Arc<Shared>);

struct Shared {
    /// For the reader.
    live: Source,
    /// For those who are behind the ring.
    late: Source,
    catching_up: Semaphore,
    ring: Mutex<Ring>,
    /// How far the reader has come.
    head: watch::Sender<Seq>,
    listeners: watch::Sender<usize>,
    /// One permit for each listener that may still come.
    places: Arc<Semaphore>,
}

/// A listener's right to be there, given back when it goes.
pub(crate) struct Place {
    events: Events,
    _permit: OwnedSemaphorePermit,
}

impl Events {
    /// Reads the file of the data directory for at most so many listeners; rows of a remote store come from `tracker`'s.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub(crate) fn of(
        tracker: &Tracker,
        open: impl Fn() -> Result<SqliteReader, ReadError>,
        is_remote: bool,
        most: usize,
    ) -> Result<Self, ReadError> {
        gauge().set(0);
        let source = || -> Result<Source, ReadError> { Ok(Source::new(tracker.clone(), open()?, is_remote)) };
        Ok(Self(Arc::new(Shared {
            live: source()?,
            late: source()?,
            catching_up: Semaphore::new(CATCHING_UP),
            ring: Mutex::default(),
            head: watch::Sender::new(0),
            listeners: watch::Sender::new(0),
            places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
        })))
    }

    /// A place for one more listener, if there is one.
    pub(crate) fn take_place(&self) -> Option<Place> {
        let permit = Arc::clone(&self.0.places).try_acquire_owned().ok()?;
        self.0.listeners.send_modify(|listeners| *listeners += 1);
        gauge().increment(1);
        Some(Place { events: self.clone(), _permit: permit })
    }

    /// Waits until nobody listens any more.
    pub(crate) async fn all_left(&self) {
        // The sender is in `self`: an error cannot come.
        let _ = self.0.listeners.subscribe().wait_for(|listeners| *listeners == 0).await;
    }

    /// Reads while somebody listens. Never returns.
    pub(crate) async fn run(self) {
        let mut listeners = self.0.listeners.subscribe();
        while listeners.wait_for(|listeners| *listeners > 0).await.is_ok() {
            tokio::select! {
                () = self.follow() => {}
                _ = listeners.wait_for(|listeners| *listeners == 0) => {}
            }
            let head = *self.0.head.borrow();
            self.0.ring.lock().begin(head);
        }
    }

    async fn follow(&self) {
        let Shared { live, ring, head, .. } = &*self.0;
        let mut durability = live.durability();
        let Ok(mut place) = live.newest().await else { return tokio::time::sleep(PAUSE).await };
        ring.lock().begin(place);
        head.send_replace(place);
        loop {
            match live.page(place).await {
                Ok(page) if page.next == place => durability.changed().await,
                Ok(page) => {
                    place = page.next;
                    let mut ring = ring.lock();
                    // More came than is kept while this was read: whoever listens is as late, and learns it from the table.
                    if let Some(gap) = page.gap {
                        ring.begin(gap);
                    }
                    ring.push(page.events, place);
                    drop(ring);
                    head.send_replace(place);
                }
                Err(error) => {
                    tracing::debug!(%error, "events wait");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.events.0.listeners.send_modify(|listeners| *listeners -= 1);
        gauge().decrement(1);
    }
}

fn gauge() -> Gauge {
    gauge!("talktrack_event_listeners")
}
