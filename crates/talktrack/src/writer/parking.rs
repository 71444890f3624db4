//! Parked sessions. Records that the store does not accept now, but may accept later, wait in the journal outside the lanes'
//! windows, so that they hold up no other records. Memory holds only the ids of the sessions.
//!
//! A session is parked if the store does not know it yet (another node may deliver its start later), or if its rows are refused
//! while the breaker is open. All later records of the session wait behind it in order.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use talktrack_core::ids::SessionId;
use talktrack_core::record::{Body, Record};

/// The maximum number of waiting records of one session that the store does not know. Further ones become dead letters at once.
const MOST_OF_A_SESSION: usize = 10_000;
/// The maximum number of waiting records of all such sessions.
const MOST_RECORDS: usize = 100_000;
/// The maximum number of remembered sessions whose start became a dead letter. Their messages become dead letters too.
const MOST_BAD_STARTS: usize = 10_000;
/// The first and the longest pause between attempts at refused rows.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// While the breaker is open, a few rows probe whether the store accepts them again: the number of records per session, and the
/// number of sessions at once.
const PROBE: (usize, usize) = (10, 4);
/// The maximum number of records of one parked session that a lane holds, outside of a probe.
const FED_AT_ONCE: usize = 250;
/// The maximum number of records of all sessions whose rows were refused. They may be bad as well, and must leave room in the
/// lanes for new records.
const REFUSED_AT_ONCE: usize = 1_000;

/// The table that a row is written to: the store may refuse the rows of one table and accept those of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RowKind {
    /// Starts, updates and ends.
    Session,
    /// Messages.
    Message,
}

impl RowKind {
    pub(super) fn new(record: &Record) -> Self {
        if record.message().is_some() { Self::Message } else { Self::Session }
    }
}

/// Why a session is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParkReason {
    /// The store does not know the session.
    Unknown,
    /// The breaker is open for rows of this kind.
    Refused(RowKind),
}

/// A parked session whose records the journal hands over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FedSession {
    pub(crate) session_id: SessionId,
    /// The maximum number of its records that the lane may hold.
    pub(crate) most: usize,
    /// True if the records probe whether the store accepts rows of this session again. The newest record must be among them,
    /// because the oldest may all be bad.
    pub(crate) is_probe: bool,
}

/// The parked sessions of all lanes.
#[derive(Debug)]
pub(crate) struct Parking {
    state: Mutex<ParkingState>,
    /// The number of parked sessions. It is usually zero, and reading it takes no lock.
    len: AtomicUsize,
    /// True if a session's start became a dead letter in this process.
    any_bad_start: AtomicBool,
    /// How long a session may be unknown to a reachable store. If zero, its records do not wait at all.
    wait: Duration,
}

#[derive(Debug, Default)]
struct ParkingState {
    sessions: HashMap<SessionId, Parked>,
    /// The number of records of unknown sessions.
    records: usize,
    /// Sessions whose start became a dead letter, each with the error.
    bad_starts: HashMap<SessionId, String>,
}

/// Where the records of a parked session are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// In the journal.
    Waiting,
    /// In the journal. The lane is to be told that they follow.
    Due,
    /// In the journal. The lane learns that they follow when it has received everything that was handed over before.
    Announced,
    /// The journal hands them to the lane.
    Fed,
}

#[derive(Debug)]
struct Parked {
    reason: ParkReason,
    records: usize,
    stage: Stage,
    /// True if the next refusal is final.
    is_last: bool,
    /// How long the store was reachable while the session was parked.
    reachable: Duration,
    pause: Duration,
    retry_at: Instant,
}

impl Parking {
    pub(super) fn new(wait: Duration) -> Self {
        Self {
            state: Mutex::default(),
            len: AtomicUsize::new(0),
            any_bad_start: AtomicBool::new(false),
            wait,
        }
    }

    /// True if no session is parked.
    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    /// True if this record waits behind others of its session. A start never waits, because the others may wait for it.
    pub(crate) fn holds(&self, record: &Record) -> bool {
        !self.is_empty() && can_wait(record) && self.state.lock().sessions.contains_key(&record.session_id())
    }

    /// Counts a record that waits behind others of its session. Returns false if too many wait already.
    pub(crate) fn hold_back(&self, record: &Record) -> bool {
        let state = &mut *self.state.lock();
        let Some(parked) = state.sessions.get_mut(&record.session_id()) else { return true };
        // The store may accept a row of another kind.
        parked.retry_at = parked.retry_at.min(Instant::now() + PAUSES.0);
        parked.count_record(&mut state.records)
    }

    /// Returns the sessions whose records the journal hands over now.
    pub(crate) fn fed_sessions(&self) -> Vec<FedSession> {
        if self.is_empty() {
            return Vec::new();
        }
        let state = self.state.lock();
        let fed = || state.sessions.iter().filter(|(_, parked)| parked.stage == Stage::Fed);
        let refused = fed().filter(|(_, parked)| parked.reason != ParkReason::Unknown).count().max(1);
        fed()
            .map(|(session_id, parked)| {
                let is_probe = !parked.is_last && parked.reason != ParkReason::Unknown;
                let most = match parked.reason {
                    ParkReason::Unknown => FED_AT_ONCE,
                    ParkReason::Refused(_) if is_probe => PROBE.0,
                    ParkReason::Refused(_) => (REFUSED_AT_ONCE / refused).clamp(1, FED_AT_ONCE),
                };
                FedSession { session_id: *session_id, most, is_probe }
            })
            .collect()
    }

    /// Returns the sessions whose lane is to be told that their records follow. The caller must tell it.
    pub(super) fn announce_due(&self) -> Vec<SessionId> {
        let mut state = self.state.lock();
        let due = state.sessions.iter_mut().filter(|(_, parked)| parked.stage == Stage::Due);
        due.map(|(session_id, parked)| {
            parked.stage = Stage::Announced;
            *session_id
        })
        .collect()
    }

    /// The lane has learned that the records of this session follow.
    pub(super) fn mark_fed(&self, session_id: SessionId) {
        if let Some(parked) = self.state.lock().sessions.get_mut(&session_id)
            && parked.stage == Stage::Announced
        {
            parked.stage = Stage::Fed;
        }
    }

    /// The lane has dropped everything that it was told about these sessions, so it is told again.
    pub(crate) fn reopen_sessions(&self, is_meant: impl Fn(SessionId) -> bool) {
        let mut state = self.state.lock();
        let meant = state
            .sessions
            .iter_mut()
            .filter(|(session_id, parked)| parked.stage != Stage::Waiting && is_meant(**session_id));
        meant.for_each(|(_, parked)| parked.stage = Stage::Due);
    }

    /// Unparks a session of which the journal has no record left.
    pub(crate) fn unpark(&self, session_id: SessionId) {
        self.update(|state| {
            if let Some(parked) = state.sessions.remove(&session_id)
                && parked.reason == ParkReason::Unknown
            {
                state.records = state.records.saturating_sub(parked.records);
            }
        });
    }

    /// Returns `Some` if this record of a lane has to go back to the journal untried, and `Some(false)` if too many wait there.
    pub(super) fn return_to_journal(&self, record: &Record) -> Option<bool> {
        if self.is_empty() || !can_wait(record) {
            return None;
        }
        let state = &mut *self.state.lock();
        let parked = state.sessions.get_mut(&record.session_id())?;
        (parked.stage != Stage::Fed).then(|| parked.count_record(&mut state.records))
    }

    /// True if a refusal of this session's records is final now.
    pub(super) fn is_last_attempt(&self, session_id: SessionId) -> bool {
        let is_last =
            |state: &ParkingState| state.sessions.get(&session_id).is_some_and(|parked| parked.is_last);
        !self.is_empty() && is_last(&self.state.lock())
    }

    /// Parks a record's session. Returns false if the record must not wait, because it has waited long enough or too many wait.
    pub(super) fn park(&self, record: &Record, reason: ParkReason) -> bool {
        if reason == ParkReason::Unknown && self.wait.is_zero() {
            return false;
        }
        self.update(|state| {
            let parked = state.sessions.entry(record.session_id()).or_insert_with(|| Parked::new(reason));
            if parked.is_last && (parked.reason == ParkReason::Unknown || reason != ParkReason::Unknown) {
                return false;
            }
            parked.note_refused_start(reason, &mut state.records);
            parked.note_unknown(reason);
            if parked.stage == Stage::Fed {
                parked.pause = (parked.pause * 2).min(PAUSES.1);
                parked.wait_again(parked.pause, &mut state.records);
            }
            let has_room = parked.count_record(&mut state.records);
            if parked.records == 1 && reason == ParkReason::Unknown {
                let session_id = record.session_id();
                tracing::warn!(%session_id, "the store does not know this session yet; its records wait for it");
            }
            has_room
        })
    }

    /// Parks the session of a record that was set aside untried, because other rows of its user were refused in the same batch.
    /// If `is_last` is true, the next refusal is final.
    pub(super) fn put_back(&self, record: &Record, kind: RowKind, is_last: bool) {
        self.update(|state| {
            let reason = ParkReason::Refused(kind);
            let parked = state.sessions.entry(record.session_id()).or_insert_with(|| Parked::new(reason));
            if !can_wait(record) {
                parked.note_refused_start(reason, &mut state.records);
            }
            // This says nothing about an unknown session: the store may still not know it.
            parked.is_last |= is_last && parked.reason != ParkReason::Unknown;
            if parked.stage == Stage::Fed {
                parked.wait_again(PAUSES.0, &mut state.records);
            }
        });
    }

    /// Notes that the start of this session became a dead letter.
    pub(super) fn note_bad_start(&self, session_id: SessionId, error: &str) {
        self.any_bad_start.store(true, Ordering::Release);
        let starts = &mut self.state.lock().bad_starts;
        if starts.len() < MOST_BAD_STARTS {
            starts.insert(session_id, error.to_owned());
        }
    }

    /// Notes that the start of this session is stored.
    pub(super) fn forget_bad_start(&self, session_id: SessionId) {
        if self.any_bad_start.load(Ordering::Acquire) {
            self.state.lock().bad_starts.remove(&session_id);
        }
    }

    /// Returns the error of this session's start, if it became a dead letter.
    pub(super) fn bad_start(&self, session_id: SessionId) -> Option<String> {
        self.state.lock().bad_starts.get(&session_id).cloned()
    }

    /// Returns the waiting sessions that the store did not know.
    pub(super) fn unknown_sessions(&self) -> Vec<SessionId> {
        let state = self.state.lock();
        let waiting = state
            .sessions
            .iter()
            .filter(|(_, parked)| parked.stage == Stage::Waiting && parked.reason == ParkReason::Unknown);
        waiting.map(|(session_id, _)| *session_id).collect()
    }

    /// Notes the store's answer about this session. `reachable` is how long the store has been reachable since the last answer.
    pub(super) fn note_answer(&self, session_id: SessionId, is_known: bool, reachable: Duration) {
        if let Some(parked) = self.state.lock().sessions.get_mut(&session_id) {
            parked.reachable += reachable;
            // One more attempt decides: the session may have been deleted, or may have just arrived.
            parked.is_last = parked.reachable >= self.wait;
            if is_known || parked.is_last {
                parked.stage = Stage::Due;
            }
        }
    }

    /// Retries sessions whose rows were refused, if their pause is over. At most `PROBE.1` sessions at a time.
    pub(super) fn retry_refused(&self, now: Instant) {
        let is_due = |parked: &&mut Parked| {
            parked.reason != ParkReason::Unknown && parked.stage == Stage::Waiting && parked.retry_at <= now
        };
        let mut state = self.state.lock();
        let mut due: Vec<&mut Parked> = state.sessions.values_mut().filter(is_due).collect();
        due.sort_unstable_by_key(|parked| parked.retry_at);
        due.into_iter().take(PROBE.1).for_each(|parked| parked.stage = Stage::Due);
    }

    /// The store accepted a row of this kind: from now on a refusal is final.
    pub(super) fn release_refused(&self, kind: RowKind) {
        let refused = |parked: &&mut Parked| parked.reason == ParkReason::Refused(kind);
        let release = |parked: &mut Parked| {
            parked.is_last = true;
            if parked.stage == Stage::Waiting {
                parked.stage = Stage::Due;
            }
        };
        self.state.lock().sessions.values_mut().filter(refused).for_each(release);
    }

    /// True if rows of this kind wait for the breaker to close.
    pub(super) fn has_refused(&self, kind: RowKind) -> bool {
        self.state.lock().sessions.values().any(|parked| parked.reason == ParkReason::Refused(kind))
    }

    fn update<T>(&self, change: impl FnOnce(&mut ParkingState) -> T) -> T {
        let mut state = self.state.lock();
        let changed = change(&mut state);
        self.len.store(state.sessions.len(), Ordering::Release);
        changed
    }
}

impl Parked {
    fn new(reason: ParkReason) -> Self {
        Self {
            reason,
            records: 0,
            stage: Stage::Waiting,
            is_last: false,
            reachable: Duration::ZERO,
            pause: PAUSES.0,
            retry_at: Instant::now() + PAUSES.0,
        }
    }

    /// Sends the records back to the journal for `pause`. Those of an unknown session are counted again there.
    fn wait_again(&mut self, pause: Duration, all: &mut usize) {
        self.stage = Stage::Waiting;
        self.retry_at = Instant::now() + pause;
        if self.reason == ParkReason::Unknown {
            *all -= std::mem::take(&mut self.records);
        }
    }

    /// If the session was unknown and the store now refuses its start, the session waits for that instead.
    fn note_refused_start(&mut self, reason: ParkReason, all: &mut usize) {
        if self.reason == ParkReason::Unknown && reason != ParkReason::Unknown {
            *all -= std::mem::take(&mut self.records);
            self.reason = reason;
        }
    }

    /// If the rows were refused or put back untried and the store now says that it does not know the session, it waits like any
    /// other unknown session, with the same limits.
    fn note_unknown(&mut self, reason: ParkReason) {
        if self.reason != ParkReason::Unknown && reason == ParkReason::Unknown {
            (self.reason, self.records, self.is_last) = (reason, 0, false);
        }
    }

    /// Counts another record in `all`. Returns false if too many wait already.
    fn count_record(&mut self, all: &mut usize) -> bool {
        if self.reason != ParkReason::Unknown {
            return true;
        }
        let has_room = self.records < MOST_OF_A_SESSION && *all < MOST_RECORDS;
        if has_room {
            (self.records, *all) = (self.records + 1, *all + 1);
        }
        has_room
    }
}

fn can_wait(record: &Record) -> bool {
    !matches!(record.body, Body::Start(_)) && !record.is_deletion()
}
