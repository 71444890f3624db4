//! A trace as strace writes it, read as what happened to files and sockets, in the order in which it happened.
//!
//! What is asked of the system counts from the moment of the call, since it may be done from then on: a write may reach the
//! disk, and bytes may reach the peer, before the call returns. A sync holds from its return. strace writes calls down in
//! the order in which it let them go on, so that what one thread does because of another comes after it in the trace.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::syntax::Arguments;

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The disk was asked for something.
    Disk(Op),
    /// Bytes went to a peer.
    Sent { socket: String, bytes: Vec<u8> },
    /// Bytes came from a peer.
    Heard { socket: String, bytes: Vec<u8> },
}

/// What a disk is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// A file or directory is opened, and made where it is missing.
    Create(PathBuf),
    Remove(PathBuf),
    Write {
        path: PathBuf,
        at: usize,
        bytes: Vec<u8>,
    },
    Resize {
        path: PathBuf,
        to: usize,
    },
    /// A file's content, or a directory's names. Not `held` where the system said that it failed.
    Sync {
        path: PathBuf,
        held: bool,
    },
}

/// A system call that has returned.
struct Call<'a> {
    name: &'a str,
    arguments: Cow<'a, str>,
    /// The lines in which it began and returned.
    began: usize,
    returned: usize,
    result: i64,
}

/// What happened to the files in this directory, and on all sockets.
pub(crate) fn read(trace: &Path, data_dir: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(trace).unwrap();
    let mut events = Vec::new();
    for call in calls(&text) {
        if let Some(event) = event(&call, data_dir) {
            let is_known_later = matches!(event, Event::Disk(Op::Sync { .. }) | Event::Heard { .. });
            events.push((if is_known_later { call.returned } else { call.began }, event));
        }
    }
    events.sort_by_key(|(line, _)| *line);
    events.into_iter().map(|(_, event)| event).collect()
}

/// Every call in the trace that has returned. One that a kill cut short may have done its work: those are few, and what they
/// would have told nobody was told.
fn calls(text: &str) -> Vec<Call<'_>> {
    let (mut calls, mut open) = (Vec::new(), HashMap::new());
    for (line, words) in text.lines().enumerate() {
        let (thread, words) = words.split_once(' ').unwrap();
        let words = words.trim_start();
        if words.starts_with("+++") || words.starts_with("---") {
            continue;
        }
        if let Some(begun) = words.strip_suffix(" <unfinished ...>") {
            open.insert(thread, (line, begun));
        } else if let Some(resumed) = words.strip_prefix("<... ") {
            let (_, rest) = resumed.split_once(" resumed>").unwrap();
            let Some((began, begun)) = open.remove(thread) else { panic!("nothing to resume: {words}") };
            calls.extend(call(Cow::Owned(format!("{begun}{rest}")), began, line, begun));
        } else {
            calls.extend(call(Cow::Borrowed(words), line, line, words));
        }
    }
    calls
}

/// `None` where it never returned.
fn call<'a>(words: Cow<'a, str>, began: usize, returned: usize, first_words: &'a str) -> Option<Call<'a>> {
    let name = &first_words[..first_words.find('(')?];
    let (before, result) = words.rsplit_once(" = ").unwrap_or_else(|| panic!("what is this? {words}"));
    let digits = result.split(|byte: char| byte != '-' && !byte.is_ascii_digit()).next()?;
    let result = digits.parse().unwrap_or(0);
    let range = name.len() + 1..before.trim_end().len() - 1;
    let arguments = match &words {
        Cow::Borrowed(words) => Cow::Borrowed(&words[range]),
        Cow::Owned(words) => Cow::Owned(words[range].to_owned()),
    };
    // `= ?`: the process was gone before it returned.
    (!digits.is_empty()).then_some(Call { name, arguments, began, returned, result })
}

fn event(call: &Call<'_>, data_dir: &Path) -> Option<Event> {
    let mut arguments = Arguments::of(&call.arguments);
    match call.name {
        "sendto" | "sendmsg" | "write" | "writev" | "recvfrom" => exchange(call, &mut arguments, data_dir),
        "fdatasync" | "fsync" => {
            let path = modelled(arguments.file()?, data_dir)?;
            Some(Event::Disk(Op::Sync { path, held: call.result == 0 }))
        }
        _ if call.result < 0 => None,
        "openat" | "open" | "creat" => opened(&mut arguments, data_dir),
        "mkdir" => Some(Event::Disk(Op::Create(modelled(&arguments.text(), data_dir)?))),
        "unlink" => Some(Event::Disk(Op::Remove(modelled(&arguments.text(), data_dir)?))),
        "pwrite64" => {
            let path = modelled(arguments.file()?, data_dir)?;
            let (mut bytes, _, at) = (arguments.bytes(), arguments.number(), arguments.number());
            bytes.truncate(count(call));
            Some(Event::Disk(Op::Write { path, at, bytes }))
        }
        "ftruncate" => {
            let path = modelled(arguments.file()?, data_dir)?;
            Some(Event::Disk(Op::Resize { path, to: arguments.number() }))
        }
        "close" => None,
        _ => {
            let names = call.arguments.contains(data_dir.join("talktrack.db").to_str().unwrap());
            let is_known = call.name == "mmap" && call.arguments.contains("talktrack.db-shm>");
            assert!(!names || is_known, "the model of a disk knows no {}: {}", call.name, call.arguments);
            None
        }
    }
}

fn opened(arguments: &mut Arguments<'_>, data_dir: &Path) -> Option<Event> {
    arguments.file();
    let path = modelled(&arguments.text(), data_dir)?;
    let flags = arguments.word();
    assert!(!flags.contains("O_TRUNC"), "the model of a disk knows no {flags}");
    flags.contains("O_CREAT").then_some(Event::Disk(Op::Create(path)))
}

/// What went over a socket.
fn exchange(call: &Call<'_>, arguments: &mut Arguments<'_>, data_dir: &Path) -> Option<Event> {
    let file = arguments.file()?;
    let Some(socket) = file.strip_prefix("socket:") else {
        let is_modelled = modelled(file, data_dir).is_some();
        assert!(!is_modelled, "the model of a disk knows no {} on {file}", call.name);
        return None;
    };
    let mut bytes = if call.name == "writev" { arguments.vectors() } else { arguments.bytes() };
    bytes.truncate(count(call));
    let socket = socket.to_owned();
    Some(if call.name == "recvfrom" { Event::Heard { socket, bytes } } else { Event::Sent { socket, bytes } })
}

/// How many bytes were taken or given.
fn count(call: &Call<'_>) -> usize {
    usize::try_from(call.result).unwrap_or(0)
}

/// The path, where a power cut matters to it: the database, its logs, the directory they are in and the one above.
fn modelled(path: &str, data_dir: &Path) -> Option<PathBuf> {
    let path = PathBuf::from(path);
    let is_directory = path == data_dir || Some(&*path) == data_dir.parent();
    let is_file = ["talktrack.db", "talktrack.db-wal", "talktrack.db-journal"]
        .iter()
        .any(|name| path == data_dir.join(name));
    (is_directory || is_file).then_some(path)
}
