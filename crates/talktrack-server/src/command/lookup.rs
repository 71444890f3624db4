//! Shared by the commands that only read: opening the local file, and finding a session by the beginning of its id.

use talktrack::store::SessionRow;
use talktrack::store::sqlite::SqliteReader;

use super::source::Source;
use crate::api::query::IdPrefix;
use crate::config::DataLocation;
use crate::error::Failure;
use crate::store;
use crate::terminal;

/// The maximum number of matching sessions that are counted.
const MOST_NAMED: usize = 100;

/// How many characters of an id distinguish sessions, even if they were created at the same moment (a UUIDv7 begins
/// with its time).
pub(super) const SHORT_ID: usize = 18;

/// Printed if there are no conversations.
pub(super) const HOW_TO_BEGIN: &str = "no conversations yet; create the first one with `talktrack serve` and, in another terminal, `talktrack client`";

/// Opens the local file for reading. It contains the journal, the books and the dead letters, for a local and for a
/// remote store.
pub(super) fn open_file(location: &DataLocation) -> Result<SqliteReader, Failure> {
    store::open_file(&location.load()?.local_file())
}

/// Finds the session with this id or prefix.
///
/// # Errors
/// Fails if no session or more than one matches, or if the prefix is too short.
pub(super) async fn find_session(source: &Source, id: &str) -> Result<SessionRow, Failure> {
    if let Ok(session_id) = id.parse() {
        let session = source.session(session_id).await?;
        return session.ok_or_else(|| Failure::new(format_args!("there is no session {session_id}")));
    }
    let IdPrefix(prefix) = id
        .parse()
        .map_err(|problem: String| Failure::usage(format_args!("ID: {}", terminal::escape_line(&problem))))?;
    let mut found = source.sessions_by_prefix(&prefix, MOST_NAMED).await?;
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
