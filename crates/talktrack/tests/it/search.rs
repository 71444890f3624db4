//! The search index of the SQLite file. If it is lost, damaged or does not match the database, it is
//! rebuilt. Deleted messages are no longer found.

#[cfg(feature = "postgres")]
mod postgres;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use talktrack::search::{FOLDING, MAX_WORDS, SearchFilter};
use talktrack::{Message, NewSession, Options, Role, SessionId, Tracker, UserId};
use talktrack_testkit::PATIENCE;
use tempfile::TempDir;

use crate::support::{SESSION, accept, dir, image_of, message, new_session, sqlite, within};

fn index_of(data_dir: &Path) -> PathBuf {
    data_dir.join("talktrack-search.db")
}

fn open(dir: &TempDir) -> Tracker {
    Tracker::open(Options::new(dir.path())).expect("the tracker opens")
}

async fn say(tracker: &Tracker, texts: &[&str]) {
    drop(tracker.start_session(new_session()).expect("accepted"));
    for text in texts {
        drop(accept(tracker, message(*text)));
    }
    within(tracker.flush()).await.expect("durable");
}

/// Waits until a search finds exactly this many messages.
async fn finds(tracker: &Tracker, query: &str, count: usize) {
    let wanted = SearchFilter::new(query.parse().unwrap());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = tracker.reader().search(wanted.clone(), None, 1_000).await;
        match &found {
            Ok(hits) if hits.len() == count => return,
            _ => assert!(Instant::now() < deadline, "{query}, expected {count}: {found:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn close(tracker: Tracker) {
    tracker.shutdown(PATIENCE).await.expect("everything is durable");
}

#[tokio::test]
async fn an_index_that_is_missing_or_damaged_is_made_anew() {
    let dir = dir();
    let tracker = open(&dir);
    say(&tracker, &["a needle", "hay"]).await;
    finds(&tracker, "needle", 1).await;
    close(tracker).await;

    std::fs::remove_file(index_of(dir.path())).unwrap();
    let tracker = open(&dir);
    finds(&tracker, "needle", 1).await;
    close(tracker).await;

    for damage in [&b"this is no database, whatever its name says"[..], &[0; 8_192]] {
        std::fs::write(index_of(dir.path()), damage).unwrap();
        let tracker = open(&dir);
        finds(&tracker, "needle", 1).await;
        close(tracker).await;
    }
}

#[tokio::test]
async fn an_index_that_is_damaged_inside_while_it_is_used_is_made_anew() {
    let dir = dir();
    let tracker = open(&dir);
    say(&tracker, &["a needle", "hay"]).await;
    finds(&tracker, "needle", 1).await;
    close(tracker).await;
    let index = Connection::open(index_of(dir.path())).unwrap();
    index.execute_batch("UPDATE texts_data SET block = x'ffffffffffffffff' WHERE id > 10; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(index);
    let tracker = open(&dir);
    finds(&tracker, "needle", 1).await;
    close(tracker).await;
}

#[tokio::test]
async fn an_index_of_another_time_is_made_anew() {
    let (dir, earlier) = (dir(), dir());
    let tracker = open(&dir);
    say(&tracker, &["a needle"]).await;
    finds(&tracker, "needle", 1).await;
    close(tracker).await;
    image_of_database(dir.path(), earlier.path());

    let tracker = open(&dir);
    say(&tracker, &["another needle", "and one more needle"]).await;
    finds(&tracker, "needle", 3).await;
    close(tracker).await;

    // An older database next to a newer index, as after restoring a backup of the database alone.
    image_of_database(earlier.path(), dir.path());
    let tracker = open(&dir);
    finds(&tracker, "needle", 1).await;
    say(&tracker, &["hay", "a pin in hay"]).await;
    finds(&tracker, "pin", 1).await;
    finds(&tracker, "needle", 1).await;
    close(tracker).await;
}

/// The rules by which texts become words are a part of the layout of the index.
#[tokio::test]
async fn an_index_that_was_made_by_older_rules_is_made_anew() {
    let dir = dir();
    let tracker = open(&dir);
    say(&tracker, &["a needle", "hay"]).await;
    finds(&tracker, "needle", 1).await;
    close(tracker).await;
    let index = Connection::open(index_of(dir.path())).unwrap();
    let version: i16 = index.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, FOLDING);
    index.execute_batch("INSERT OR REPLACE INTO texts (rowid, words) VALUES (1, 'n-e-e-d-l-e')").unwrap();
    index.pragma_update(None, "user_version", FOLDING - 1).unwrap();
    drop(index);
    let tracker = open(&dir);
    finds(&tracker, "needle", 1).await;
    close(tracker).await;
}

fn image_of_database(from: &Path, into: &Path) {
    std::fs::copy(from.join("talktrack.db"), into.join("talktrack.db")).unwrap();
}

#[tokio::test]
async fn what_was_said_after_a_crash_and_before_it_is_found() {
    let (dir, image) = (dir(), dir());
    let tracker = open(&dir);
    say(&tracker, &["a needle"]).await;
    finds(&tracker, "needle", 1).await;
    image_of(dir.path(), image.path());
    std::fs::copy(index_of(dir.path()), index_of(image.path())).unwrap();
    let log = "talktrack-search.db-wal";
    std::fs::copy(dir.path().join(log), image.path().join(log)).unwrap();
    close(tracker).await;
    let tracker = open(&image);
    say(&tracker, &["another needle"]).await;
    finds(&tracker, "needle", 2).await;
    close(tracker).await;
}

#[tokio::test]
async fn rows_that_are_gone_are_not_shown() {
    let dir = dir();
    let tracker = open(&dir);
    say(&tracker, &["a needle", "another needle", "hay"]).await;
    finds(&tracker, "needle", 2).await;
    sqlite(dir.path()).execute("DELETE FROM conversation_messages WHERE content = 'a needle'", []).unwrap();
    finds(&tracker, "needle", 1).await;
    close(tracker).await;
}

#[tokio::test]
async fn what_was_deleted_leaves_the_index_and_what_takes_its_place_is_found() {
    let dir = dir();
    let tracker = open(&dir);
    say(&tracker, &["hay", "a needle", "another needle"]).await;
    finds(&tracker, "needle", 2).await;
    close(tracker).await;
    // Deletes a session as the journal does: its rows, and a change that reports it. The rowids are free afterwards.
    let database = sqlite(dir.path());
    let session = SESSION.as_uuid().simple();
    database
        .execute_batch(&format!(
            "DELETE FROM conversation_messages;
             INSERT INTO changes (seq, kind, session_id) SELECT max(seq) + 1, 4, x'{session}' FROM changes;"
        ))
        .unwrap();
    drop(database);
    let tracker = open(&dir);
    say(&tracker, &["a pin"]).await;
    finds(&tracker, "pin", 1).await;
    finds(&tracker, "needle", 0).await;
    let index = Connection::open(index_of(dir.path())).unwrap();
    let rows = |word: &str| {
        let sql = "SELECT count(*) FROM texts WHERE texts MATCH ?1";
        index.query_row(sql, [word], |row| row.get::<_, u64>(0)).unwrap()
    };
    assert_eq!((rows("needle"), rows("hay"), rows("pin")), (0, 0, 1));
    close(tracker).await;
}

#[tokio::test]
async fn of_a_very_long_message_the_first_words_are_found() {
    let dir = dir();
    let tracker = open(&dir);
    let long = format!("{}needle", "hay ".repeat(MAX_WORDS - 1));
    let too_long = format!("{}needle", "hay ".repeat(MAX_WORDS));
    say(&tracker, &[&too_long, &long]).await;
    finds(&tracker, "hay", 2).await;
    finds(&tracker, "needle", 1).await;
    close(tracker).await;
}

#[tokio::test]
async fn without_an_index_nothing_is_found_and_everything_is_written() {
    let dir = dir();
    let tracker = Tracker::open(Options::new(dir.path()).with_search(false)).unwrap();
    say(&tracker, &["a needle"]).await;
    let wanted = SearchFilter::new("needle".parse().unwrap());
    let refused = tracker.reader().search(wanted, None, 10).await.unwrap_err().to_string();
    assert!(refused.contains("the search index is not there"), "{refused}");
    assert!(!index_of(dir.path()).exists());
    close(tracker).await;
}

/// True if a file of the index contains these letters.
fn is_in_the_index(dir: &TempDir, letters: &str) -> bool {
    let files = ["", "-wal"].map(|ending| format!("{}{ending}", index_of(dir.path()).display()));
    files.iter().any(|file| {
        let bytes = std::fs::read(file).unwrap_or_default();
        bytes.windows(letters.len()).any(|window| window == letters.as_bytes())
    })
}

#[tokio::test]
async fn the_words_of_what_is_deleted_leave_the_file_of_the_index() {
    let dir = dir();
    let tracker = open(&dir);
    let other = NewSession::new(SessionId::from_u128(77), UserId::from_u128(78));
    let other = (other.session_id, tracker.start_session(other).expect("accepted")).0;
    let stays = Message::new(other, Role::User, "quokka");
    drop(tracker.track_message(stays).map_err(|refused| refused.reason).expect("accepted"));
    // The index stores a word without the prefix that it shares with the word before it. This word
    // shares none, so it is in the file as a whole.
    say(&tracker, &["zyzzyva", "hay"]).await;
    finds(&tracker, "zyzzyva", 1).await;
    assert!(is_in_the_index(&dir, "zyzzyva"));
    let deletion = tracker.delete_session(SESSION, None).expect("accepted");
    within(deletion.here.durable()).await.expect("durable");
    finds(&tracker, "zyzzyva", 0).await;
    let deadline = Instant::now() + PATIENCE;
    while is_in_the_index(&dir, "zyzzyva") {
        assert!(Instant::now() < deadline, "the word is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(is_in_the_index(&dir, "quokka"), "and nothing else went");
    finds(&tracker, "quokka", 1).await;
    close(tracker).await;
}
