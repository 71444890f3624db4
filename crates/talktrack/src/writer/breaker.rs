//! The circuit breaker: distinguishes a store that accepts no rows from rows that are bad. It counts users and never
//! rows, so that the rows of all other users are tried at once, however many bad rows one user sends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::writer::outage::Outage;
use crate::writer::parking::{Kind, Parking};

/// A user is active if a row of this user was tried less than this long ago.
const ACTIVE: Duration = Duration::from_secs(10 * 60);
/// How long rows of a minority of the users wait until the store accepts a row or refuses those of other users too.
const DOUBT: Duration = Duration::from_secs(2);
/// The maximum number of users that the breaker remembers and counts.
const MOST_USERS: usize = 100_000;

/// The breaker. All lanes share it.
pub(super) struct Breaker {
    state: Mutex<State>,
    parking: Arc<Parking>,
    outage: Arc<Outage>,
}

#[derive(Default)]
struct State {
    /// When a row of each user was last tried.
    active: HashMap<Uuid, Instant>,
    sessions: Failing,
    messages: Failing,
}

/// The failures of one kind of rows since the store last accepted one.
#[derive(Default)]
struct Failing {
    /// The users whose rows failed, each with the error of the latest row.
    users: HashMap<Uuid, String>,
    since: Option<Instant>,
    is_open: bool,
}

impl State {
    fn of(&mut self, kind: Kind) -> &mut Failing {
        match kind {
            Kind::Session => &mut self.sessions,
            Kind::Message => &mut self.messages,
        }
    }
}

impl Breaker {
    pub(super) fn new(parking: &Arc<Parking>, outage: &Arc<Outage>) -> Self {
        Self { state: Mutex::default(), parking: Arc::clone(parking), outage: Arc::clone(outage) }
    }

    /// Notes that rows of these users are tried. A row that names no user does not count.
    pub(super) fn tried(&self, users: impl Iterator<Item = Uuid>) {
        let (now, active) = (Instant::now(), &mut self.state.lock().active);
        for user in users {
            if let Some(last) = active.get_mut(&user) {
                *last = now;
            } else if active.len() < MOST_USERS {
                active.insert(user, now);
            }
        }
    }

    /// The store accepted a row of this kind: rows that wait because they were refused get their last attempt.
    pub(super) fn accepted(&self, kind: Kind) {
        let mut state = self.state.lock();
        if !state.of(kind).users.is_empty() {
            self.close(&mut state, kind);
        }
    }

    fn close(&self, state: &mut State, kind: Kind) {
        *state.of(kind) = Failing::default();
        self.parking.release(kind);
        self.show(state);
    }

    /// Counts refused rows: the users, each with the error. The store accepted no other row of this kind in the same
    /// batch, so the rows need not be bad. They wait until the store accepts another row, or until it is clear that
    /// they are the exception.
    pub(super) fn refused<'e>(&self, kind: Kind, rows: impl Iterator<Item = (Uuid, &'e str)>) {
        let (now, mut state) = (Instant::now(), self.state.lock());
        state.active.retain(|_, last| now.duration_since(*last) < ACTIVE);
        let active = state.active.len();
        let failing = state.of(kind);
        failing.users.extend(rows.map(|(user, error)| (user, error.to_owned())));
        failing.since.get_or_insert(now);
        failing.is_open = failing.is_open || failing.speaks_against_the_store(active);
        if failing.is_open {
            self.show(&state);
        }
    }

    /// Gives rows their last attempt if their users have been a minority for long enough. Closes the breaker if no rows
    /// wait any longer because the sessions were deleted.
    pub(super) fn tick(&self) {
        let mut state = self.state.lock();
        for kind in [Kind::Session, Kind::Message] {
            let failing = state.of(kind);
            let is_exception =
                !failing.is_open && failing.since.is_some_and(|since| since.elapsed() >= DOUBT);
            if is_exception || failing.is_open && !self.parking.has_refused(kind) {
                self.close(&mut state, kind);
            }
        }
    }

    /// Reports what is open: a warning if it concerns one user, otherwise an outage of the store.
    fn show(&self, state: &State) {
        let open = || [&state.sessions, &state.messages].into_iter().filter(|failing| failing.is_open);
        let (wide, narrow): (Vec<_>, Vec<_>) = open().partition(|failing| failing.users.len() > 1);
        let first =
            |failing: &Failing| failing.users.iter().next().map(|(user, error)| (*user, error.clone()));
        match wide.first() {
            Some(failing) => {
                let error = failing.users.values().next().map_or("", String::as_str);
                let users = failing.users.len();
                self.outage.breaker(Some(&format!(
                    "{error} (the same for rows of {users} users: they wait until the store takes them)"
                )));
            }
            None => self.outage.breaker(None),
        }
        let warning = narrow.first().and_then(|failing| first(failing)).map(|(user, error)| {
            let user = &user.to_string()[..8];
            format!(
                "rows of user {user}... are refused: {error} (they wait until the store takes them; rows of other users are stored)"
            )
        });
        self.outage.warn(warning);
    }
}

impl Failing {
    /// True if more than half of the active users fail with the same error, and these are at least two or the only
    /// user.
    fn speaks_against_the_store(&self, active: usize) -> bool {
        let mut alike: HashMap<&str, usize> = HashMap::new();
        for error in self.users.values() {
            *alike.entry(error).or_default() += 1;
        }
        let most = alike.into_values().max().unwrap_or(0);
        most * 2 > active && (most >= 2 || active <= 1)
    }
}
