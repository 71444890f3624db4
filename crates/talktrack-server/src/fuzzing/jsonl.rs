//! Properties of the JSONL readers: every line is accepted or refused, and importing a file again adds nothing.

use std::collections::HashMap;
use std::path::Path;

use talktrack::store::sqlite::SqliteReader;
use talktrack::store::{Read as _, Rows as _, SessionFilter};
use talktrack::{DATABASE_FILE, Options, SessionId, Tracker};
use talktrack_protocol::jsonl::Lines;
use talktrack_protocol::{ClientFrame, EndLine, Frame, FrameRef, MessageLine, StartLine};

use crate::command::client::recording::ReplayInput;
use crate::command::import::importer::Importer;
use crate::command::import::tally::ImportTally;

/// More rows than any fuzzer input has lines.
const ALL: usize = 1_000_000;

/// Reads the bytes as a file to replay, and imports them three times into this empty directory.
///
/// # Panics
/// Panics if a reader breaks a property.
pub fn jsonl(bytes: &[u8], data_dir: &Path) {
    let count = lines(bytes);
    recording(bytes);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(async {
        let first = import(bytes, data_dir).await;
        assert_eq!(first.lines, count, "lines");
        assert!(first.refused <= first.lines && first.messages <= first.lines, "{first:?}");
        // A message that came before its session is accepted at the second import.
        let second = import(bytes, data_dir).await;
        assert_eq!(second.sessions, 0, "sessions of the second time: {second:?}");
        assert!(second.new_messages() <= Some(first.refused), "{first:?}, then {second:?}");
        let third = import(bytes, data_dir).await;
        assert_eq!(third.new_messages(), Some(0), "{first:?}, then {second:?}, then {third:?}");
        assert_eq!((third.refused, third.messages), (second.refused, second.messages));
        let mut said = said(bytes);
        for content in can_be_exported(data_dir).await {
            let lines = said.entry(content.clone()).or_default();
            *lines = lines
                .checked_sub(1)
                .unwrap_or_else(|| panic!("there more often than it was said: {content:?}"));
        }
    });
}

/// Counts the lines that are not blank.
fn lines(bytes: &[u8]) -> u64 {
    let mut lines = Lines::new(bytes, "input");
    let mut count = 0;
    let mut last = 0;
    while let Some(line) = lines.next_line().expect("bytes in memory can be read") {
        assert!(line.place.line > last, "{} comes after line {last}", line.place);
        assert!(
            line.text.is_err() || line.text.is_ok_and(|text| text.trim() == text && !text.contains('\n'))
        );
        (count, last) = (count + 1, line.place.line);
    }
    count
}

fn recording(bytes: &[u8]) {
    let recording = ReplayInput::read(Lines::new(bytes, "input")).expect("bytes in memory can be read");
    for session in &recording.sessions {
        for frame in 0..session.len() {
            let text = session.text(frame);
            let reference = match Frame::parse(text) {
                Ok(frame) => frame.reference,
                Err(error) => error.reference,
            };
            assert_eq!(reference, Some(FrameRef::number(frame as u64)), "the answer finds its line: {text}");
        }
    }
}

async fn import(bytes: &[u8], data_dir: &Path) -> ImportTally {
    let tracker = Tracker::open(Options::new(data_dir)).expect("the directory is ours");
    let mut importer = Importer::new(tracker, true);
    let mut lines = Lines::new(bytes, "input");
    while let Some(line) = lines.next_line().expect("bytes in memory can be read") {
        importer.import_line(&line).await.expect("a bad line stops nothing");
    }
    importer.finish().await.expect("everything is durable")
}

/// Counts how often each content occurs in the input.
fn said(bytes: &[u8]) -> HashMap<String, u64> {
    let mut lines = Lines::new(bytes, "input");
    let mut said = HashMap::new();
    while let Some(line) = lines.next_line().expect("bytes in memory can be read") {
        let frame = line.text.ok().and_then(|text| Frame::parse(text).ok());
        if let Some(ClientFrame::Message(message)) = frame.map(|frame| frame.body) {
            // No database stores a NUL character.
            let content = message.in_session(SessionId::nil()).content.replace('\0', "\u{FFFD}");
            *said.entry(content).or_default() += 1;
        }
    }
    said
}

/// Checks that everything imported can be read, that the books balance, and that the exported lines can be imported.
/// Returns the contents of all messages.
async fn can_be_exported(data_dir: &Path) -> Vec<String> {
    let mut contents = Vec::new();
    let reader = SqliteReader::open(&data_dir.join(DATABASE_FILE)).expect("the file is there");
    let audit = reader.audit().await.expect("the file can be read");
    assert_eq!(audit.problems, [""; 0]);
    for session in reader.sessions(SessionFilter::default(), None, ALL).await.expect("sessions can be read") {
        reads(&StartLine::from_row(&session));
        EndLine::from_row(&session).iter().for_each(reads);
        let rows = reader.messages(session.session_id, None, ALL).await.expect("messages can be read");
        rows.iter().for_each(|row| reads(&MessageLine::from_row(row)));
        contents.extend(rows.into_iter().map(|row| row.content));
    }
    contents
}

fn reads(line: &impl serde::Serialize) {
    let text = serde_json::to_string(line).expect("a line can be written");
    if let Err(error) = Frame::parse(&text) {
        panic!("{error}: {text}");
    }
}
