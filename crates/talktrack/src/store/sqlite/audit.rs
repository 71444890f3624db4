//! Compares the totals in the file with its rows.

use rusqlite::Connection;

use crate::local::database::text;
use crate::local::tables::{books, dead_letters, journal};
use crate::store::Audit;
use crate::store::sqlite::rows::{REMEDY, note_damage};

/// Counts all rows and lists inconsistencies.
pub(super) fn audit_file(connection: &Connection) -> rusqlite::Result<Audit> {
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0));
    let books = books::read_totals(connection)?;
    let mut audit = Audit {
        books: Some(books),
        sessions: count("SELECT count(*) FROM conversation_sessions")?,
        messages: count("SELECT count(*) FROM conversation_messages")?,
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
    audit.problems.extend(find_inconsistencies(connection)?);
    // A word that another program wrote may violate a check of the schema. That is not damage.
    connection.pragma_update(None, "ignore_check_constraints", true)?;
    let integrity: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if integrity != "ok" {
        note_damage(connection, &integrity);
        audit.problems.push(format!("SQLite reports that the file is damaged: {integrity}; {REMEDY}"));
    }
    Ok(audit)
}

/// Lists sessions whose figures differ from their rows, messages without a session, and messages with
/// corrupt JSON columns: the first 20 of each.
fn find_inconsistencies(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    const QUESTIONS: [&str; 4] = [
        "SELECT 'session ' || session_id || ' counts ' || message_count || ' messages, but ' || n || ' are stored' FROM \
         (SELECT s.session_id, s.message_count, (SELECT count(*) FROM conversation_messages m WHERE m.session_id = s.session_id) n \
         FROM conversation_sessions s) WHERE message_count <> n LIMIT 20",
        "SELECT 'message ' || id || ' belongs to session ' || session_id || ', which does not exist' FROM conversation_messages m \
         WHERE NOT EXISTS (SELECT 1 FROM conversation_sessions s WHERE s.session_id = m.session_id) LIMIT 20",
        "SELECT 'message ' || id || ' has metadata, parts or metrics that are no longer JSON' FROM conversation_messages \
         WHERE NOT (coalesce(json_valid(metadata), 1) AND coalesce(json_valid(parts), 1) AND coalesce(json_valid(metrics), 1)) LIMIT 20",
        "SELECT 'session ' || session_id || ' is ' || coalesce(status, 'null') || ' and has ended_at ' || coalesce(ended_at, 'null') \
         FROM conversation_sessions WHERE status IN ('active', 'ended', 'abandoned') AND (status = 'active') <> (ended_at IS NULL) LIMIT 20",
    ];
    let mut problems = Vec::new();
    for question in QUESTIONS {
        let mut statement = connection.prepare(question)?;
        let found = statement.query_map([], |row| text(row, 0))?;
        problems.extend(found.collect::<rusqlite::Result<Vec<String>>>()?);
    }
    Ok(problems)
}
