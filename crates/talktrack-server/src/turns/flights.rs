//! The records in flight of many senders, and which senders rest.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use talktrack::clock::Seq;

use super::{ALONE, LONGEST_REST, RECENT, REST, SHARE, is_heavy};

/// The records in flight of each sender, and which sender sent last.
#[derive(Debug)]
pub(super) struct Flights<K> {
    flights: HashMap<K, Flight>,
    /// The senders with a heavy record in flight.
    heavy: HashSet<K>,
    /// The sender that sent last, and when.
    last: Option<(K, Instant)>,
    /// When another than the last sender sent last.
    others: Option<Instant>,
}

/// The records in flight of one sender, oldest first.
#[derive(Debug, Default)]
struct Flight {
    records: VecDeque<Record>,
    weight: usize,
    /// How many of the records are heavy, and their total weight.
    heavy: usize,
    heavy_weight: usize,
    /// When the sender may hand over its next heavy record while others send.
    rests_until: Option<Instant>,
}

/// One record in flight.
#[derive(Debug)]
struct Record {
    seq: Seq,
    weight: usize,
    since: Instant,
}

impl<K> Default for Flights<K> {
    fn default() -> Self {
        Self { flights: HashMap::new(), heavy: HashSet::new(), last: None, others: None }
    }
}

impl<K: Hash + Eq + Clone> Flights<K> {
    pub(super) fn has_room(
        &mut self,
        key: &K,
        weight: usize,
        share: usize,
        durable: Seq,
        now: Instant,
    ) -> bool {
        let have_others_sent = self.have_others_sent(key, now);
        let Some(flight) = self.flights.get_mut(key) else { return true };
        flight.land_records(durable, now);
        match (have_others_sent, is_heavy(weight)) {
            (false, _) => flight.weight < ALONE,
            // A heavy record counts as one share, so that a key, which has several shares, can still send light
            // records.
            (true, false) => flight.weight - flight.heavy_weight + flight.heavy * SHARE < share,
            (true, true) => flight.heavy == 0 && flight.rest_time(now).is_none(),
        }
    }

    fn have_others_sent(&self, key: &K, now: Instant) -> bool {
        let others = match &self.last {
            Some((last, _)) if last == key => self.others,
            last => last.as_ref().map(|(_, at)| *at),
        };
        others.is_some_and(|at| now.saturating_duration_since(at) < RECENT)
    }

    /// Returns how long this sender must rest before its next heavy record; `None` if it need not rest or no other
    /// sender is active.
    pub(super) fn rest_time(&self, key: &K, now: Instant) -> Option<Duration> {
        let rest = self.flights.get(key)?.rest_time(now)?;
        self.have_others_sent(key, now).then_some(rest)
    }

    /// Removes durable records of senders with heavy records. Returns true if heavy records are still in flight.
    pub(super) fn land_heavy(&mut self, durable: Seq, now: Instant) -> bool {
        let flights = &mut self.flights;
        self.heavy.retain(|key| {
            flights.get_mut(key).is_some_and(|flight| {
                flight.land_records(durable, now);
                flight.heavy > 0
            })
        });
        !self.heavy.is_empty()
    }

    pub(super) fn add_record(&mut self, key: &K, seq: Seq, weight: usize, now: Instant) {
        match &mut self.last {
            Some((last, at)) if last == key => *at = now,
            last => {
                self.others = last.replace((key.clone(), now)).map(|(_, at)| at);
            }
        }
        let flight = self.flights.entry(key.clone()).or_default();
        flight.records.push_back(Record { seq, weight, since: now });
        flight.weight += weight;
        if is_heavy(weight) {
            flight.heavy += 1;
            flight.heavy_weight += weight;
            self.heavy.insert(key.clone());
        }
    }

    pub(super) fn remove_idle(&mut self, durable: Seq, now: Instant) {
        self.flights.retain(|_, flight| {
            flight.land_records(durable, now);
            !flight.records.is_empty() || flight.rest_time(now).is_some()
        });
        self.flights.shrink_to_fit();
    }
}

impl Flight {
    /// Removes durable records. After a heavy record a rest begins, even if other records are still in flight.
    fn land_records(&mut self, durable: Seq, now: Instant) {
        while let Some(&Record { seq, weight, since }) = self.records.front()
            && seq <= durable
        {
            self.records.pop_front();
            self.weight -= weight;
            if is_heavy(weight) {
                self.heavy -= 1;
                self.heavy_weight -= weight;
                let took = now.saturating_duration_since(since);
                self.rests_until = self.rests_until.max(Some(now + (took * REST).min(LONGEST_REST)));
            }
        }
    }

    fn rest_time(&self, now: Instant) -> Option<Duration> {
        let rest = self.rests_until?.saturating_duration_since(now);
        Some(rest).filter(|rest| !rest.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turns::KEY_SHARES;

    const LARGE: usize = 450;

    fn has_room(flights: &mut Flights<char>, key: char, weight: usize, durable: Seq, now: Instant) -> bool {
        flights.has_room(&key, weight, SHARE, durable, now)
    }

    #[test]
    fn who_is_alone_has_a_batch_and_who_is_not_has_a_share() {
        let mut flights = Flights::default();
        let now = Instant::now();
        let fill = |flights: &mut Flights<char>, key, at| {
            let mut sent = 0;
            while has_room(flights, key, 1, Seq::ZERO, at) {
                sent += 1;
                flights.add_record(&key, Seq::new(sent), 1, at);
            }
            sent
        };
        assert_eq!(fill(&mut flights, 'a', now), ALONE as i64);
        assert_eq!(fill(&mut flights, 'b', now), SHARE as i64, "a sends, too");
        assert!(has_room(&mut flights, 'c', 1, Seq::ZERO, now), "who has nothing on its way does not wait");
        assert!(!has_room(&mut flights, 'b', 1, Seq::ZERO, now));
        assert!(has_room(&mut flights, 'b', 1, Seq::new(1), now), "one is durable");
        let later = now + RECENT;
        assert!(has_room(&mut flights, 'b', 1, Seq::new(1), later), "the other has stopped");
        flights.remove_idle(Seq::MAX, later);
        assert_eq!(flights.flights.len(), 0);
    }

    #[test]
    fn who_sends_heavy_records_rests_before_the_next_while_others_send() {
        let mut flights = Flights::default();
        let began = Instant::now();
        let took = Duration::from_millis(30);
        let landed = began + took;
        flights.add_record(&'a', Seq::new(1), LARGE, began);
        assert!(flights.land_heavy(Seq::ZERO, began) && !flights.land_heavy(Seq::new(1), landed));
        assert!(has_room(&mut flights, 'a', LARGE, Seq::new(1), landed), "nobody else sends");
        flights.add_record(&'b', Seq::new(2), 1, landed);
        assert!(!has_room(&mut flights, 'a', LARGE, Seq::new(1), landed));
        assert!(has_room(&mut flights, 'a', 1, Seq::new(1), landed), "what is light does not rest");
        assert_eq!(flights.rest_time(&'a', landed), Some(took * REST));
        assert!(
            has_room(&mut flights, 'b', LARGE, Seq::new(1), landed)
                && flights.rest_time(&'b', landed).is_none()
        );
        flights.remove_idle(Seq::new(1), landed);
        assert!(!has_room(&mut flights, 'a', LARGE, Seq::new(1), landed), "a rest is not forgotten");
        assert!(has_room(&mut flights, 'a', LARGE, Seq::new(1), landed + took * REST));
        // However slow the disk is, no sender rests longer than this.
        flights.add_record(&'a', Seq::new(3), LARGE, landed);
        let late = landed + Duration::from_secs(25);
        flights.land_heavy(Seq::new(3), late);
        assert_eq!(flights.rest_time(&'a', late), Some(LONGEST_REST));
    }

    /// A busy key always has something in flight.
    #[test]
    fn a_rest_is_that_of_the_heavy_record_whatever_else_is_on_its_way() {
        let mut flights = Flights::default();
        let began = Instant::now();
        let took = Duration::from_millis(30);
        let landed = began + took;
        flights.add_record(&'b', Seq::new(1), 1, began);
        flights.add_record(&'a', Seq::new(2), LARGE, began);
        flights.add_record(&'a', Seq::new(3), 1, began);
        assert!(!flights.land_heavy(Seq::new(2), landed), "the light one is still on its way");
        assert_eq!(flights.rest_time(&'a', landed), Some(took * REST));
        flights.land_heavy(Seq::new(3), landed + took);
        assert_eq!(flights.rest_time(&'a', landed + took), Some(took), "the light one adds nothing");
    }

    #[test]
    fn one_heavy_record_is_on_its_way_and_what_is_light_of_the_same_key_goes_on() {
        let mut flights = Flights::default();
        let now = Instant::now();
        let share = KEY_SHARES * SHARE;
        flights.add_record(&'b', Seq::new(1), 1, now);
        for seq in 2..34 {
            flights.add_record(&'a', Seq::new(seq), 1, now);
        }
        assert!(flights.has_room(&'a', LARGE, share, Seq::ZERO, now), "what is light leaves it a place");
        flights.add_record(&'a', Seq::new(34), LARGE, now);
        assert!(!flights.has_room(&'a', LARGE, share, Seq::ZERO, now), "one at a time");
        assert!(!flights.has_room(&'a', 1, share, Seq::ZERO, now), "both shares are taken");
        assert!(flights.has_room(&'a', 1, share, Seq::new(2), now), "one is durable");
        assert!(
            flights.has_room(&'a', 1, share, Seq::new(33), now)
                && !flights.has_room(&'a', LARGE, share, Seq::new(33), now)
        );
    }
}
