//! What can happen to a tracker, small enough that everything meets everything.

use proptest::prelude::*;
use proptest::strategy::Union;
use uuid::Uuid;

use Session::{A, B, C};

/// One of a few conversations, each of a user of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Session {
    A,
    B,
    C,
}

impl Session {
    pub(crate) const ALL: [Self; 3] = [A, B, C];

    pub(crate) fn id(self) -> Uuid {
        Uuid::from_u128(0xa0 + self as u128)
    }

    pub(crate) fn user(self) -> Uuid {
        Uuid::from_u128(0xb0 + self as u128)
    }

    /// The id of a message in it that has this number.
    pub(crate) fn message(self, number: u8) -> Uuid {
        Uuid::new_v5(&self.id(), &[number])
    }
}

/// Something said under an id of the caller's own. It may be new, a repetition, a conflict, an earlier or a later revision; too
/// late, or too early for its session.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) session: Session,
    pub(crate) number: u8,
    pub(crate) revision: u32,
    pub(crate) text: &'static str,
    /// It was said so many seconds before it is told.
    pub(crate) ago: u64,
}

/// How a remote store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outage {
    /// It takes nothing.
    Refuses,
    /// It takes everything, and its answers are lost.
    LosesAnswers,
}

/// How a remote store comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Return {
    /// For good.
    Steady,
    /// At first the answer of each write is lost once, so that it gets everything twice.
    Stuttering,
}

/// One step.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    /// A session begins, or goes on.
    Start(Session),
    Say(Said),
    /// So many new messages in one go, under ids of the tracker's.
    Chat(Session, u8),
    End(Session),
    /// So many seconds pass, and sessions whose grace period is over leave memory.
    Wait(u64),
    /// Whatever has been accepted is durable now, and stored where the store is there; it is looked at.
    Look,
    /// The process is killed, whatever it is at, and starts again.
    Crash,
    /// The program ends without a shutdown, and starts again.
    Leave,
    /// The program ends in good order, and starts again.
    Restart,
    StoreDown(Outage),
    /// The store is back and gets all that waited.
    StoreUp(Return),
}

use Operation::{Chat, Crash, End, Leave, Look, Restart, Say, Start, StoreDown, StoreUp, Wait};

/// What can happen where the file is the store.
pub(crate) fn with_a_file() -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec(Union::new_weighted(everywhere()), 1..50)
}

/// What can happen in front of a remote store.
pub(crate) fn with_a_remote_store() -> impl Strategy<Value = Vec<Operation>> {
    let mut steps = everywhere();
    steps.push((2, Just(StoreDown(Outage::Refuses)).boxed()));
    steps.push((2, Just(StoreDown(Outage::LosesAnswers)).boxed()));
    steps.push((2, Just(StoreUp(Return::Steady)).boxed()));
    steps.push((2, Just(StoreUp(Return::Stuttering)).boxed()));
    prop::collection::vec(Union::new_weighted(steps), 1..50)
}

fn everywhere() -> Vec<(u32, BoxedStrategy<Operation>)> {
    vec![
        (8, session().prop_map(Start).boxed()),
        (24, said().prop_map(Say).boxed()),
        (6, (session(), 1..6u8).prop_map(|(session, turns)| Chat(session, turns)).boxed()),
        (6, session().prop_map(End).boxed()),
        (6, prop_oneof![Just(1u64), Just(30), Just(61)].prop_map(Wait).boxed()),
        (2, Just(Look).boxed()),
        (3, Just(Crash).boxed()),
        (1, Just(Leave).boxed()),
        (2, Just(Restart).boxed()),
    ]
}

/// Mostly the first, so that much happens in one place.
fn session() -> impl Strategy<Value = Session> {
    prop_oneof![3 => Just(A), 2 => Just(B), 1 => Just(C)]
}

fn said() -> impl Strategy<Value = Said> {
    let revision = prop_oneof![4 => Just(0u32), 2 => Just(1), 1 => Just(2)];
    let text = prop_oneof![2 => Just("yes"), 1 => Just("no")];
    let ago = prop_oneof![4 => Just(0u64), 1 => Just(5), 1 => Just(40)];
    let parts = (session(), 0..4u8, revision, text, ago);
    parts.prop_map(|(session, number, revision, text, ago)| Said { session, number, revision, text, ago })
}
