//! Compares the totals in the file with its rows.

use rusqlite::Connection;

use crate::local::database::{REPAIR, note_damage};
use crate::local::tables::{books, dead_letters, journal};
use crate::local::tables::{messages, sessions};
use crate::store::Audit;

/// Counts all rows and lists inconsistencies.
pub(super) fn audit_file(connection: &Connection) -> rusqlite::Result<Audit> {
    let books = books::read_totals(connection)?;
    let mut audit = Audit {
        books: Some(books),
        sessions: sessions::read::count(connection)?,
        messages: messages::read::count(connection)?,
        dead_letters: dead_letters::count_messages(connection)?,
        journal: journal::count_pending_messages(connection)?,
        problems: Vec::new(),
    };
    let pending = books.pending();
    let dead = books.dead_lettered;
    let letters = books.letters();
    let mut expect = |ok: bool, problem: String| {
        if !ok {
            audit.problems.push(problem);
        }
    };
    let sum = books.stored + dead + pending;
    expect(books.durable == sum, "durable differs from stored + dead_lettered + pending".into());
    expect(
        audit.journal == pending,
        format!("{pending} messages should be pending, the journal holds {}", audit.journal),
    );
    expect(
        audit.dead_letters == letters,
        format!("{letters} dead letters were written and not removed, but {} are stored", audit.dead_letters),
    );
    let wanted = books.rows();
    let found = audit.messages;
    expect(
        wanted == found,
        format!("{wanted} messages were written and not deleted, but {found} are stored"),
    );
    add_inconsistencies(&mut audit, connection)?;
    // A word that another program wrote may violate a check of the schema. That is not damage.
    connection.pragma_update(None, "ignore_check_constraints", true)?;
    let integrity: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if integrity != "ok" {
        note_damage(connection, &integrity);
        audit.problems.push(format!("SQLite reports that the file is damaged: {integrity}; {REPAIR}"));
    }
    Ok(audit)
}

/// Adds sessions whose figures differ from their rows, messages without a session, and messages with corrupt JSON
/// columns: the first of each.
fn add_inconsistencies(audit: &mut Audit, connection: &Connection) -> rusqlite::Result<()> {
    let wanted = Audit::PROBLEMS_WANTED;
    audit.add_problems(sessions::checks::describe_wrong_counts(connection, wanted)?);
    audit.add_problems(messages::checks::describe_orphans(connection, wanted)?);
    audit.add_problems(messages::checks::describe_invalid_json(connection, wanted)?);
    audit.add_problems(sessions::checks::describe_wrong_ends(connection, wanted)?);
    Ok(())
}
