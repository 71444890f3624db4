//! The present state of the network, shared by all threads that pass on bytes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::Duration;

/// A connection that a cut of the network closes, in both directions at once.
pub(super) trait Cuttable: Send + Sync {
    fn cut(&self);
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToServer,
    ToClient,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    #[default]
    Open,
    Hanging,
    /// Nothing passes to clients.
    Mute,
    Cut,
    /// The proxy has ended.
    Ended,
}

#[derive(Default)]
pub(super) struct Switch {
    state: Mutex<State>,
    /// Notified when the mode changes.
    turned: Condvar,
}

#[derive(Default)]
struct State {
    mode: Mode,
    delay: Duration,
    /// The number of bytes that may still go to the server before the network is cut.
    quota: Option<usize>,
    /// The links that a cut closes. Links that ended by themselves are removed when the next one is added.
    links: Vec<Weak<dyn Cuttable>>,
}

impl Switch {
    pub(super) fn mode(&self) -> Mode {
        self.state().mode
    }

    /// Changes the mode, and closes all links if the new mode requires that.
    pub(super) fn turn(&self, mode: Mode) {
        let mut state = self.state();
        state.mode = mode;
        state.quota = None;
        if matches!(mode, Mode::Cut | Mode::Ended) {
            state.links.drain(..).filter_map(|link| link.upgrade()).for_each(|link| link.cut());
        }
        self.turned.notify_all();
    }

    /// Adds a link, unless the network has been cut since the link was made. Returns true if it was added.
    pub(super) fn admit(&self, link: &Arc<impl Cuttable + 'static>) -> bool {
        let mut state = self.state();
        let open = matches!(state.mode, Mode::Open | Mode::Hanging | Mode::Mute);
        if open {
            state.links.retain(|link| link.strong_count() > 0);
            let link: Weak<dyn Cuttable> = Arc::downgrade(link) as _;
            state.links.push(link);
        }
        open
    }

    pub(super) fn delay(&self) -> Duration {
        self.state().delay
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// Waits while nothing may pass in this direction.
    pub(super) fn wait_to_pass(&self, direction: Direction) {
        let is_held = |state: &mut State| match direction {
            Direction::ToServer => state.mode == Mode::Hanging,
            Direction::ToClient => matches!(state.mode, Mode::Hanging | Mode::Mute),
        };
        drop(self.turned.wait_while(self.state(), is_held).expect("nobody panics with the switch in hand"));
    }

    pub(super) fn cut_after(&self, bytes: usize) {
        self.state().quota = Some(bytes);
    }

    /// Returns how many of these bytes may go to the server. Call [`Switch::cut_if_spent`] after sending
    /// them.
    pub(super) fn spend(&self, bytes: usize) -> usize {
        let Some(quota) = &mut self.state().quota else { return bytes };
        let granted = bytes.min(*quota);
        *quota -= granted;
        granted
    }

    pub(super) fn cut_if_spent(&self) {
        let spent = self.state().quota == Some(0);
        if spent {
            self.turn(Mode::Cut);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the switch in hand")
    }
}
