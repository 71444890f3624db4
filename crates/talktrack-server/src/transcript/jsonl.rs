//! The frames of the protocol, one a line. Importing them again gives the same conversation.

use talktrack::store::{MessageRow, SessionRow};

use super::{Document, write_json};
use crate::wire::{EndLine, MessageLine, StartLine};

pub(super) struct Jsonl;

impl Document for Jsonl {
    fn begin(&mut self, session: &SessionRow, out: &mut String) {
        line(&StartLine::of_row(session), out);
    }

    fn message(&mut self, row: &MessageRow, out: &mut String) {
        line(&MessageLine::of_row(row), out);
    }

    fn end(&mut self, session: &SessionRow, out: &mut String) {
        EndLine::of_row(session).iter().for_each(|end| line(end, out));
    }
}

fn line(value: &impl serde::Serialize, out: &mut String) {
    write_json(value, out);
    out.push('\n');
}
