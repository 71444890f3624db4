//! What the looking commands share: opening what is stored, and finding a session by the beginning of its id.

use talktrack::store::sqlite::SqliteReader;
use talktrack::store::{Read, SessionRow};
use uuid::Uuid;

use crate::config::Place;
use crate::error::Failure;
use crate::store::{self, Stored};
use crate::table;

/// Fewer characters than these name too many sessions.
const SHORTEST_PREFIX: usize = 8;

/// More sessions than this with the same beginning need not be told apart.
const MOST_NAMED: usize = 100;

/// So much of an id tells sessions apart even where they were made in the same moment (a UUIDv7 begins with its time).
pub(super) const SHORT_ID: usize = 18;

/// Said where there is nothing to show.
pub(super) const HOW_TO_BEGIN: &str = "no conversations yet; make the first one with `talktrack serve` and, in another terminal, `talktrack client`";

/// Opens the store to look at it.
pub(super) fn open(place: &Place) -> Result<Stored, Failure> {
    Stored::open(&place.load()?)
}

/// Opens the file on this machine, whatever the store is: it keeps the journal, the books and the dead letters.
pub(super) fn open_file(place: &Place) -> Result<SqliteReader, Failure> {
    store::open_file(&place.load()?.local_file())
}

/// The session whose id is `id`, or begins with it.
pub(super) async fn find_session(reader: &dyn Read, id: &str) -> Result<SessionRow, Failure> {
    if let Ok(session_id) = Uuid::try_parse(id) {
        let session = reader.session(session_id).await?;
        return session.ok_or_else(|| Failure::new(format_args!("there is no session {session_id}")));
    }
    let prefix = id.to_ascii_lowercase();
    let plausible = prefix.chars().all(|character| character.is_ascii_hexdigit() || character == '-');
    if prefix.len() < SHORTEST_PREFIX || !plausible {
        let id = table::safe_line(id);
        return Err(Failure::usage(format_args!(
            "ID: must be a session's id, or at least its first 8 characters, not {id:?}"
        )));
    }
    let mut found = reader.sessions_by_prefix(&prefix, MOST_NAMED).await?;
    match (found.pop(), found.len()) {
        (None, _) => Err(Failure::new(format_args!("there is no session whose id begins with {prefix}"))),
        (Some(session), 0) => Ok(session),
        (Some(one), others) => Err(Failure::new(format_args!(
            "{} sessions begin with {prefix}, {} among them; give more of the id",
            others + 1,
            one.session_id
        ))),
    }
}
