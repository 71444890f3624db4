//! What the network does at the moment, for every thread that carries bytes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::Duration;

use super::link::{Direction, Link};

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    #[default]
    Open,
    Hanging,
    /// Nothing passes to clients.
    Mute,
    Cut,
    /// The proxy is gone.
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
    /// The bytes that may still go to the server before the network is cut.
    quota: Option<usize>,
    /// To be closed by a cut. Those that ended by themselves are forgotten when the next one comes.
    links: Vec<Weak<Link>>,
}

impl Switch {
    pub(super) fn mode(&self) -> Mode {
        self.state().mode
    }

    /// Changes the mode, and closes all links where the new one means that.
    pub(super) fn turn(&self, mode: Mode) {
        let mut state = self.state();
        state.mode = mode;
        state.quota = None;
        if matches!(mode, Mode::Cut | Mode::Ended) {
            state.links.drain(..).filter_map(|link| link.upgrade()).for_each(|link| link.close());
        }
        self.turned.notify_all();
    }

    /// Adds a link, unless the network has been cut since it was made.
    pub(super) fn admit(&self, link: &Arc<Link>) -> bool {
        let mut state = self.state();
        let open = matches!(state.mode, Mode::Open | Mode::Hanging | Mode::Mute);
        if open {
            state.links.retain(|link| link.strong_count() > 0);
            state.links.push(Arc::downgrade(link));
        }
        open
    }

    pub(super) fn delay(&self) -> Duration {
        self.state().delay
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// Waits while nothing passes in this direction.
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

    /// How many of these bytes may go to the server. After them, [`Switch::cut_if_spent`].
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
