//! Opens the journal's file and ends the sessions that an earlier run left open in it.

use std::path::Path;

use rusqlite::Connection;
use talktrack_core::books::Books;
use talktrack_core::clock::Seq;

use crate::changes::{Change, ChangeKind};
use crate::error::OpenError;
use crate::journal::{adopt_outbox, outbox};
use crate::local::database;
use crate::local::disk_reserve::DiskReserve;
use crate::local::tables::{books, changes, directory};
use crate::options::Redirect;
use crate::salvage;
use crate::store::NotedStore;
use crate::store::sqlite;

/// The purpose for which the file is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose<'a> {
    /// The address of the remote store whose outbox the file is to be, or `None` if the file is to be the store itself.
    pub(crate) remote: Option<&'a str>,
    pub(crate) redirect: Redirect,
}

/// An open file.
pub(super) struct OpenedFile {
    pub(super) connection: Connection,
    pub(super) books: Books,
    pub(super) last_seq: Seq,
    /// `None` if the file itself is the store.
    pub(super) outbox: Option<NotedStore>,
}

/// Opens the file and ends the sessions that were left open in it. If the disk is full, it uses the disk reserve.
pub(super) fn open_with_reserve(
    path: &Path,
    purpose: Purpose<'_>,
    reserve: &mut DiskReserve,
) -> Result<OpenedFile, OpenError> {
    let is_full = |error: &OpenError| matches!(error, OpenError::Database { source, .. } if database::is_disk_full(source.sqlite()));
    match open_file(path, purpose) {
        Err(error) if is_full(&error) => {
            let lent = reserve.release();
            let opened = open_file(path, purpose);
            reserve.reclaim(lent);
            let full = |error| {
                if is_full(&error) { OpenError::DiskFull { path: path.to_owned() } } else { error }
            };
            opened.map_err(full)
        }
        opened => opened,
    }
}

fn open_file(path: &Path, purpose: Purpose<'_>) -> Result<OpenedFile, OpenError> {
    let failed = |source| OpenError::database(path, source);
    let mut connection = salvage::open(path)?;
    let (mut books, mut last_seq) = books::read(&connection).map_err(failed)?;
    let outbox = find_outbox_store(&connection, purpose).map_err(failed)?;
    let abandoned = if outbox.is_some() {
        outbox::abandon_open_sessions(&mut connection, &mut last_seq, &mut books).map_err(failed)?
    } else {
        let brought = adopt_outbox::adopt_outbox(&mut connection, &mut books).map_err(failed)?;
        if brought > 0 {
            tracing::warn!(
                "{brought} records waited for a remote store that is no longer in use; they are now in this file"
            );
        }
        abandon_open_sessions(&mut connection, &mut last_seq, &books).map_err(failed)?
    };
    if abandoned > 0 {
        tracing::warn!(
            "{abandoned} sessions were still open when the last process ended; they are marked as abandoned at their last event"
        );
    }
    Ok(OpenedFile { connection, books, last_seq, outbox })
}

/// Returns what the file notes of the store for which its records wait, or `None` if the file is the store itself.
fn find_outbox_store(connection: &Connection, purpose: Purpose<'_>) -> rusqlite::Result<Option<NotedStore>> {
    let noted = directory::read(connection)?;
    let Purpose { remote, redirect } = purpose;
    match (remote, noted) {
        (Some(address), noted) => {
            let noted = noted.filter(|_| redirect != Redirect::Always).unwrap_or_default();
            // The store has not been reached yet. Until it is, records are for a remote store and not for the tables of
            // this file.
            if noted.id.is_none() {
                directory::note(connection, None, address)?;
            }
            Ok(Some(noted))
        }
        (None, Some(noted))
            if redirect == Redirect::Never || redirect == Redirect::IfEmpty && !noted.is_drained() =>
        {
            Ok(Some(noted))
        }
        (None, Some(noted)) => {
            let name = noted.name();
            tracing::warn!(
                "this data directory was the outbox of {name}; its own tables are the store from now on"
            );
            directory::forget(connection)?;
            Ok(None)
        }
        (None, None) => Ok(None),
    }
}

/// Abandons the sessions that a crash left open, and writes a change for each, so that followers learn of it.
fn abandon_open_sessions(
    connection: &mut Connection,
    last_seq: &mut Seq,
    books: &Books,
) -> rusqlite::Result<usize> {
    let tx = connection.transaction()?;
    let newest = changes::newest_seq(&tx)?.max(*last_seq);
    let abandoned = sqlite::abandon_open_sessions(&tx, newest.next())?;
    let changes = abandoned.iter().map(|(seq, session_id)| Change {
        seq: *seq,
        kind: ChangeKind::SessionEnded,
        session_id: *session_id,
        user_id: None,
        message_id: None,
    });
    changes::append(&tx, changes)?;
    *last_seq = changes::newest_seq(&tx)?.max(*last_seq);
    books::write(&tx, books, *last_seq)?;
    tx.commit()?;
    Ok(abandoned.len())
}
