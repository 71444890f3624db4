//! The frames of the protocol. They are parsed at the edge, so that the code behind this module only handles valid
//! messages.
//!
//! JSONL files (replay, import, export) contain the same frames, one a line, each with the session's id.

mod server_frame;
mod frame;
mod line;
mod explain;
mod reference;
mod reason;

pub(crate) use frame::{ClientFrame, Frame, SessionStartFrame};
pub(crate) use line::{EndLine, MessageLine, RecordLine, StartLine};
pub(crate) use reason::reason_of_end;
pub(crate) use reference::{FrameRef, WireError};
pub(crate) use server_frame::{Ack, AckWriter, ServerFrame};
