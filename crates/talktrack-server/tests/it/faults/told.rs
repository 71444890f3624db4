//! What the server told others, read off its sockets: the oracle whose word on *when* is exact.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use uuid::Uuid;

use super::trace::Event;

/// How an `ack` frame begins and ends, as the server writes it.
const ACK: (&[u8], &[u8]) = (b"{\"type\":\"ack\"", b"]}");
/// How PostgreSQL says that a transaction holds.
const COMMITTED: &[u8] = b"C\0\0\0\x0bCOMMIT\0";

/// Something that was told, at this place of the trace: from there on it must be true.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) at: usize,
    pub(crate) id: Uuid,
    pub(crate) revision: i64,
}

/// Every acknowledgement, in the order in which they were sent. Their marks are those of [`super::saying::Saying`].
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
    let begin = find(sent, ACK.0)?;
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

/// When PostgreSQL first said that these messages are stored: the commit of a transaction in which their ids were sent.
pub(crate) fn stored(events: &[Event], ids: &HashSet<Uuid>) -> HashMap<Uuid, usize> {
    let (mut stored, mut under_way) = (HashMap::new(), BTreeMap::<_, Vec<Uuid>>::new());
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Sent { socket, bytes } if !bytes.starts_with(b"HTTP/") => {
                let windows = bytes.windows(16).map(|window| Uuid::from_slice(window).unwrap());
                under_way.entry(socket).or_default().extend(windows.filter(|id| ids.contains(id)));
            }
            Event::Heard { socket, bytes } if find(bytes, COMMITTED).is_some() => {
                for id in under_way.remove(socket).unwrap_or_default() {
                    stored.entry(id).or_insert(at);
                }
            }
            _ => {}
        }
    }
    stored
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
