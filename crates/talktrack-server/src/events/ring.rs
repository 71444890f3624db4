//! A ring buffer of the latest events, shared by all listeners.

use std::collections::VecDeque;
use std::sync::Arc;

use talktrack::clock::Seq;

use super::event::Event;

/// The maximum size of the kept events in bytes.
const RING_BYTES: usize = 8 << 20;

/// The maximum number of events that a listener takes at once, and their maximum size in bytes. One event is always
/// taken, even a larger one.
const TAKEN_AT_ONCE: usize = 256;
const TAKEN_BYTES: usize = 64 << 10;

/// All events between two positions, in order.
#[derive(Debug, Default)]
pub(super) struct Ring {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Events at or before this position are not in the ring.
    floor: Seq,
    /// The position up to which the ring is complete.
    head: Seq,
}

/// The events that a listener takes from the ring.
#[derive(Debug)]
pub(super) enum RingRead {
    /// The next events, if any, and the position after them.
    UpTo(Vec<Arc<Event>>, Seq),
    /// The next events have been removed from the ring.
    Gone,
}

impl Ring {
    /// Clears the ring and starts it at this position.
    pub(super) fn reset(&mut self, place: Seq) {
        *self = Self { floor: place, head: place, ..Self::default() };
    }

    /// Appends the events up to `head`, and removes the oldest ones beyond the size limit.
    pub(super) fn push(&mut self, events: Vec<Arc<Event>>, head: Seq) {
        for event in events {
            self.bytes += event.bytes.len();
            self.events.push_back(event);
        }
        self.head = head;
        while self.bytes > RING_BYTES
            && let Some(oldest) = self.events.pop_front()
        {
            self.bytes -= oldest.bytes.len();
            self.floor = oldest.seq;
        }
    }

    /// Returns the events after a listener's position.
    pub(super) fn read_after(&self, place: Seq) -> RingRead {
        if place < self.floor {
            return RingRead::Gone;
        }
        let first = self.events.partition_point(|event| event.seq <= place);
        let mut room = TAKEN_BYTES;
        let fits = |event: &&Arc<Event>| {
            let fits = room > 0;
            room = room.saturating_sub(event.bytes.len());
            fits
        };
        let taken: Vec<_> =
            self.events.iter().skip(first).take(TAKEN_AT_ONCE).take_while(fits).cloned().collect();
        let is_all = first + taken.len() == self.events.len();
        let last = taken.last().map_or(place, |event| event.seq);
        RingRead::UpTo(taken, if is_all { self.head.max(place) } else { last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: i64, bytes: usize) -> Arc<Event> {
        Arc::new(Event { bytes: vec![b'x'; bytes].into(), ..Event::empty(Seq::new(seq)) })
    }

    fn read_after(ring: &Ring, place: i64) -> Option<(Vec<i64>, i64)> {
        match ring.read_after(Seq::new(place)) {
            RingRead::UpTo(events, next) => {
                Some((events.iter().map(|event| event.seq.get()).collect(), next.get()))
            }
            RingRead::Gone => None,
        }
    }

    #[test]
    fn each_listener_takes_what_comes_after_its_place() {
        let mut ring = Ring::default();
        ring.reset(Seq::new(10));
        ring.push(vec![event(12, 1), event(15, 1)], Seq::new(17));
        assert_eq!(read_after(&ring, 9), None);
        assert_eq!(read_after(&ring, 10), Some((vec![12, 15], 17)));
        assert_eq!(read_after(&ring, 12), Some((vec![15], 17)));
        assert_eq!(read_after(&ring, 17), Some((vec![], 17)));
        assert_eq!(read_after(&ring, 20), Some((vec![], 20)), "ahead, where the ring began anew later");
        ring.push(vec![], Seq::new(21));
        assert_eq!(read_after(&ring, 17), Some((vec![], 21)));
    }

    #[test]
    fn the_oldest_go_and_a_listener_takes_only_so_much_at_once() {
        let mut ring = Ring::default();
        ring.reset(Seq::new(0));
        (1..=20).for_each(|seq| ring.push(vec![event(seq, 1 << 20)], Seq::new(seq)));
        assert_eq!(read_after(&ring, 11), None);
        assert_eq!(read_after(&ring, 12), Some((vec![13], 13)), "a large one comes alone");
        assert_eq!(read_after(&ring, 19), Some((vec![20], 20)));
        (21..=1_000).for_each(|seq| ring.push(vec![event(seq, 10)], Seq::new(seq)));
        assert_eq!(read_after(&ring, 20).map(|(events, next)| (events.len(), next)), Some((256, 276)));
        ring.push(vec![event(2_000, RING_BYTES + 1)], Seq::new(2_000));
        assert_eq!(
            read_after(&ring, 1_999),
            None,
            "one that has no room in it is read by each for themselves"
        );
        assert_eq!(read_after(&ring, 2_000), Some((vec![], 2_000)));
    }
}
