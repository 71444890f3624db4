//! One who listens: a place in the order of events, and which of them are wanted.

use std::sync::Arc;

use axum::body::Bytes;
use talktrack::ReadError;
use talktrack::clock::Seq;
use tokio::sync::watch;
use uuid::Uuid;

use super::event::Event;
use super::ring::Taken;
use super::source::Page;
use super::{PAUSE, Place};

/// Which events are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Filter {
    pub(crate) session_id: Option<Uuid>,
    /// In sessions of this user.
    pub(crate) user_id: Option<Uuid>,
}

pub(crate) struct Listener {
    place: Seq,
    /// The id that it was told last.
    told: Seq,
    filter: Filter,
    head: watch::Receiver<Seq>,
    /// Gives its place back when the listener goes.
    seat: Place,
    /// It has been given what it asked for when it came.
    has_begun: bool,
    /// What came behind a gap, and the place behind that.
    after_the_gap: Option<(Vec<Arc<Event>>, Seq)>,
}

/// What comes next for a listener.
pub(crate) enum Next {
    /// Events, as they go over the wire.
    Events(Bytes),
    /// When it came, some of what it asked for was no longer kept: after this place, before that one.
    Gap(Seq, Seq),
    /// It is so far behind that what comes next is no longer kept.
    TooSlow,
    /// Whose the next event is cannot be told now: the store is away.
    Unknown,
}

/// The next event may be one for the listener or not.
struct NobodyKnows;

impl Filter {
    fn admits(self, event: &Event) -> Result<bool, NobodyKnows> {
        if self.session_id.is_some_and(|session| session != event.session_id) {
            return Ok(false);
        }
        match (self.user_id, event.owner) {
            (None, _) => Ok(true),
            (Some(user), Some(owner)) => Ok(user == owner),
            (Some(_), None) => Err(NobodyKnows),
        }
    }
}

impl Listener {
    /// Listens to what comes after the event with this id; without one, to what comes from now on.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub(crate) async fn begin(seat: Place, filter: Filter, after: Option<Seq>) -> Result<Self, ReadError> {
        let newest = seat.events.0.late.newest().await?;
        // Ids are this node's. Behind its newest lies what is new in any case.
        let place = after.map_or(newest, |after| after.min(newest));
        let head = seat.events.0.head.subscribe();
        Ok(Self { place, told: place, filter, head, seat, has_begun: after.is_none(), after_the_gap: None })
    }

    /// Waits for what comes next. May be dropped and asked again without missing anything.
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            if let Some((events, next)) = self.after_the_gap.take()
                && let Some(next) = self.wanted(&events, next)
            {
                return next;
            }
            let taken = self.seat.events.0.ring.lock().after(self.place);
            let (events, next) = match taken {
                Taken::UpTo(_, next) if next == self.place => {
                    // The sender lives in what `seat` holds.
                    let _ = self.head.changed().await;
                    continue;
                }
                Taken::UpTo(events, next) => (events, next),
                Taken::Gone => match self.read().await {
                    Page { events, next, gap: Some(place) } if !self.has_begun => {
                        let after = std::mem::replace(&mut self.place, place);
                        (self.has_begun, self.told) = (true, place);
                        self.after_the_gap = Some((events, next));
                        return Next::Gap(after, place);
                    }
                    Page { gap: Some(_), .. } => return Next::TooSlow,
                    Page { events, next, .. } => (events, next),
                },
            };
            self.has_begun = true;
            if let Some(next) = self.wanted(&events, next) {
                return next;
            }
            // Somebody who wants little of much must not keep others from being served.
            tokio::task::yield_now().await;
        }
    }

    /// The place up to which it has everything, where it was not told yet.
    pub(crate) fn untold_place(&mut self) -> Option<Seq> {
        (self.told != self.place).then(|| {
            self.told = self.place;
            self.place
        })
    }

    /// Reads what the ring has no longer, when it is its turn.
    async fn read(&self) -> Page {
        let events = &self.seat.events.0;
        loop {
            // The semaphore is never closed: an error cannot come.
            let turn = events.catching_up.acquire().await;
            match events.late.page(self.place).await {
                Ok(page) => return page,
                Err(error) => tracing::debug!(%error, "a listener waits"),
            }
            drop(turn);
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn wanted(&mut self, events: &[Arc<Event>], next: Seq) -> Option<Next> {
        let mut wanted = Vec::new();
        for event in events {
            match self.filter.admits(event) {
                Ok(true) => wanted.push(event),
                Ok(false) => {}
                Err(NobodyKnows) if wanted.is_empty() => return Some(Next::Unknown),
                Err(NobodyKnows) => return Some(self.give(&wanted, wanted[wanted.len() - 1].seq)),
            }
            self.place = event.seq;
        }
        if wanted.is_empty() {
            self.place = next;
            return None;
        }
        Some(self.give(&wanted, next))
    }

    fn give(&mut self, wanted: &[&Arc<Event>], next: Seq) -> Next {
        self.place = next;
        self.told = wanted.last().map_or(self.told, |event| event.seq);
        if let [one] = wanted {
            return Next::Events(one.bytes.clone());
        }
        let mut bytes = Vec::with_capacity(wanted.iter().map(|event| event.bytes.len()).sum());
        wanted.iter().for_each(|event| bytes.extend_from_slice(&event.bytes));
        Next::Events(bytes.into())
    }
}
