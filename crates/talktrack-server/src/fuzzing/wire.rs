//! Properties of the protocol's decoder: a text is either a frame that survives a round trip, or an error that can be
//! answered.

use talktrack::clock::Seq;
use talktrack::record::{Body, Record, SessionEnd, SessionStart, SessionUpdate, Status};
use talktrack::{Message, SessionId, Timestamp, UserId};
use talktrack_protocol::{
    AckWriter, ClientFrame, Frame, MessageLine, RecordLine, ServerFrame, SessionStartFrame, WireError,
};

/// The maximum length of an error message. It must be a readable line for any input.
const LONGEST_ERROR: usize = 300;

/// Parses the bytes as a client frame and as a server frame.
///
/// # Panics
/// Panics if the decoder breaks a property.
pub fn wire(bytes: &[u8]) {
    // Bytes that are not UTF-8 never reach the decoder.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Frame::parse(text) {
        Ok(frame) => reads_back(text, &frame),
        Err(error) => can_be_answered(error),
    }
    if let Ok(frame) = ServerFrame::parse(text) {
        reads_back_from_the_server(&frame);
    }
}

fn reads_back(text: &str, frame: &Frame) {
    assert!(text.trim_start().starts_with('{'), "taken for a frame: {text}");
    let (written, expected) = match &frame.body {
        ClientFrame::Ping => return,
        ClientFrame::Message(message) => {
            let message = message.clone().in_session(SessionId::nil());
            (message_line(&message, frame), frame.body.clone())
        }
        other => record_of(other),
    };
    let back = Frame::parse(&written).expect("what we write can be read");
    assert_eq!(without_notes(back.body), without_notes(expected), "{text} was written as {written}");
}

/// Removes talktrack's own notes on how a message was sent, which a line does not contain, so that messages can be
/// compared.
fn without_notes(body: ClientFrame) -> (Option<Message>, Option<ClientFrame>) {
    match body {
        ClientFrame::Message(message) => (Some(message.in_session(SessionId::nil()).with_extra(None)), None),
        other => (None, Some(other)),
    }
}

fn message_line(message: &Message, frame: &Frame) -> String {
    let line = MessageLine::from_message(message, frame.reference.as_ref());
    let written = serde_json::to_string(&line).expect("a message can be written");
    let back = Frame::parse(&written).expect("what we write can be read");
    assert_eq!(back.reference, frame.reference, "the mark is echoed as it came");
    written
}

/// Writes a frame as a line, and returns the frame that the line must parse to. Fields that are optional in a frame are
/// present in every line.
fn record_of(frame: &ClientFrame) -> (String, ClientFrame) {
    let session_id = SessionId::nil();
    let now = Timestamp::from_micros(0).expect("1970 can be written");
    let (body, expected) = match frame.clone() {
        ClientFrame::SessionStart(mut line) => {
            let started_at = *line.started_at.get_or_insert(now);
            let user_id = UserId::nil();
            let resumed = false;
            let SessionStartFrame { external_id, metadata, dimensions, .. } = line.clone();
            let reopens = line.resume;
            let start = SessionStart {
                session_id,
                user_id,
                external_id,
                metadata,
                dimensions,
                started_at,
                has_given_start: true,
                resumed,
                reopens,
            };
            (Body::Start(start), ClientFrame::SessionStart(line))
        }
        ClientFrame::SessionUpdate(update) => {
            let mut line = update;
            let metadata = line.metadata.get_or_insert_default().clone();
            let dimensions = line.dimensions.clone();
            let update =
                SessionUpdate { session_id, metadata, dimensions, owner: None, session_started_at: None };
            (Body::Update(update), ClientFrame::SessionUpdate(line))
        }
        ClientFrame::SessionEnd { reason, ended_at, status } => {
            let reason = reason.unwrap_or_default();
            let ended_at = ended_at.unwrap_or(now);
            // The default status is left out of a line.
            let said = status.filter(|status| *status == Status::Abandoned);
            let status = status.unwrap_or(Status::Ended);
            let line = ClientFrame::SessionEnd {
                reason: Some(reason.clone()),
                ended_at: Some(ended_at),
                status: said,
            };
            let known = None;
            let seen_until = None;
            let owner = None;
            (Body::End(SessionEnd { session_id, status, reason, ended_at, known, seen_until, owner }), line)
        }
        ClientFrame::Message(_) | ClientFrame::Auth { .. } | ClientFrame::Ping => {
            unreachable!("none is a session's record")
        }
    };
    let record = Record::new(Seq::ZERO, body);
    let line = RecordLine::from_record(&record).expect("a record of this kind has a line");
    (serde_json::to_string(&line).expect("a record can be written"), expected)
}

fn can_be_answered(error: WireError) {
    let WireError { code, message, reference, session_id, .. } = error;
    assert!(code == "invalid_json" || code == "invalid_message", "{code}");
    assert!(!message.is_empty() && !message.contains(char::is_control), "not a line: {message:?}");
    assert!(message.len() <= LONGEST_ERROR, "too long: {message}");
    let code = code.to_string();
    reads_back_from_the_server(&ServerFrame::Error { code, message, reference, session_id });
}

fn reads_back_from_the_server(frame: &ServerFrame) {
    let written = frame.to_text();
    let back = ServerFrame::parse(&written).expect("what we write can be read");
    let same = match (frame, &back) {
        (ServerFrame::SessionEnded { duration_seconds: one, .. }, other) => {
            same_but_for_the_last_bit(*one, other)
        }
        _ => *frame == back,
    };
    assert!(same, "{frame:?} was written as {written}");
    if let ServerFrame::Ack { acks } = frame {
        let mut writer = AckWriter::new(acks.len());
        acks.iter()
            .for_each(|ack| writer.push(ack.id, ack.reference.as_ref(), ack.session_id, &ack.warnings));
        assert_eq!(writer.finish(), (!acks.is_empty()).then_some(written), "both ways to write acks");
    }
}

/// The fast parser of numbers may be off in the last bit.
fn same_but_for_the_last_bit(seconds: f64, back: &ServerFrame) -> bool {
    let ServerFrame::SessionEnded { duration_seconds, .. } = back else { return false };
    (duration_seconds - seconds).abs() <= seconds.abs() * 1e-12
}
