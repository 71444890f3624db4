//! The frames of the protocol, one a line. Importing them again gives the same conversation.

use talktrack::store::{MessageRow, SessionRow};
use talktrack_protocol::{EndLine, MessageLine, StartLine};

use super::{TranscriptWriter, write_json};

pub(super) struct JsonlTranscript;

impl TranscriptWriter for JsonlTranscript {
    fn write_start(&mut self, session: &SessionRow, out: &mut String) {
        write_line(&StartLine::from_row(session), out);
    }

    fn write_message(&mut self, row: &MessageRow, out: &mut String) {
        write_line(&MessageLine::from_row(row), out);
    }

    fn write_end(&mut self, session: &SessionRow, out: &mut String) {
        EndLine::from_row(session).iter().for_each(|end| write_line(end, out));
    }
}

fn write_line(value: &impl serde::Serialize, out: &mut String) {
    write_json(value, out);
    out.push('\n');
}
