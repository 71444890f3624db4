//! The frames of talktrack's WebSocket protocol. They are parsed at the edge, so that the code behind this crate only
//! handles valid messages.
//!
//! JSONL files (replay, import, export) contain the same frames, one a line, each with the session's id.

pub mod jsonl;
mod server_frame;
mod line;
mod frame;
mod message;
mod extra;
mod dimensions;
mod explain;
mod fields;
mod content;
mod tool_call;
mod sent_role;
mod sent_time;
mod borrowed;
mod warnings;
mod reference;
mod session_name;
mod reason;
mod secret;

pub use frame::{ClientFrame, Frame, SessionStartFrame, SessionUpdateFrame};
pub use line::{EndLine, MessageLine, RecordLine, StartLine, UpdateLine};
pub use message::MessageFrame;
pub use reason::reason_of_end;
pub use reference::{FrameRef, WireError};
pub use secret::Secret;
pub use sent_role::translate_role;
pub use server_frame::{Ack, AckWriter, InvalidServerFrame, ServerFrame};
pub use session_name::SessionName;
pub use warnings::Warnings;
