//! A listener: a position in the order of events, and a filter.

use std::sync::Arc;

use axum::body::Bytes;
use talktrack::clock::Seq;
use talktrack::{ReadError, SessionId, UserId};
use tokio::sync::watch;

use super::event::{Event, EventOwner};
use super::ring::RingRead;
use super::source::EventPage;
use super::{ListenerPermit, PAUSE};

/// Which events a listener receives. `None` does not restrict the events.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventFilter {
    pub(crate) session_id: Option<SessionId>,
    /// The user whose sessions the events must belong to.
    pub(crate) user_id: Option<UserId>,
}

pub(crate) struct Listener {
    place: Seq,
    /// The last id that was sent to the client.
    told: Seq,
    filter: EventFilter,
    head: watch::Receiver<Seq>,
    /// Frees the listener's place when dropped.
    permit: ListenerPermit,
    /// True if the listener has received the first part of the events it asked for. A gap after that means that it is
    /// too slow.
    has_begun: bool,
    /// The events after a gap that was just reported, and the position after them.
    after_the_gap: Option<(Vec<Arc<Event>>, Seq)>,
}

/// What a listener receives next.
pub(crate) enum NextEvents {
    /// Encoded events.
    Events(Bytes),
    /// Some of the requested events were already removed when the listener connected: those after the first position
    /// and up to the second.
    Gap(Seq, Seq),
    /// The listener has fallen so far behind that its next events have been removed.
    TooSlow,
    /// The owner of the next event cannot be determined, because the store is unavailable.
    Unknown,
}

/// The owner of an event is not known, so it cannot be decided whether the listener may receive it.
struct UnknownOwner;

impl EventFilter {
    fn admits(&self, event: &Event) -> Result<bool, UnknownOwner> {
        if self.session_id.is_some_and(|session| session != event.session_id) {
            return Ok(false);
        }
        match (&self.user_id, &event.owner) {
            (None, _) => Ok(true),
            (Some(user), EventOwner::User(owner)) => Ok(user == owner),
            (Some(_), EventOwner::Nobody) => Ok(false),
            (Some(_), EventOwner::Unknown) => Err(UnknownOwner),
        }
    }
}

impl Listener {
    /// Makes a listener for the events after the one with the id `after`; without an id, for events from now on.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub(crate) async fn start(
        permit: ListenerPermit,
        filter: EventFilter,
        after: Option<Seq>,
    ) -> Result<Self, ReadError> {
        let newest = permit.events.0.late.newest_seq().await?;
        // Ids belong to this node. An id beyond the newest one is of another node, so the listener starts at the newest
        // position.
        let place = after.map_or(newest, |after| after.min(newest));
        let head = permit.events.0.head.subscribe();
        Ok(Self { place, told: place, filter, head, permit, has_begun: after.is_none(), after_the_gap: None })
    }

    /// Waits for the next events. Cancellation-safe: no event is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> NextEvents {
        loop {
            if let Some((events, next)) = self.after_the_gap.take()
                && let Some(next) = self.filter_events(&events, next)
            {
                return next;
            }
            let taken = self.permit.events.0.ring.lock().read_after(self.place);
            let (events, next) = match taken {
                RingRead::UpTo(_, next) if next == self.place => {
                    // `permit` keeps the sender alive, so this cannot fail.
                    let _ = self.head.changed().await;
                    continue;
                }
                RingRead::UpTo(events, next) => (events, next),
                RingRead::Gone => match self.read_page().await {
                    EventPage { events, next, gap: Some(place) } if !self.has_begun => {
                        let after = std::mem::replace(&mut self.place, place);
                        (self.has_begun, self.told) = (true, place);
                        self.after_the_gap = Some((events, next));
                        return NextEvents::Gap(after, place);
                    }
                    EventPage { gap: Some(_), .. } => return NextEvents::TooSlow,
                    EventPage { events, next, .. } => (events, next),
                },
            };
            self.has_begun = true;
            if let Some(next) = self.filter_events(&events, next) {
                return next;
            }
            // A listener that skips many events must not keep the thread from other tasks.
            tokio::task::yield_now().await;
        }
    }

    /// Returns the position up to which the listener has everything, if the client has not been told of it yet.
    pub(crate) fn untold_place(&mut self) -> Option<Seq> {
        (self.told != self.place).then(|| {
            self.told = self.place;
            self.place
        })
    }

    /// Reads events that are no longer in the ring from the journal, when a permit is free.
    async fn read_page(&self) -> EventPage {
        let events = &self.permit.events.0;
        loop {
            // The semaphore is never closed, so this cannot fail.
            let turn = events.catching_up.acquire().await;
            match events.late.read_page(self.place).await {
                Ok(page) => return page,
                Err(error) => tracing::debug!(%error, "cannot read events for a listener; trying again"),
            }
            drop(turn);
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn filter_events(&mut self, events: &[Arc<Event>], next: Seq) -> Option<NextEvents> {
        let mut wanted = Vec::new();
        for event in events {
            match self.filter.admits(event) {
                Ok(true) => wanted.push(event),
                Ok(false) => {}
                Err(UnknownOwner) if wanted.is_empty() => return Some(NextEvents::Unknown),
                Err(UnknownOwner) => return Some(self.join_events(&wanted, wanted[wanted.len() - 1].seq)),
            }
            self.place = event.seq;
        }
        if wanted.is_empty() {
            self.place = next;
            return None;
        }
        Some(self.join_events(&wanted, next))
    }

    fn join_events(&mut self, wanted: &[&Arc<Event>], next: Seq) -> NextEvents {
        self.place = next;
        self.told = wanted.last().map_or(self.told, |event| event.seq);
        if let [one] = wanted {
            return NextEvents::Events(one.bytes.clone());
        }
        let mut bytes = Vec::with_capacity(wanted.iter().map(|event| event.bytes.len()).sum());
        wanted.iter().for_each(|event| bytes.extend_from_slice(&event.bytes));
        NextEvents::Events(bytes.into())
    }
}
