//! A table for spreadsheets: one row a message, under one header for all conversations of the file.

use talktrack::store::{MessageRow, SessionRow};

use super::TranscriptWriter;
use crate::csv_table;

#[derive(Default)]
pub(super) struct CsvTranscript {
    has_header: bool,
}

impl TranscriptWriter for CsvTranscript {
    fn write_start(&mut self, _: &SessionRow, out: &mut String) {
        if !std::mem::replace(&mut self.has_header, true) {
            csv_table::write_message_header(out);
        }
    }

    fn write_message(&mut self, row: &MessageRow, out: &mut String) {
        csv_table::write_message(row, out);
    }

    fn write_end(&mut self, _: &SessionRow, _: &mut String) {}
}
