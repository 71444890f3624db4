//! Reads from the traced sockets what the server told its peers. Unlike the clients' oracle, it knows the exact
//! moments.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use uuid::Uuid;

use super::saying::Saying;
use super::trace::Event;

/// The start and the end of an `ack` frame as the server writes it.
const ACK: (&[u8], &[u8]) = (b"{\"type\":\"ack\"", b"]}");
/// PostgreSQL's message that it is ready for a statement and in no transaction.
const READY: &[u8] = b"Z\0\0\0\x05I";
/// PostgreSQL's messages for a failed transaction or statement.
const FAILED: [&[u8]; 2] = [b"C\0\0\0\x0dROLLBACK\0", b"SERROR\0"];
/// The text between the `ref` and the session in every message.
const OF: &[u8] = b" of ";

/// An acknowledgement at this place of the trace: from there on, the message must be durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) at: usize,
    pub(crate) id: Uuid,
    pub(crate) revision: i64,
}

/// Returns every acknowledgement in the order of sending. Their `ref`s are those of [`Saying`].
pub(crate) fn acknowledged(events: &[Event]) -> Vec<Told> {
    let mut told = Vec::new();
    let mut rests = HashMap::<_, Vec<u8>>::new();
    for (at, event) in events.iter().enumerate() {
        let Event::Sent { socket, bytes } = event else { continue };
        let rest = rests.entry(socket).or_default();
        rest.extend(bytes);
        while let Some(frame) = take_ack(rest) {
            told.extend(frame["acks"].as_array().unwrap().iter().filter_map(|ack| acknowledgement(at, ack)));
        }
    }
    told
}

/// Removes the next complete `ack` frame and everything before it from the bytes.
fn take_ack(sent: &mut Vec<u8>) -> Option<Value> {
    let Some(begin) = find(sent, ACK.0) else {
        // Contains at most the first bytes of an ack.
        sent.drain(..sent.len().saturating_sub(ACK.0.len()));
        return None;
    };
    let end = begin + find(&sent[begin..], ACK.1)? + ACK.1.len();
    let frame = serde_json::from_slice(&sent[begin..end]).unwrap();
    sent.drain(..end);
    Some(frame)
}

/// Returns the acknowledgement of a message; `None` for an update of a session.
fn acknowledgement(at: usize, ack: &Value) -> Option<Told> {
    let (_, revision) = ack["ref"].as_str()?.split_once('.')?;
    Some(Told { at, id: ack["id"].as_str()?.parse().unwrap(), revision: revision.parse().unwrap() })
}

/// Returns when PostgreSQL first reported each message as stored: at the end of a successful transaction in which it
/// was sent, or when a row showed it. A connection has one transaction in flight at a time.
pub(crate) fn stored(events: &[Event]) -> BTreeMap<Saying, usize> {
    let mut stored = BTreeMap::new();
    let mut connections = HashMap::<_, (Vec<u8>, Vec<u8>)>::new();
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Sent { socket, bytes } => connections.entry(socket).or_default().0.extend(bytes),
            Event::Heard { socket, bytes } => {
                let (sent, heard) = connections.entry(socket).or_default();
                heard.extend(bytes);
                if heard.ends_with(READY) {
                    let holds = FAILED.iter().all(|failed| find(heard, failed).is_none());
                    let sent = if holds { sayings(sent) } else { Vec::new() };
                    sent.into_iter()
                        .chain(sayings(heard))
                        .for_each(|saying| _ = stored.entry(saying).or_insert(at));
                    connections.remove(socket);
                }
            }
            Event::Disk(_) => {}
        }
    }
    stored
}

/// Returns the messages in these bytes of the PostgreSQL protocol, which puts the length before the text.
fn sayings(bytes: &[u8]) -> Vec<Saying> {
    let mut sayings = Vec::new();
    let mut from = 0;
    while let Some(at) = find(&bytes[from..], OF).map(|at| from + at) {
        from = at + OF.len();
        let session = bytes.get(from..from + 36).and_then(|id| Uuid::try_parse_ascii(id).ok());
        let Some(session) = session else { continue };
        let is_mark = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
        let longest = bytes[..at].iter().rev().take_while(is_mark).count();
        // The last byte of the length may look like a digit of the `ref`.
        sayings.extend((at - longest..at).find_map(|begin| saying(bytes, begin, at, session)));
    }
    sayings
}

/// Returns the message whose text begins here; its `ref` ends at `end`.
fn saying(bytes: &[u8], begin: usize, end: usize, session: Uuid) -> Option<Saying> {
    let saying = Saying::marked(session, str::from_utf8(&bytes[begin..end]).ok()?)?;
    let words = saying.row(Uuid::nil()).content;
    let length = u32::try_from(words.len()).unwrap().to_be_bytes();
    (bytes[..begin].ends_with(&length) && bytes[begin..].starts_with(words.as_bytes())).then_some(saying)
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
