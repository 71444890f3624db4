//! The circuit breaker: distinguishes a store that accepts no rows from rows that are bad. It counts users and never
//! rows, so that the rows of all other users are tried at once, however many bad rows one user sends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use talktrack_core::ids::UserId;

use crate::writer::outage::Outage;
use crate::writer::parking::{Parking, RowKind};

/// A user is active if a row of this user was tried less than this long ago.
const ACTIVE: Duration = Duration::from_secs(10 * 60);
/// How long rows of a minority of the users wait until the store accepts a row or refuses those of other users too.
const DOUBT: Duration = Duration::from_secs(2);
/// The maximum number of users that the breaker remembers and counts.
const MOST_USERS: usize = 100_000;

/// The breaker. All lanes share it.
pub(super) struct Breaker {
    state: Mutex<BreakerState>,
    parking: Arc<Parking>,
    outage: Arc<Outage>,
}

#[derive(Default)]
struct BreakerState {
    /// When a row of each user was last tried.
    active: HashMap<UserId, Instant>,
    sessions: FailureCount,
    messages: FailureCount,
}

/// The failures of one kind of rows since the store last accepted one.
#[derive(Default)]
struct FailureCount {
    /// The users whose rows failed, each with the error of the latest row. `None` stands for all rows without a user.
    users: HashMap<Option<UserId>, String>,
    since: Option<Instant>,
    is_open: bool,
}

impl BreakerState {
    fn failures_mut(&mut self, kind: RowKind) -> &mut FailureCount {
        match kind {
            RowKind::Session => &mut self.sessions,
            RowKind::Message => &mut self.messages,
        }
    }
}

impl Breaker {
    pub(super) fn new(parking: &Arc<Parking>, outage: &Arc<Outage>) -> Self {
        Self { state: Mutex::default(), parking: Arc::clone(parking), outage: Arc::clone(outage) }
    }

    /// Notes that rows of these users are tried. A row that names no user does not count.
    pub(super) fn note_tried<'u>(&self, users: impl Iterator<Item = &'u UserId>) {
        let now = Instant::now();
        let active = &mut self.state.lock().active;
        for user in users {
            if let Some(last) = active.get_mut(user) {
                *last = now;
            } else if active.len() < MOST_USERS {
                active.insert(user.clone(), now);
            }
        }
    }

    /// The store accepted a row of this kind: rows that wait because they were refused get their last attempt.
    pub(super) fn note_accepted(&self, kind: RowKind) {
        let mut state = self.state.lock();
        if !state.failures_mut(kind).users.is_empty() {
            self.close(&mut state, kind);
        }
    }

    fn close(&self, state: &mut BreakerState, kind: RowKind) {
        *state.failures_mut(kind) = FailureCount::default();
        self.parking.release_refused(kind);
        self.report_state(state);
    }

    /// Counts refused rows: the users, each with the error. The store accepted no other row of this kind in the same
    /// batch, so the rows need not be bad. They wait until the store accepts another row, or until it is clear that
    /// they are the exception.
    pub(super) fn note_refused<'e>(
        &self,
        kind: RowKind,
        rows: impl Iterator<Item = (Option<UserId>, &'e str)>,
    ) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.active.retain(|_, last| now.duration_since(*last) < ACTIVE);
        let active = state.active.len();
        let failures = state.failures_mut(kind);
        failures.users.extend(rows.map(|(user, error)| (user, error.to_owned())));
        failures.since.get_or_insert(now);
        failures.is_open = failures.is_open || failures.should_open(active);
        if failures.is_open {
            self.report_state(&state);
        }
    }

    /// Gives rows their last attempt if their users have been a minority for long enough. Closes the breaker if no rows
    /// wait any longer because the sessions were deleted.
    pub(super) fn tick(&self) {
        let mut state = self.state.lock();
        for kind in [RowKind::Session, RowKind::Message] {
            let failures = state.failures_mut(kind);
            let is_exception =
                !failures.is_open && failures.since.is_some_and(|since| since.elapsed() >= DOUBT);
            if is_exception || failures.is_open && !self.parking.has_refused(kind) {
                self.close(&mut state, kind);
            }
        }
    }

    /// Reports what is open: a warning if it concerns one user, otherwise an outage of the store.
    fn report_state(&self, state: &BreakerState) {
        let open = || [&state.sessions, &state.messages].into_iter().filter(|failures| failures.is_open);
        let (wide, narrow): (Vec<_>, Vec<_>) = open().partition(|failures| failures.users.len() > 1);
        let first = |failures: &FailureCount| {
            failures.users.iter().next().map(|(user, error)| (user.clone(), error.clone()))
        };
        match wide.first() {
            Some(failures) => {
                let error = failures.users.values().next().map_or("", String::as_str);
                let users = failures.users.len();
                self.outage.report_breaker(Some(&format!(
                    "{error} (the same for rows of {users} users: they wait until the store accepts them)"
                )));
            }
            None => self.outage.report_breaker(None),
        }
        let warning = narrow.first().and_then(|failures| first(failures)).map(|(user, error)| {
            let rows = match user {
                Some(user) => format!("rows of user {}...", &user.as_uuid().to_string()[..8]),
                None => "rows without a user".to_owned(),
            };
            format!(
                "{rows} are refused: {error} (they wait until the store accepts them; rows of other users are stored)"
            )
        });
        self.outage.set_warning(warning);
    }
}

impl FailureCount {
    /// True if more than half of the active users fail with the same error, and these are at least two or the only
    /// user.
    fn should_open(&self, active: usize) -> bool {
        let mut alike: HashMap<&str, usize> = HashMap::new();
        for error in self.users.values() {
            *alike.entry(error).or_default() += 1;
        }
        let most = alike.into_values().max().unwrap_or(0);
        most * 2 > active && (most >= 2 || active <= 1)
    }
}
