//! Reads an strace log as a sequence of operations on files and sockets.
//!
//! A request to the system counts from the start of its call, because it may take effect from then on: a write may
//! reach the disk, and bytes may reach the peer, before the call returns. A sync counts from its return. strace logs
//! calls in the order in which it lets them continue, so an effect on another thread always comes later in the trace
//! than its cause.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::syntax::Arguments;

/// An operation of the traced process.
#[derive(Debug)]
pub(crate) enum Event {
    /// A request to the disk.
    Disk(Op),
    /// Bytes were sent to a peer.
    Sent { socket: String, bytes: Vec<u8> },
    /// Bytes were received from a peer.
    Heard { socket: String, bytes: Vec<u8> },
}

/// A request to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// Opens a file or directory and creates it if it is missing.
    Create(PathBuf),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
    Write {
        path: PathBuf,
        at: usize,
        bytes: Vec<u8>,
    },
    Resize {
        path: PathBuf,
        to: usize,
    },
    /// A sync of a file's content or of a directory's names. `held` is false if the call failed.
    Sync {
        path: PathBuf,
        held: bool,
    },
}

/// A system call.
struct Call<'a> {
    words: Cow<'a, str>,
    /// The positions of the parentheses around the arguments.
    opening: usize,
    closing: usize,
    /// The lines in which the call began and returned.
    began: usize,
    returned: usize,
    /// `None` if a kill came before the call returned. The call may have taken effect.
    result: Option<i64>,
}

/// Reads the operations on the files in this directory and on all sockets.
pub(crate) fn read(trace: &Path, data_dir: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(trace).unwrap();
    let mut events = Vec::new();
    let mut files = Files { dir: data_dir, positions: HashMap::new() };
    for call in calls(&text) {
        if let Some(event) = files.event(&call) {
            let is_known_later = matches!(event, Event::Disk(Op::Sync { .. }) | Event::Heard { .. });
            events.push((if is_known_later { call.returned } else { call.began }, event));
        }
    }
    events.sort_by_key(|(line, _)| *line);
    events.into_iter().map(|(_, event)| event).collect()
}

fn calls(text: &str) -> Vec<Call<'_>> {
    let mut calls = Vec::new();
    let mut open = HashMap::new();
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
            let (began, begun) = open.remove(thread).unwrap_or_else(|| panic!("what goes on? {words}"));
            calls.push(Call::of(Cow::Owned(format!("{begun}{rest}")), began, line));
        } else {
            calls.push(Call::of(Cow::Borrowed(words), line, line));
        }
    }
    calls
        .extend(open.into_values().map(|(line, begun)| Call::of(format!("{begun}) = ?").into(), line, line)));
    calls
}

impl<'a> Call<'a> {
    /// Parses `name(arguments) = result` and the explanation after it.
    fn of(words: Cow<'a, str>, began: usize, returned: usize) -> Self {
        let parts = words
            .rsplit_once(" = ")
            .and_then(|(call, result)| Some((call.find('(')?, call.trim_end(), result)));
        let (opening, call, result) = parts.unwrap_or_else(|| panic!("what is this? {words}"));
        let digits = result.split(|byte: char| byte != '-' && !byte.is_ascii_digit()).next();
        let result = digits.and_then(|digits| digits.parse().ok());
        let closing = call.len() - 1;
        Self { words, opening, closing, began, returned, result }
    }

    fn name(&self) -> &str {
        &self.words[..self.opening]
    }

    fn arguments(&self) -> &str {
        &self.words[self.opening + 1..self.closing]
    }
}

/// The files that a power cut can damage: the database, its logs, and the file that a new database is built in.
const FILES: [&str; 4] = ["talktrack.db", "talktrack.db-wal", "talktrack.db-journal", "talktrack.db-new"];

/// The modelled files in this directory.
struct Files<'a> {
    dir: &'a Path,
    /// The position of the next write without an explicit offset.
    positions: HashMap<PathBuf, usize>,
}

impl Files<'_> {
    fn event(&mut self, call: &Call<'_>) -> Option<Event> {
        let mut arguments = Arguments::of(call.arguments());
        match call.name() {
            "sendto" | "sendmsg" | "write" | "writev" | "recvfrom" => self.exchange(call, &mut arguments),
            "fdatasync" | "fsync" => {
                let path = self.modelled(arguments.file()?)?;
                call.result.map(|result| Event::Disk(Op::Sync { path, held: result == 0 }))
            }
            _ if call.result.is_some_and(i64::is_negative) => None,
            "openat" => self.opened(&mut arguments),
            "mkdir" | "mkdirat" => Some(Event::Disk(Op::Create(self.modelled(&arguments.path())?))),
            "unlink" | "unlinkat" => Some(Event::Disk(Op::Remove(self.modelled(&arguments.path())?))),
            "rename" | "renameat" | "renameat2" => {
                let from = arguments.path();
                let to = arguments.path();
                Some(Event::Disk(Op::Rename(self.modelled(&from)?, self.modelled(&to)?)))
            }
            "pwrite64" => {
                let path = self.modelled(arguments.file()?)?;
                let mut bytes = arguments.bytes();
                let _ = arguments.number();
                let at = arguments.number();
                bytes.truncate(count(call));
                Some(Event::Disk(Op::Write { path, at, bytes }))
            }
            "ftruncate" => {
                let path = self.modelled(arguments.file()?)?;
                Some(Event::Disk(Op::Resize { path, to: arguments.number() }))
            }
            "lseek" => {
                let path = self.modelled(arguments.file()?)?;
                self.positions.insert(path, count(call));
                None
            }
            "close" => None,
            _ => {
                let ends = |name: &str| [format!("/{name}>"), format!("/{name}\"")];
                let is_named = FILES.into_iter().flat_map(ends).any(|name| call.arguments().contains(&name));
                assert!(!is_named, "the model of a disk knows no {}: {}", call.name(), call.arguments());
                None
            }
        }
    }

    fn opened(&self, arguments: &mut Arguments<'_>) -> Option<Event> {
        let path = self.modelled(&arguments.path())?;
        let flags = arguments.word();
        assert!(!flags.contains("O_TRUNC"), "the model of a disk knows no {flags}");
        flags.contains("O_CREAT").then_some(Event::Disk(Op::Create(path)))
    }

    /// Handles bytes on a socket, or bytes written at the current position of a file.
    fn exchange(&mut self, call: &Call<'_>, arguments: &mut Arguments<'_>) -> Option<Event> {
        let file = arguments.file()?;
        let path = self.modelled(file);
        let socket = file.strip_prefix("socket:").map(str::to_owned);
        if path.is_none() && socket.is_none() {
            return None;
        }
        let mut bytes = if call.name() == "writev" { arguments.vectors() } else { arguments.bytes() };
        bytes.truncate(count(call));
        if let Some(socket) = socket {
            let was_heard = call.name() == "recvfrom";
            return Some(if was_heard {
                Event::Heard { socket, bytes }
            } else {
                Event::Sent { socket, bytes }
            });
        }
        let path = path?;
        let position = self.positions.get_mut(&path).expect("a write that says where it goes");
        let at = *position;
        *position += bytes.len();
        Some(Event::Disk(Op::Write { path, at, bytes }))
    }

    /// Returns the path if the model includes it: the database, its logs, their directory and its parent.
    fn modelled(&self, path: &str) -> Option<PathBuf> {
        let path = PathBuf::from(path);
        let is_directory = path == self.dir || Some(&*path) == self.dir.parent();
        let name = path.file_name()?.to_str()?;
        let is_file = path.parent() == Some(self.dir) && FILES.contains(&name);
        (is_directory || is_file).then_some(path)
    }
}

/// Returns the result of a call as a number of bytes or a file position; 0 if it failed.
fn count(call: &Call<'_>) -> usize {
    call.result.map_or(usize::MAX, |result| usize::try_from(result).unwrap_or(0))
}
