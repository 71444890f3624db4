//! What the server told others, read off its sockets: the oracle whose word on *when* is exact.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use uuid::Uuid;

use super::saying::Saying;
use super::trace::Event;

/// How an `ack` frame begins and ends, as the server writes it.
const ACK: (&[u8], &[u8]) = (b"{\"type\":\"ack\"", b"]}");
/// How PostgreSQL says that it waits for a statement, and is in no transaction.
const READY: &[u8] = b"Z\0\0\0\x05I";
/// How it says that a transaction or a statement does not hold.
const FAILED: [&[u8]; 2] = [b"C\0\0\0\x0dROLLBACK\0", b"SERROR\0"];
/// What stands in every message between its mark and its session.
const OF: &[u8] = b" of ";

/// Something that was told, at this place of the trace: from there on it must be true.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) at: usize,
    pub(crate) id: Uuid,
    pub(crate) revision: i64,
}

/// Every acknowledgement, in the order in which they were sent. Marks are those of [`Saying`].
pub(crate) fn acknowledged(events: &[Event]) -> Vec<Told> {
    let (mut told, mut rests) = (Vec::new(), HashMap::<_, Vec<u8>>::new());
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

/// Takes the next whole `ack` frame out of what was sent, with everything before it.
fn take_ack(sent: &mut Vec<u8>) -> Option<Value> {
    let Some(begin) = find(sent, ACK.0) else {
        // Nothing of an ack but perhaps its first bytes.
        sent.drain(..sent.len().saturating_sub(ACK.0.len()));
        return None;
    };
    let end = begin + find(&sent[begin..], ACK.1)? + ACK.1.len();
    let frame = serde_json::from_slice(&sent[begin..end]).unwrap();
    sent.drain(..end);
    Some(frame)
}

/// `None` for an update of a session.
fn acknowledgement(at: usize, ack: &Value) -> Option<Told> {
    let (_, revision) = ack["ref"].as_str()?.split_once('.')?;
    Some(Told { at, id: ack["id"].as_str()?.parse().unwrap(), revision: revision.parse().unwrap() })
}

/// When PostgreSQL first said that these messages are stored: at the end of a transaction that held, after they were sent in
/// it, or when it showed them in a row. A connection has one transaction under way at a time.
pub(crate) fn stored(events: &[Event]) -> BTreeMap<Saying, usize> {
    let (mut stored, mut connections) = (BTreeMap::new(), HashMap::<_, (Vec<u8>, Vec<u8>)>::new());
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

/// The messages that are among these bytes as PostgreSQL is given them and shows them: the length, then the words.
fn sayings(bytes: &[u8]) -> Vec<Saying> {
    let (mut sayings, mut from) = (Vec::new(), 0);
    while let Some(at) = find(&bytes[from..], OF).map(|at| from + at) {
        from = at + OF.len();
        let session = bytes.get(from..from + 36).and_then(|id| Uuid::try_parse_ascii(id).ok());
        let Some(session) = session else { continue };
        let is_mark = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
        let longest = bytes[..at].iter().rev().take_while(is_mark).count();
        // The last byte of the length may look like a digit of the mark.
        sayings.extend((at - longest..at).find_map(|begin| saying(bytes, begin, at, session)));
    }
    sayings
}

/// The message whose words begin here, where they do, with its mark up to `end`.
fn saying(bytes: &[u8], begin: usize, end: usize, session: Uuid) -> Option<Saying> {
    let saying = Saying::marked(session, str::from_utf8(&bytes[begin..end]).ok()?)?;
    let words = saying.row(Uuid::nil()).content;
    let length = u32::try_from(words.len()).unwrap().to_be_bytes();
    (bytes[..begin].ends_with(&length) && bytes[begin..].starts_with(words.as_bytes())).then_some(saying)
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
