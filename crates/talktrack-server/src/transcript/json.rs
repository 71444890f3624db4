//! One object with the session's row and the rows of its messages.

use talktrack::store::{MessageRow, SessionRow};

use super::{TranscriptWriter, write_json};

#[derive(Default)]
pub(super) struct JsonTranscript {
    has_messages: bool,
}

impl TranscriptWriter for JsonTranscript {
    fn write_start(&mut self, session: &SessionRow, out: &mut String) {
        out.push_str("{\"session\":");
        write_json(session, out);
        out.push_str(",\"messages\":[");
    }

    fn write_message(&mut self, row: &MessageRow, out: &mut String) {
        out.push_str(if self.has_messages { ",\n" } else { "\n" });
        self.has_messages = true;
        write_json(row, out);
    }

    fn write_end(&mut self, _: &SessionRow, out: &mut String) {
        out.push_str(if self.has_messages { "\n]}\n" } else { "]}\n" });
        self.has_messages = false;
    }
}
