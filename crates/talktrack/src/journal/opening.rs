//! How the journal's file is opened, and what an earlier run left open in it is closed.

use std::path::Path;

use rusqlite::Connection;

use crate::books::Books;
use crate::changes::{self, Change, ChangeKind};
use crate::clock::Seq;
use crate::database;
use crate::error::OpenError;
use crate::journal::reserve::Reserve;
use crate::journal::{aside, homecoming, outbox};
use crate::salvage;
use crate::store::sqlite;

/// Opens the file, and closes what was left open in it, where there is no other room with that of the reserve.
pub(super) fn take_up(
    path: &Path,
    remote: bool,
    reserve: &mut Reserve,
) -> Result<(Connection, Books, Seq), OpenError> {
    let is_full = |error: &OpenError| matches!(error, OpenError::Database { source, .. } if database::is_disk_full(source));
    match open_file(path, remote) {
        Err(error) if is_full(&error) => {
            let lent = reserve.make_way();
            let opened = open_file(path, remote);
            reserve.take_back(lent);
            let full = |error| {
                if is_full(&error) { OpenError::DiskFull { path: path.to_owned() } } else { error }
            };
            opened.map_err(full)
        }
        opened => opened,
    }
}

fn open_file(path: &Path, remote: bool) -> Result<(Connection, Books, Seq), OpenError> {
    let failed = |source| OpenError::Database { path: path.to_owned(), source };
    let mut connection = salvage::open(path)?;
    let (mut books, mut last_seq) = aside::read_books(&connection).map_err(failed)?;
    let abandoned = if remote {
        outbox::abandon_open_sessions(&mut connection, &mut last_seq, &mut books).map_err(failed)?
    } else {
        let brought = homecoming::bring_home(&mut connection, &mut books).map_err(failed)?;
        if brought > 0 {
            tracing::warn!(
                "{brought} records waited for a remote store, which is the store no longer; they are in this file now"
            );
        }
        abandon_open_sessions(&mut connection, &mut last_seq, &books).map_err(failed)?
    };
    if abandoned > 0 {
        tracing::warn!(
            "the last run did not end {abandoned} sessions; they are now abandoned, at their last event"
        );
    }
    Ok((connection, books, last_seq))
}

/// After a crash: whoever follows learns of each session that this ends.
fn abandon_open_sessions(
    connection: &mut Connection,
    last_seq: &mut Seq,
    books: &Books,
) -> rusqlite::Result<usize> {
    let tx = connection.transaction()?;
    let abandoned = sqlite::abandon_open_sessions(&tx)?;
    let mut seqs = changes::newest(&tx)?.max(*last_seq)..;
    seqs.next();
    let changes = abandoned.iter().zip(seqs).map(|(session_id, seq)| Change {
        seq,
        kind: ChangeKind::SessionEnded,
        session_id: *session_id,
        user_id: None,
        message_id: None,
    });
    changes::add(&tx, changes)?;
    *last_seq = changes::newest(&tx)?.max(*last_seq);
    sqlite::write_books(&tx, books, *last_seq)?;
    tx.commit()?;
    Ok(abandoned.len())
}
