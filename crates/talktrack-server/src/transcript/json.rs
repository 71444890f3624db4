//! One object with the session's row and the rows of its messages.

use talktrack::store::{MessageRow, SessionRow};

use super::{Document, write_json};

#[derive(Default)]
pub(super) struct Json {
    has_messages: bool,
}

impl Document for Json {
    fn begin(&mut self, session: &SessionRow, out: &mut String) {
        out.push_str("{\"session\":");
        write_json(session, out);
        out.push_str(",\"messages\":[");
    }

    fn message(&mut self, row: &MessageRow, out: &mut String) {
        out.push_str(if self.has_messages { ",\n" } else { "\n" });
        self.has_messages = true;
        write_json(row, out);
    }

    fn end(&mut self, _: &SessionRow, out: &mut String) {
        out.push_str(if self.has_messages { "\n]}\n" } else { "]}\n" });
        self.has_messages = false;
    }
}
