//! The state of each frame of a session: which frame to send next, which are in flight, and which must be sent again.

use std::collections::BTreeSet;
use std::time::Duration;

use talktrack_client::retry;
use tokio::time::Instant;

/// The frames of a session by number.
#[derive(Debug)]
pub(super) struct Frames {
    states: Vec<FrameState>,
    /// The first frame that was never sent.
    next: usize,
    /// Frames to send again, before any later one.
    again: BTreeSet<usize>,
    under_way: usize,
    /// The maximum number of frames in flight.
    window: usize,
    /// The current limit: reduced to 1 by a temporary refusal, then one more for each accepted frame, up to `window`.
    room: usize,
    /// The number of rounds of temporary refusals in a row.
    refusals: u32,
    /// When the last answer came, or the last time at which no answer was pending.
    last_answer: Instant,
}

#[derive(Debug, Clone, Copy)]
enum FrameState {
    /// Not sent yet, or refused and to be sent again.
    Waiting,
    /// Sent at this time and not answered.
    Sent(Instant),
    /// Accepted, or permanently refused.
    Answered,
}

impl Frames {
    pub(super) fn new(count: usize, window: usize) -> Self {
        Self {
            states: vec![FrameState::Waiting; count],
            next: 0,
            again: BTreeSet::new(),
            under_way: 0,
            window,
            room: window,
            refusals: 0,
            last_answer: Instant::now(),
        }
    }

    /// True if every frame is answered.
    pub(super) fn are_answered(&self) -> bool {
        self.under_way == 0 && self.again.is_empty() && self.next == self.states.len()
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Returns the frames without an answer.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = usize> {
        let open = |(_, state): &(usize, &FrameState)| !matches!(state, FrameState::Answered);
        self.states.iter().enumerate().filter(open).map(|(frame, _)| frame)
    }

    pub(super) fn last_answer(&self) -> Instant {
        self.last_answer
    }

    /// Returns the frame to send now, if the window allows one. After a temporary refusal no frame is sent until
    /// everything in flight is answered, so that a later message does not overtake an earlier one.
    pub(super) fn next(&self) -> Option<usize> {
        if self.under_way >= self.room || (self.refusals > 0 && self.under_way > 0) {
            return None;
        }
        let new = (self.next < self.states.len()).then_some(self.next);
        self.again.first().copied().or(new)
    }

    /// Returns how long to wait before sending resumes after refusals. The pause is randomised, so that connections
    /// that were refused together do not retry together.
    pub(super) fn pause(&self) -> Option<Duration> {
        (self.refusals > 0 && self.under_way == 0).then(|| retry::pause(self.refusals))
    }

    /// Records that the frame from [`Self::next`] was sent.
    pub(super) fn mark_sent(&mut self, frame: usize, now: Instant) {
        if self.under_way == 0 {
            self.last_answer = now;
        }
        if !self.again.remove(&frame) {
            self.next += 1;
        }
        self.states[frame] = FrameState::Sent(now);
        self.under_way += 1;
    }

    /// Records that a frame was accepted. Returns when it was sent; `None` if no frame of this number is in flight.
    pub(super) fn mark_taken(&mut self, frame: usize) -> Option<Instant> {
        let since = self.mark_answered(frame, FrameState::Answered)?;
        self.refusals = 0;
        self.room = (self.room + 1).min(self.window);
        Some(since)
    }

    /// Records that a frame was refused, permanently or temporarily. Returns false if no frame of this number is in
    /// flight.
    pub(super) fn mark_refused(&mut self, frame: usize, for_now: bool) -> bool {
        let state = if for_now { FrameState::Waiting } else { FrameState::Answered };
        let known = self.mark_answered(frame, state).is_some();
        if known && for_now {
            self.again.insert(frame);
            // A round of refusals consists of all frames that were in flight together.
            self.refusals += u32::from(self.again.len() == 1);
            self.room = 1;
        }
        known
    }

    fn mark_answered(&mut self, frame: usize, state: FrameState) -> Option<Instant> {
        let Some(FrameState::Sent(since)) = self.states.get(frame).copied() else { return None };
        self.states[frame] = state;
        self.under_way -= 1;
        self.last_answer = Instant::now();
        Some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send_all(frames: &mut Frames) -> Vec<usize> {
        let mut sent = Vec::new();
        while let Some(frame) = frames.next() {
            frames.mark_sent(frame, Instant::now());
            sent.push(frame);
        }
        sent
    }

    #[test]
    fn the_window_bounds_what_is_under_way() {
        let mut frames = Frames::new(5, 2);
        assert_eq!(send_all(&mut frames), [0, 1]);
        assert!(
            frames.mark_taken(0).is_some()
                && frames.mark_taken(0).is_none()
                && frames.mark_taken(7).is_none()
        );
        assert_eq!(send_all(&mut frames), [2]);
        assert_eq!(frames.unanswered().collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn what_was_refused_for_want_of_room_goes_before_what_was_never_sent() {
        let mut frames = Frames::new(5, 3);
        assert_eq!(send_all(&mut frames), [0, 1, 2]);
        assert!(frames.mark_refused(1, true) && frames.mark_refused(0, true));
        assert!(frames.next().is_none() && frames.pause().is_none(), "another one is still under way");
        assert!(frames.mark_refused(2, false));
        assert!(frames.pause().is_some());
        assert_eq!(send_all(&mut frames), [0], "one at a time at first");
        assert!(frames.mark_taken(0).is_some() && frames.pause().is_none());
        assert_eq!(send_all(&mut frames), [1, 3]);
        assert!(frames.mark_taken(1).is_some() && frames.mark_taken(3).is_some());
        assert_eq!(send_all(&mut frames), [4]);
        assert!(frames.mark_taken(4).is_some() && frames.are_answered());
    }
}
