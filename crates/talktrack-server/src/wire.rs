//! The frames of the protocol, parsed at the edge: behind this module there are only valid messages.
//!
//! Files in JSONL (replay, import, export) hold the same frames, one a line, with the session's id in each.

mod answer;
mod frame;
mod line;
mod explain;
mod reference;
mod reason;

pub(crate) use answer::{Ack, AckWriter, ServerFrame};
pub(crate) use frame::{ClientFrame, Frame, SessionStartFrame};
pub(crate) use line::{EndLine, MessageLine, RecordLine, StartLine};
pub(crate) use reason::reason_of_end;
pub(crate) use reference::{FrameRef, INVALID_JSON, INVALID_MESSAGE, WireError};
