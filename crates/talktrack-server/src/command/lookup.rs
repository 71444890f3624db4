//! Shared by the commands that only read: opening the store, and finding a session by the beginning of its id.

use talktrack::store::sqlite::SqliteReader;
use talktrack::store::{Read, SessionRow};

use crate::config::DataLocation;
use crate::error::Failure;
use crate::store::{self, StoreReader};
use crate::terminal;

/// The minimum length of a prefix. A shorter one matches too many sessions.
const SHORTEST_PREFIX: usize = 8;

/// The maximum number of matching sessions that are counted.
const MOST_NAMED: usize = 100;

/// How many characters of an id distinguish sessions, even if they were created at the same moment (a UUIDv7 begins
/// with its time).
pub(super) const SHORT_ID: usize = 18;

/// Printed if there are no conversations.
pub(super) const HOW_TO_BEGIN: &str = "no conversations yet; create the first one with `talktrack serve` and, in another terminal, `talktrack client`";

/// Opens the store for reading.
pub(super) fn open_store(location: &DataLocation) -> Result<StoreReader, Failure> {
    StoreReader::open(&location.load()?)
}

/// Opens the local file for reading. It contains the journal, the books and the dead letters, for a local and for a
/// remote store.
pub(super) fn open_file(location: &DataLocation) -> Result<SqliteReader, Failure> {
    store::open_file(&location.load()?.local_file())
}

/// Finds the session with this id or prefix.
///
/// # Errors
/// Fails if no session or more than one matches, or if the prefix is too short.
pub(super) async fn find_session(reader: &dyn Read, id: &str) -> Result<SessionRow, Failure> {
    if let Ok(session_id) = id.parse() {
        let session = reader.session(session_id).await?;
        return session.ok_or_else(|| Failure::new(format_args!("there is no session {session_id}")));
    }
    let prefix = id.to_ascii_lowercase();
    let plausible = prefix.chars().all(|character| character.is_ascii_hexdigit() || character == '-');
    if prefix.len() < SHORTEST_PREFIX || !plausible {
        let id = terminal::escape_line(id);
        return Err(Failure::usage(format_args!(
            "ID: must be a session's id, or at least its first 8 characters, not {id:?}"
        )));
    }
    let mut found = reader.sessions_by_prefix(&prefix, MOST_NAMED).await?;
    match (found.pop(), found.len()) {
        (None, _) => Err(Failure::new(format_args!("there is no session whose id begins with {prefix}"))),
        (Some(session), 0) => Ok(session),
        (Some(one), others) => Err(Failure::new(format_args!(
            "{} session ids begin with {prefix}, for example {}; give more characters of the id",
            others + 1,
            one.session_id
        ))),
    }
}
