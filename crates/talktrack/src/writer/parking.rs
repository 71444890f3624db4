//! Parked sessions: what the store does not take now, but may take later, waits in the journal, outside the lanes' windows, so
//! that it holds up nobody else. Memory holds the ids of the sessions alone.
//!
//! A session is parked if the store does not know it yet (another node may deliver its start later), or if its rows are refused
//! while the breaker is open. All later records of the session wait behind it, in their order.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::record::{Body, Record};

/// Records of one session that the store does not know; what comes beyond them becomes dead letters at once.
const MOST_OF_A_SESSION: usize = 10_000;
/// Records of all such sessions.
const MOST_RECORDS: usize = 100_000;
/// Sessions whose start became a dead letter, so that their messages share its fate.
const MOST_BAD_STARTS: usize = 10_000;
/// Pauses between attempts at rows that were refused.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// While the breaker is open, a few rows tell whether the store takes them again: so many of a session, and sessions at once.
const PROBE: (usize, usize) = (10, 4);
/// Records of one parked session with a lane at once, if they are not such a probe.
const FED_AT_ONCE: usize = 250;
/// Records of all sessions whose rows were refused: they may be bad as well, and must leave the lanes room for what is new.
const REFUSED_AT_ONCE: usize = 1_000;

/// What a row is written to: the store may refuse the rows of one table and take those of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Starts, updates and ends.
    Session,
    /// What was said.
    Message,
}

impl Kind {
    pub(super) fn of(record: &Record) -> Self {
        if record.message().is_some() { Self::Message } else { Self::Session }
    }
}

/// Why a session is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The store does not know it.
    Unknown,
    /// The breaker is open for rows of this kind.
    Refused(Kind),
}

/// A parked session whose records the journal hands over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FedSession {
    pub(crate) session_id: Uuid,
    /// So many may be with the lane at once.
    pub(crate) most: usize,
    /// They are to tell whether the store takes rows of this session again: the newest is to be among them, because the oldest
    /// may all be bad.
    pub(crate) is_probe: bool,
}

/// The parked sessions of all lanes.
#[derive(Debug)]
pub(crate) struct Parking {
    state: Mutex<State>,
    /// Parked sessions: the usual none costs no lock.
    len: AtomicUsize,
    /// Some start became a dead letter in this process.
    any_bad_start: AtomicBool,
    /// How long a session may be unknown to a store that can be reached; zero if its records do not wait at all.
    wait: Duration,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<Uuid, Parked>,
    /// Records of unknown sessions.
    records: usize,
    /// With the error of the start.
    bad_starts: HashMap<Uuid, String>,
}

/// Where the records of a parked session are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// In the journal.
    Waiting,
    /// In the journal; the lane is to be told that they come.
    Due,
    /// The same, and the lane will hear of it when it has received all that was handed over before.
    Announced,
    /// The journal hands them to the lane.
    Fed,
}

#[derive(Debug)]
struct Parked {
    why: Why,
    records: usize,
    stage: Stage,
    /// The next refusal is the last.
    is_last: bool,
    /// How long the store could be reached meanwhile.
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

    /// True if this record waits behind others of its session. A start never waits: it may be what the others wait for.
    pub(crate) fn holds(&self, record: &Record) -> bool {
        !self.is_empty() && can_wait(record) && self.state.lock().sessions.contains_key(&record.session_id())
    }

    /// Counts another record that waits behind others of its session. Returns false if too many wait already.
    pub(crate) fn hold_back(&self, record: &Record) -> bool {
        let state = &mut *self.state.lock();
        let Some(parked) = state.sessions.get_mut(&record.session_id()) else { return true };
        // A row of another kind may be what the store takes.
        parked.retry_at = parked.retry_at.min(Instant::now() + PAUSES.0);
        parked.count(&mut state.records)
    }

    /// Sessions whose records the journal hands over now.
    pub(crate) fn fed(&self) -> Vec<FedSession> {
        if self.is_empty() {
            return Vec::new();
        }
        let state = self.state.lock();
        let fed = || state.sessions.iter().filter(|(_, parked)| parked.stage == Stage::Fed);
        let refused = fed().filter(|(_, parked)| parked.why != Why::Unknown).count().max(1);
        fed()
            .map(|(session_id, parked)| {
                let is_probe = !parked.is_last && parked.why != Why::Unknown;
                let most = match parked.why {
                    Why::Unknown => FED_AT_ONCE,
                    Why::Refused(_) if is_probe => PROBE.0,
                    Why::Refused(_) => (REFUSED_AT_ONCE / refused).clamp(1, FED_AT_ONCE),
                };
                FedSession { session_id: *session_id, most, is_probe }
            })
            .collect()
    }

    /// Sessions of which the lane is to be told that their records come: tell it.
    pub(super) fn announce_due(&self) -> Vec<Uuid> {
        let mut state = self.state.lock();
        let due = state.sessions.iter_mut().filter(|(_, parked)| parked.stage == Stage::Due);
        due.map(|(session_id, parked)| {
            parked.stage = Stage::Announced;
            *session_id
        })
        .collect()
    }

    /// The lane has heard that the records of this session come.
    pub(super) fn open(&self, session_id: Uuid) {
        if let Some(parked) = self.state.lock().sessions.get_mut(&session_id)
            && parked.stage == Stage::Announced
        {
            parked.stage = Stage::Fed;
        }
    }

    /// The lane has dropped all that it was told of these sessions.
    pub(crate) fn open_again(&self, is_meant: impl Fn(Uuid) -> bool) {
        let mut state = self.state.lock();
        let meant = state
            .sessions
            .iter_mut()
            .filter(|(session_id, parked)| parked.stage != Stage::Waiting && is_meant(**session_id));
        meant.for_each(|(_, parked)| parked.stage = Stage::Due);
    }

    /// Nothing of this session is left in the journal.
    pub(crate) fn unpark(&self, session_id: Uuid) {
        self.change(|state| {
            if let Some(parked) = state.sessions.remove(&session_id)
                && parked.why == Why::Unknown
            {
                state.records = state.records.saturating_sub(parked.records);
            }
        });
    }

    /// `Some` if this record, which a lane has, has to go back to the journal untried; `false` if too many wait there already.
    pub(super) fn go_back(&self, record: &Record) -> Option<bool> {
        if self.is_empty() || !can_wait(record) {
            return None;
        }
        let state = &mut *self.state.lock();
        let parked = state.sessions.get_mut(&record.session_id())?;
        (parked.stage != Stage::Fed).then(|| parked.count(&mut state.records))
    }

    /// True if what the store refuses of this session now is refused for good.
    pub(super) fn is_last(&self, session_id: Uuid) -> bool {
        let is_last = |state: &State| state.sessions.get(&session_id).is_some_and(|parked| parked.is_last);
        !self.is_empty() && is_last(&self.state.lock())
    }

    /// Parks a record's session. Returns false if the record must not wait: it has waited long enough, or too many do.
    pub(super) fn park(&self, record: &Record, why: Why) -> bool {
        if why == Why::Unknown && self.wait.is_zero() {
            return false;
        }
        self.change(|state| {
            let parked = state.sessions.entry(record.session_id()).or_insert_with(|| Parked::new(why));
            if parked.is_last && (parked.why == Why::Unknown || why != Why::Unknown) {
                return false;
            }
            parked.is_refused_too(why, &mut state.records);
            parked.is_unknown_after_all(why);
            if parked.stage == Stage::Fed {
                parked.pause = (parked.pause * 2).min(PAUSES.1);
                parked.wait_again(parked.pause, &mut state.records);
            }
            let has_room = parked.count(&mut state.records);
            if parked.records == 1 && why == Why::Unknown {
                let session_id = record.session_id();
                tracing::warn!(%session_id, "the store does not know this session yet; its records wait for it");
            }
            has_room
        })
    }

    /// Parks the session of a record that was not tried, because too many others of its user were refused beside it. `is_last`:
    /// what is refused of it next is refused for good.
    pub(super) fn put_back(&self, record: &Record, kind: Kind, is_last: bool) {
        self.change(|state| {
            let why = Why::Refused(kind);
            let parked = state.sessions.entry(record.session_id()).or_insert_with(|| Parked::new(why));
            if !can_wait(record) {
                parked.is_refused_too(why, &mut state.records);
            }
            // Whether the store knows the session yet is another question, and not answered by this.
            parked.is_last |= is_last && parked.why != Why::Unknown;
            if parked.stage == Stage::Fed {
                parked.wait_again(PAUSES.0, &mut state.records);
            }
        });
    }

    /// The start of this session became a dead letter.
    pub(super) fn note_bad_start(&self, session_id: Uuid, error: &str) {
        self.any_bad_start.store(true, Ordering::Release);
        let starts = &mut self.state.lock().bad_starts;
        if starts.len() < MOST_BAD_STARTS {
            starts.insert(session_id, error.to_owned());
        }
    }

    /// The start of this session is stored.
    pub(super) fn forget_bad_start(&self, session_id: Uuid) {
        if self.any_bad_start.load(Ordering::Acquire) {
            self.state.lock().bad_starts.remove(&session_id);
        }
    }

    /// What the start of this session was refused with, if it was.
    pub(super) fn bad_start(&self, session_id: Uuid) -> Option<String> {
        self.state.lock().bad_starts.get(&session_id).cloned()
    }

    /// Some of the sessions that the store did not know.
    pub(super) fn unknown(&self) -> Vec<Uuid> {
        let state = self.state.lock();
        let waiting = state
            .sessions
            .iter()
            .filter(|(_, parked)| parked.stage == Stage::Waiting && parked.why == Why::Unknown);
        waiting.map(|(session_id, _)| *session_id).collect()
    }

    /// The store was asked for this session, and could be reached for so long since it was asked before.
    pub(super) fn asked_for(&self, session_id: Uuid, is_known: bool, reachable: Duration) {
        if let Some(parked) = self.state.lock().sessions.get_mut(&session_id) {
            parked.reachable += reachable;
            // One more attempt decides: the session may have been deleted, or have come at this moment.
            parked.is_last = parked.reachable >= self.wait;
            if is_known || parked.is_last {
                parked.stage = Stage::Due;
            }
        }
    }

    /// Tries sessions again whose rows were refused, if their pause is over.
    pub(super) fn retry_refused(&self, now: Instant) {
        let is_due = |parked: &&mut Parked| {
            parked.why != Why::Unknown && parked.stage == Stage::Waiting && parked.retry_at <= now
        };
        let mut state = self.state.lock();
        let mut due: Vec<&mut Parked> = state.sessions.values_mut().filter(is_due).collect();
        due.sort_unstable_by_key(|parked| parked.retry_at);
        due.into_iter().take(PROBE.1).for_each(|parked| parked.stage = Stage::Due);
    }

    /// The store took a row of this kind: what it refuses now is refused for good.
    pub(super) fn release(&self, kind: Kind) {
        let refused = |parked: &&mut Parked| parked.why == Why::Refused(kind);
        let release = |parked: &mut Parked| {
            parked.is_last = true;
            if parked.stage == Stage::Waiting {
                parked.stage = Stage::Due;
            }
        };
        self.state.lock().sessions.values_mut().filter(refused).for_each(release);
    }

    /// True if rows of this kind wait for the breaker to close.
    pub(super) fn has_refused(&self, kind: Kind) -> bool {
        self.state.lock().sessions.values().any(|parked| parked.why == Why::Refused(kind))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let changed = change(&mut state);
        self.len.store(state.sessions.len(), Ordering::Release);
        changed
    }
}

impl Parked {
    fn new(why: Why) -> Self {
        Self {
            why,
            records: 0,
            stage: Stage::Waiting,
            is_last: false,
            reachable: Duration::ZERO,
            pause: PAUSES.0,
            retry_at: Instant::now() + PAUSES.0,
        }
    }

    /// Its records go back to the journal for so long, and are counted anew if the store does not know the session.
    fn wait_again(&mut self, pause: Duration, all: &mut usize) {
        self.stage = Stage::Waiting;
        self.retry_at = Instant::now() + pause;
        if self.why == Why::Unknown {
            *all -= std::mem::take(&mut self.records);
        }
    }

    /// If the store did not know the session, and now refuses its start: it waits for that.
    fn is_refused_too(&mut self, why: Why, all: &mut usize) {
        if self.why == Why::Unknown && why != Why::Unknown {
            *all -= std::mem::take(&mut self.records);
            self.why = why;
        }
    }

    /// If its rows were refused, or put back untried, and now the store says that it does not know the session: it waits as any
    /// other session that is unknown, with the same limits.
    fn is_unknown_after_all(&mut self, why: Why) {
        if self.why != Why::Unknown && why == Why::Unknown {
            (self.why, self.records, self.is_last) = (why, 0, false);
        }
    }

    /// Counts another record, among all. Returns false if too many wait already.
    fn count(&mut self, all: &mut usize) -> bool {
        if self.why != Why::Unknown {
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
