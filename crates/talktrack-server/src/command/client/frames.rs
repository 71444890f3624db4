//! Where each frame of a session stands: what to send next, what is under way, what must be sent again.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// The first pause after a refusal for want of room; each further one in a row is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The frames of a session, by their numbers.
#[derive(Debug)]
pub(super) struct Frames {
    fates: Vec<Fate>,
    /// The next one that has never been sent.
    next: usize,
    /// To be sent again, before any later one.
    again: BTreeSet<usize>,
    under_way: usize,
    /// How many may be under way.
    window: usize,
    /// The same for now: less after refusals for want of room, then more with each one that was taken.
    room: usize,
    /// Rounds of refusals for want of room in a row.
    refusals: u32,
    /// The last answer, or the last moment at which none was owed.
    last_answer: Instant,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It has not been sent, or was refused and will be sent again.
    Waiting,
    /// Since then.
    Sent(Instant),
    /// Taken, or refused for good.
    Answered,
}

impl Frames {
    pub(super) fn new(count: usize, window: usize) -> Self {
        Self {
            fates: vec![Fate::Waiting; count],
            next: 0,
            again: BTreeSet::new(),
            under_way: 0,
            window,
            room: window,
            refusals: 0,
            last_answer: Instant::now(),
        }
    }

    /// Nothing is to be sent, and nothing under way.
    pub(super) fn are_answered(&self) -> bool {
        self.under_way == 0 && self.again.is_empty() && self.next == self.fates.len()
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Those that have no answer.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = usize> {
        let open = |(_, fate): &(usize, &Fate)| !matches!(fate, Fate::Answered);
        self.fates.iter().enumerate().filter(open).map(|(frame, _)| frame)
    }

    pub(super) fn last_answer(&self) -> Instant {
        self.last_answer
    }

    /// The frame to send now, if the window allows one. After a refusal for want of room none is sent until everything
    /// under way has its answer: a later message should not overtake an earlier one.
    pub(super) fn next(&self) -> Option<usize> {
        if self.under_way >= self.room || (self.refusals > 0 && self.under_way > 0) {
            return None;
        }
        let new = (self.next < self.fates.len()).then_some(self.next);
        self.again.first().copied().or(new)
    }

    /// What to wait before sending goes on after refusals. With chance, so that connections refused together do not
    /// come back together.
    pub(super) fn pause(&self) -> Option<Duration> {
        (self.refusals > 0 && self.under_way == 0).then(|| pause(self.refusals))
    }

    /// What [`Self::next`] named is on its way.
    pub(super) fn sent(&mut self, frame: usize, now: Instant) {
        if self.under_way == 0 {
            self.last_answer = now;
        }
        if !self.again.remove(&frame) {
            self.next += 1;
        }
        self.fates[frame] = Fate::Sent(now);
        self.under_way += 1;
    }

    /// A frame was taken. Says when it was sent; `None` where none of this number is under way.
    pub(super) fn taken(&mut self, frame: usize) -> Option<Instant> {
        let since = self.answered(frame, Fate::Answered)?;
        self.refusals = 0;
        self.room = (self.room + 1).min(self.window);
        Some(since)
    }

    /// A frame was refused, for good or for now. False where none of this number is under way.
    pub(super) fn refused(&mut self, frame: usize, for_now: bool) -> bool {
        let fate = if for_now { Fate::Waiting } else { Fate::Answered };
        let known = self.answered(frame, fate).is_some();
        if known && for_now {
            self.again.insert(frame);
            // One round of refusals is everything that was under way together.
            self.refusals += u32::from(self.again.len() == 1);
            self.room = 1;
        }
        known
    }

    fn answered(&mut self, frame: usize, fate: Fate) -> Option<Instant> {
        let Some(Fate::Sent(since)) = self.fates.get(frame).copied() else { return None };
        self.fates[frame] = fate;
        self.under_way -= 1;
        self.last_answer = Instant::now();
        Some(since)
    }
}

/// The pause after so many refusals in a row.
pub(super) fn pause(refusals: u32) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << refusals.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send_all(frames: &mut Frames) -> Vec<usize> {
        let mut sent = Vec::new();
        while let Some(frame) = frames.next() {
            frames.sent(frame, Instant::now());
            sent.push(frame);
        }
        sent
    }

    #[test]
    fn the_window_bounds_what_is_under_way() {
        let mut frames = Frames::new(5, 2);
        assert_eq!(send_all(&mut frames), [0, 1]);
        assert!(frames.taken(0).is_some() && frames.taken(0).is_none() && frames.taken(7).is_none());
        assert_eq!(send_all(&mut frames), [2]);
        assert_eq!(frames.unanswered().collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn what_was_refused_for_want_of_room_goes_before_what_was_never_sent() {
        let mut frames = Frames::new(5, 3);
        assert_eq!(send_all(&mut frames), [0, 1, 2]);
        assert!(frames.refused(1, true) && frames.refused(0, true));
        assert!(frames.next().is_none() && frames.pause().is_none(), "another one is still under way");
        assert!(frames.refused(2, false));
        assert!(frames.pause().is_some());
        assert_eq!(send_all(&mut frames), [0], "one at a time at first");
        assert!(frames.taken(0).is_some() && frames.pause().is_none());
        assert_eq!(send_all(&mut frames), [1, 3]);
        assert!(frames.taken(1).is_some() && frames.taken(3).is_some());
        assert_eq!(send_all(&mut frames), [4]);
        assert!(frames.taken(4).is_some() && frames.are_answered());
    }

    #[test]
    fn pauses_grow_up_to_a_second() {
        assert!(pause(1) <= FIRST_PAUSE && pause(3) >= FIRST_PAUSE * 2 && pause(u32::MAX) <= LONGEST_PAUSE);
    }
}
