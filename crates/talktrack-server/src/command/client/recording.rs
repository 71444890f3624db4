//! A recording: the frames of a JSONL file, grouped by session and ready to be sent. Lines are sent nearly unchanged:
//! only a `ref` is inserted at the front, which relates the answer to the line.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use talktrack::{MessageId, SessionId, UserId};
use talktrack_protocol::jsonl::Lines;
use talktrack_protocol::{ClientFrame, Frame, SessionName};

use crate::command::import::imported_message_id;
use crate::error::Failure;
use crate::jsonl_file;

/// All sessions of a file, in the order of their first lines.
#[derive(Debug, Default)]
pub(crate) struct ReplayInput {
    pub(crate) sessions: Vec<RecordedSession>,
    pub(super) messages: u64,
    /// Lines that belong to no session: their places and what is wrong.
    pub(super) bad: Vec<String>,
}

/// One session, to be replayed on one connection.
#[derive(Debug)]
pub(crate) struct RecordedSession {
    pub(super) session_id: SessionId,
    pub(super) user_id: Option<UserId>,
    pub(super) external_id: Option<String>,
    /// The texts of the frames to be acknowledged, in one contiguous buffer. The `ref` of each frame is its number.
    texts: Box<str>,
    frames: Vec<FrameSpan>,
    /// The frame that ends the session. It is sent when all others are acknowledged.
    pub(super) end: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct FrameSpan {
    /// The end of the frame's text in the buffer, at which the next text begins.
    end: usize,
    /// The line in the file; 0 if the frame has no line of its own.
    line: u64,
    is_message: bool,
}

impl RecordedSession {
    fn new(session_id: SessionId) -> Self {
        let texts = Box::default();
        Self { session_id, user_id: None, external_id: None, texts, frames: Vec::new(), end: None }
    }

    /// Returns how many frames are to be acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Returns the text of a frame.
    pub(crate) fn text(&self, frame: usize) -> &str {
        let start = frame.checked_sub(1).map_or(0, |before| self.frames[before].end);
        &self.texts[start..self.frames[frame].end]
    }

    /// Returns the line of a frame in the file.
    pub(super) fn line(&self, frame: usize) -> u64 {
        self.frames[frame].line
    }

    /// True if a frame is a message. All other frames change the session's metadata.
    pub(super) fn is_message(&self, frame: usize) -> bool {
        self.frames[frame].is_message
    }
}

/// The fields that determine which session and type a line has. The server validates the rest.
#[derive(Deserialize)]
struct FrameHead<'a> {
    #[serde(borrow, rename = "type")]
    frame_type: Cow<'a, str>,
    session_id: SessionName,
    #[serde(rename = "ref")]
    reference: Option<IgnoredAny>,
    id: Option<IgnoredAny>,
    external_id: Option<IgnoredAny>,
}

impl FrameHead<'_> {
    fn of_update(session_id: SessionName) -> Self {
        Self { frame_type: "session.update".into(), session_id, reference: None, id: None, external_id: None }
    }
}

/// A recording that is being built.
#[derive(Default)]
struct Builder {
    recording: ReplayInput,
    texts: Vec<String>,
    /// The number of message lines of each session so far.
    messages: Vec<u64>,
    places: HashMap<SessionId, usize>,
}

impl ReplayInput {
    /// Reads a file.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub(super) fn load(path: &Path) -> Result<Self, Failure> {
        Self::read(jsonl_file::open(path)?)
    }

    /// Reads lines.
    ///
    /// # Errors
    /// Fails if the lines cannot be read.
    pub(crate) fn read(mut lines: Lines<impl BufRead>) -> Result<Self, Failure> {
        let mut builder = Builder::default();
        while let Some(line) = lines.next_line()? {
            let taken =
                line.text.map_err(str::to_owned).and_then(|text| builder.take_line(text, line.place.line));
            if let Err(problem) = taken {
                builder.recording.bad.push(format!("{}: {problem}", line.place));
            }
        }
        Ok(builder.finish())
    }
}

impl Builder {
    fn take_line(&mut self, text: &str, line: u64) -> Result<(), String> {
        // serde would also accept an array as a struct and take its values as the fields in order.
        let head = serde_json::from_str::<FrameHead<'_>>(text).ok().filter(|_| text.starts_with('{'));
        let Some(head) = head else { return self.take_start(text) };
        match head.frame_type.as_ref() {
            "message" => self.add_message(&head, text, line),
            "session.update" => self.add_frame(&head, text, line, None),
            "session.end" => {
                let place = self.session_index(head.session_id.id_for_key());
                self.recording.sessions[place].end = Some(text.to_owned());
            }
            _ => return self.take_start(text),
        }
        Ok(())
    }

    /// Handles a line that is not simply sent: the start of a session, or an invalid line.
    ///
    /// # Errors
    /// Says what is wrong with the line.
    fn take_start(&mut self, text: &str) -> Result<(), String> {
        let frame = Frame::parse(text).map_err(|error| error.to_string())?;
        let ClientFrame::SessionStart(start) = frame.body else {
            return if frame.body == ClientFrame::Ping { Ok(()) } else { Err("session_id: missing".into()) };
        };
        let external_id =
            start.external_id.or_else(|| frame.session_id.as_ref()?.external_id().map(str::to_owned));
        let derived = external_id.clone().map(SessionName::External);
        let name = frame.session_id.or(derived).ok_or("session_id: missing")?;
        let place = self.session_index(name.id_for_key());
        let session = &mut self.recording.sessions[place];
        session.user_id = session.user_id.take().or(frame.user_id);
        session.external_id = session.external_id.take().or(external_id);
        if let Some(metadata) = start.metadata.filter(|metadata| !metadata.members().is_empty()) {
            let update = format!(r#"{{"type":"session.update","metadata":{}}}"#, metadata.as_str());
            self.add_frame(&FrameHead::of_update(name), &update, 0, None);
        }
        Ok(())
    }

    /// Adds a message. If it has no id, it gets the id that `talktrack import` would give it, so that a recording can be
    /// replayed or imported again without storing anything twice.
    fn add_message(&mut self, head: &FrameHead<'_>, text: &str, line: u64) {
        self.recording.messages += 1;
        let session_id = head.session_id.id_for_key();
        let place = self.session_index(session_id);
        self.messages[place] += 1;
        let is_named = head.id.is_some() || head.external_id.is_some();
        let id = (!is_named).then(|| imported_message_id(session_id, self.messages[place]));
        self.add_frame(head, text, line, id);
    }

    /// Adds a frame, with an id if it has none of its own.
    fn add_frame(&mut self, head: &FrameHead<'_>, text: &str, line: u64, id: Option<MessageId>) {
        let is_message = head.frame_type == "message";
        let place = self.session_index(head.session_id.id_for_key());
        let session = &mut self.recording.sessions[place];
        let texts = &mut self.texts[place];
        let replaces_id = id.is_some() && text.contains(r#""id""#);
        let text =
            if head.reference.is_some() || replaces_id { without(text, replaces_id) } else { text.into() };
        texts.push_str(&format!(r#"{{"ref":{},"#, session.frames.len()));
        texts.extend(id.map(|id| format!(r#""id":"{id}","#)));
        texts.push_str(text.get(1..).unwrap_or_default());
        session.frames.push(FrameSpan { end: texts.len(), line, is_message });
    }

    fn session_index(&mut self, session_id: SessionId) -> usize {
        *self.places.entry(session_id).or_insert_with(|| {
            self.texts.push(String::new());
            self.messages.push(0);
            self.recording.sessions.push(RecordedSession::new(session_id));
            self.recording.sessions.len() - 1
        })
    }

    fn finish(self) -> ReplayInput {
        let mut recording = self.recording;
        for (session, texts) in recording.sessions.iter_mut().zip(self.texts) {
            session.texts = texts.into();
        }
        recording
    }
}

/// Returns the object without its `ref`, which another program set, and if `id` is true without its `id`, which is null.
fn without(text: &str, id: bool) -> Cow<'_, str> {
    let rewritten = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(text).and_then(|mut fields| {
        fields.remove("ref");
        if id {
            fields.remove("id");
        }
        serde_json::to_string(&fields)
    });
    // The text was parsed as an object before, so this cannot fail.
    rewritten.map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const A: &str = "00000000-0000-0000-0000-00000000000a";
    const B: &str = "00000000-0000-0000-0000-00000000000b";

    fn load(lines: &[String]) -> ReplayInput {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        lines.iter().for_each(|line| writeln!(file, "{line}").unwrap());
        ReplayInput::load(file.path()).unwrap()
    }

    fn texts(session: &RecordedSession) -> Vec<String> {
        (0..session.len()).map(|frame| session.text(frame).to_owned()).collect()
    }

    #[test]
    fn lines_are_grouped_by_session_and_sent_nearly_as_they_are() {
        let recording = load(&[
            format!(r#"{{"type":"session.start","session_id":"{A}","user_id":"{B}","metadata":{{"a":1}}}}"#),
            format!(r#"{{ "type":"message","session_id":"{A}","role":"user","content":"1"}}"#),
            format!(r#"{{"type":"message","session_id":"{B}","role":"user","content":"2"}}"#),
            format!(r#"{{"type":"session.end","session_id":"{A}","reason":"completed"}}"#),
            format!(r#"{{"type":"message","session_id":"{A}","content":"3","ref":"mine"}}"#),
        ]);
        assert_eq!((recording.messages, recording.sessions.len(), recording.bad.len()), (3, 2, 0));
        let first = &recording.sessions[0];
        assert_eq!(
            (first.session_id.to_string().as_str(), first.user_id.clone().unwrap().to_string().as_str()),
            (A, B)
        );
        let id = |place| imported_message_id(A.parse().unwrap(), place);
        assert_eq!(
            texts(first),
            [
                r#"{"ref":0,"type":"session.update","metadata":{"a":1}}"#.to_owned(),
                format!(
                    r#"{{"ref":1,"id":"{}", "type":"message","session_id":"{A}","role":"user","content":"1"}}"#,
                    id(1)
                ),
                format!(r#"{{"ref":2,"id":"{}","content":"3","session_id":"{A}","type":"message"}}"#, id(2)),
            ]
        );
        assert_eq!(
            (first.is_message(0), first.is_message(1), first.line(1), first.line(2)),
            (false, true, 2, 5)
        );
        assert_eq!(
            first.end.as_deref(),
            Some(format!(r#"{{"type":"session.end","session_id":"{A}","reason":"completed"}}"#).as_str())
        );
        assert_eq!(texts(&recording.sessions[1]).len(), 1);
    }

    #[test]
    fn a_message_keeps_its_own_id_and_gets_one_if_it_has_none() {
        let line = |field: &str| format!(r#"{{{field}"type":"message","session_id":"{A}"}}"#);
        let fields = [r#""id":"x","#, r#""external_id":"y","#, r#""id":null,"external_id":null,"#];
        let recording = load(&fields.map(line));
        let texts = texts(&recording.sessions[0]);
        assert_eq!(texts[0], format!(r#"{{"ref":0,"id":"x","type":"message","session_id":"{A}"}}"#));
        assert_eq!(texts[1], format!(r#"{{"ref":1,"external_id":"y","type":"message","session_id":"{A}"}}"#));
        let id = imported_message_id(A.parse().unwrap(), 3);
        let rest = format!(r#""external_id":null,"session_id":"{A}","type":"message""#);
        assert_eq!(texts[2], format!(r#"{{"ref":2,"id":"{id}",{rest}}}"#));
    }

    #[test]
    fn a_line_that_belongs_nowhere_is_named_with_its_reason() {
        let recording = load(&[
            r#"{"type":"message","role":"user","content":"1"}"#.into(),
            "nonsense".into(),
            format!(r#"{{"type":"message","session_id":"{A}x"}}"#),
            r#"{"type":"session.start"}"#.into(),
        ]);
        let problems: Vec<_> = recording
            .bad
            .iter()
            .map(|bad| bad.split_once(".tmp").map_or(bad.as_str(), |(_, rest)| rest))
            .collect();
        assert_eq!(problems.len(), 4, "{problems:?}");
        for (problem, expected) in problems.iter().zip([
            ":1: session_id: missing",
            ":2: not valid JSON",
            ":3: session_id: must be a UUID or external:NAME",
            ":4: session_id: missing",
        ]) {
            assert!(problem.contains(expected), "{problem} lacks {expected}");
        }
    }
}
