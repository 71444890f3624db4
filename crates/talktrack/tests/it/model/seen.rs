//! The visible state of a tracker in the types of the model: the rows of its store, its dead letters, its books.

use std::path::Path;

use talktrack::store::sqlite::SqliteReader;
use talktrack::store::{MessageRow, Read, SessionRow};
use talktrack::{DATABASE_FILE, MessageId, Status, StoredTime, Tracker};

use super::expected::{Books, Closing, Conversation, Letter, Picture, Turn};
use super::operation::Session;
use crate::support::within;

/// More rows than any test writes.
const ALL: usize = 100_000;

pub(crate) async fn picture(tracker: &Tracker, data_dir: &Path) -> Picture {
    let reader = tracker.reader();
    let mut picture = Picture { books: books(tracker), ..Picture::default() };
    for session in Session::ALL {
        let row = within(reader.session(session.id())).await.expect("the store can be read");
        if let Some(row) = row {
            picture.sessions.insert(session, conversation(&*reader, session, row).await);
        }
    }
    picture.letters = letters(data_dir).await;
    let audit = within(reader.audit()).await.expect("the store can be read");
    assert_eq!(audit.problems, [""; 0]);
    assert_eq!(tracker.health().books.letters(), picture.letters.len() as u64, "letters in the books");
    assert_eq!(tracker.health().books.journal_bytes, 0, "nothing waits in the journal");
    picture
}

/// Returns the books without the records that wait, because durable is the sum of these and the other counts.
pub(crate) fn books(tracker: &Tracker) -> Books {
    let books = tracker.health().books;
    Books { durable: books.durable, stored: books.stored, dead_lettered: books.dead_lettered }
}

async fn conversation(reader: &dyn Read, session: Session, row: SessionRow) -> Conversation {
    assert_eq!(row.user_id, Some(session.user()), "whose the session is");
    let rows = within(reader.messages(session.id(), None, ALL)).await.expect("the store can be read");
    assert!(rows.iter().all(|row| row.user_id == Some(session.user())), "whose its messages are");
    let known = |time: &StoredTime| time.known().expect("a time");
    let began = known(&row.started_at);
    let ended = row.ended_at.as_ref().map(known);
    let end = ended.map(|at| Closing {
        status: *row.status.known().expect("a status"),
        reason: row.end_reason.clone().expect("an end has its reason"),
        at,
    });
    let duration = ended.map(|at| at.max(began).seconds_since(began));
    assert_eq!(row.duration_seconds, duration, "how long the session was");
    assert_eq!(row.status == Status::Active, end.is_none(), "a session that goes on has no end: {row:?}");
    Conversation {
        started_at: began,
        last_event_at: row.last_event_at.as_ref().map(known).expect("a session has a last event"),
        end,
        message_count: row.message_count.unsigned_abs(),
        turns: rows.into_iter().map(|row| turn(session, row)).collect(),
    }
}

fn turn(session: Session, row: MessageRow) -> Turn {
    let MessageRow { id, revision, content: text, created_at: at, .. } = row;
    let revision = revision.try_into().expect("a revision");
    let at = at.known().expect("a time");
    Turn { number: number(session, id), revision, text, at }
}

/// Returns the caller's number of a message. `None` for an id that the tracker generated, because these are random.
fn number(session: Session, id: MessageId) -> Option<u8> {
    (0..=u8::MAX).find(|number| session.message(*number) == id)
}

/// Returns the messages among the dead letters. (The end of an unknown session becomes a dead letter
/// too, but the books do not count it.)
async fn letters(data_dir: &Path) -> Vec<Letter> {
    let reader = SqliteReader::open(&data_dir.join(DATABASE_FILE)).expect("the file can be read");
    let letters = within(reader.dead_letters().list(None, ALL)).await.expect("the file can be read");
    let letters = letters.into_iter().filter(|letter| letter.message_id.is_some());
    letters
        .map(|letter| {
            let record = letter.record.expect("a letter can be read back");
            let stamped = record.message().expect("a letter of a message holds one").clone();
            let of_session = |session: &Session| session.id() == stamped.message.session_id;
            let session = Session::ALL.into_iter().find(of_session).expect("one of the sessions");
            let number = number(session, stamped.id);
            let at = stamped.created_at;
            let revision = stamped.message.revision;
            let text = stamped.message.content;
            Letter { session, turn: Turn { number, revision, text, at }, reason: letter.reason }
        })
        .collect()
}
