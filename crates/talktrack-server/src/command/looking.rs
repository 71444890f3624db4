//! What the looking commands share: opening what is stored, and finding a session by the beginning of its id.

use std::path::Path;

use talktrack::store::sqlite::SqliteReader;
use talktrack::store::{Read as _, SessionRow};
use uuid::Uuid;

use crate::config::Place;
use crate::error::Failure;
use crate::table;

/// Fewer characters than these name too many sessions.
const SHORTEST_PREFIX: usize = 8;

/// More sessions than this with the same beginning need not be told apart.
const MOST_NAMED: usize = 100;

/// Rows asked for at once: enough to be quick, few enough to keep memory flat.
pub(super) const PAGE: usize = 500;

/// Said where there is nothing to show.
pub(super) const HOW_TO_BEGIN: &str = "no conversations yet; make the first one with `talktrack serve` and, in another terminal, `talktrack client`";

/// Opens the store to look at it.
pub(super) fn open(place: &Place) -> Result<SqliteReader, Failure> {
    let config = place.load()?;
    let path = config.database_path()?;
    if !path.is_file() {
        return Err(nothing_there(&path));
    }
    SqliteReader::open(&path).map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))
}

fn nothing_there(path: &Path) -> Failure {
    Failure::new(format_args!(
        "{} does not exist; start the server with `talktrack serve`, or name another place with --data-dir",
        path.display()
    ))
}

/// The session whose id is `id`, or begins with it.
pub(super) async fn find_session(reader: &SqliteReader, id: &str) -> Result<SessionRow, Failure> {
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
