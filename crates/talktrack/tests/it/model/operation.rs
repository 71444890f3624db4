//! The operations that a test performs on a tracker, with so few values that every combination occurs.

use Session::{A, B, C};
use proptest::prelude::*;
use proptest::strategy::Union;
use talktrack::{MessageId, SessionId, UserId};
use uuid::Uuid;

/// One of three conversations, each of a different user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Session {
    A,
    B,
    C,
}

impl Session {
    pub(crate) const ALL: [Self; 3] = [A, B, C];

    pub(crate) fn id(self) -> SessionId {
        SessionId::from_u128(0xa0 + self as u128)
    }

    pub(crate) fn user(self) -> UserId {
        UserId::from_u128(0xb0 + self as u128)
    }

    /// Returns the id of the message with this number in the session.
    pub(crate) fn message(self, number: u8) -> MessageId {
        Uuid::new_v5(&self.id().as_uuid(), &[number]).into()
    }
}

/// A message under an id that the caller chose. It may be new, a repetition, a conflict, or an earlier
/// or later revision. It may come too late, or too early for its session.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) session: Session,
    pub(crate) number: u8,
    pub(crate) revision: u32,
    pub(crate) text: &'static str,
    /// How many seconds before its acceptance the message was said.
    pub(crate) ago: u64,
}

/// The way in which a remote store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outage {
    /// The store refuses every write.
    Refuses,
    /// The store accepts every write, but its answers are lost.
    LosesAnswers,
}

/// The way in which a remote store comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Return {
    /// Every answer arrives.
    Steady,
    /// At first the answer to each write is lost once, so that the store gets every record twice.
    Stuttering,
}

/// A single step.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    /// A session starts or resumes.
    Start(Session),
    Say(Said),
    /// This many new messages at once, under ids that the tracker generates.
    Chat(Session, u8),
    End(Session),
    /// This many seconds pass, and sessions whose grace period is over leave memory.
    Wait(u64),
    /// The test waits until everything accepted is durable, and stored if the store is there. Then it
    /// compares the result with the model.
    Look,
    /// The process is killed, regardless of what it is doing, and starts again.
    Crash,
    /// The program ends without a shutdown, and starts again.
    Leave,
    /// The program shuts down cleanly, and starts again.
    Restart,
    StoreDown(Outage),
    /// The store is back and gets everything that waited.
    StoreUp(Return),
}

use Operation::{Chat, Crash, End, Leave, Look, Restart, Say, Start, StoreDown, StoreUp, Wait};

/// Draws operations for a tracker whose store is the file.
pub(crate) fn with_a_file() -> impl Strategy<Value = Vec<Operation>> {
    life(everywhere())
}

/// Draws operations for a tracker in front of a remote store.
pub(crate) fn with_a_remote_store() -> impl Strategy<Value = Vec<Operation>> {
    let mut steps = everywhere();
    steps.push((2, Just(StoreDown(Outage::Refuses)).boxed()));
    steps.push((2, Just(StoreDown(Outage::LosesAnswers)).boxed()));
    steps.push((2, Just(StoreUp(Return::Steady)).boxed()));
    steps.push((2, Just(StoreUp(Return::Stuttering)).boxed()));
    life(steps)
}

/// Starts two sessions before the drawn steps. The third may start later.
fn life(steps: Vec<(u32, BoxedStrategy<Operation>)>) -> impl Strategy<Value = Vec<Operation>> {
    let steps = prop::collection::vec(Union::new_weighted(steps), 1..50);
    steps.prop_map(|steps| [vec![Start(A), Start(B)], steps].concat())
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

/// Prefers the first session, so that many events meet in one place.
fn session() -> impl Strategy<Value = Session> {
    prop_oneof![5 => Just(A), 2 => Just(B), 1 => Just(C)]
}

fn said() -> impl Strategy<Value = Said> {
    let revision = prop_oneof![4 => Just(0u32), 2 => Just(1), 1 => Just(2)];
    let text = prop_oneof![2 => Just("yes"), 1 => Just("no")];
    let ago = prop_oneof![4 => Just(0u64), 1 => Just(5), 1 => Just(40)];
    let parts = (session(), 0..3u8, revision, text, ago);
    parts.prop_map(|(session, number, revision, text, ago)| Said { session, number, revision, text, ago })
}
