//! The feed of changes: a subscriber gets everything that became durable, in the order in which it did.

use std::time::Duration;
use talktrack::clock::Seq;

use rusqlite::params;
use talktrack::store::ErrorClass;
use talktrack::store::sqlite::SqliteReader;
use talktrack::{
    Change, ChangeKind, Changes, DATABASE_FILE, JsonObject, Message, MessageId, MessageStatus, Options,
    Redirect, Role, SessionId, Tracker, quarantines,
};
use talktrack_testkit::Setup;
use tempfile::TempDir;

use crate::support::{
    SESSION, USER, accept, dir, downgrade, image_of, message, new_session, remote, sqlite, store_error,
    value, within,
};

/// The number of changes that are kept: at least, and at most.
const KEPT: std::ops::RangeInclusive<u64> = 200_000..=203_000;

fn reader(dir: &TempDir) -> SqliteReader {
    SqliteReader::open(&dir.path().join(DATABASE_FILE)).unwrap()
}

async fn since(dir: &TempDir, place: i64) -> Changes {
    reader(dir).changes_since(Seq::new(place), 1_000).await.unwrap()
}

/// Returns all changes of a directory from which none has been removed yet.
async fn all(dir: &TempDir) -> Vec<Change> {
    let Changes { changes, is_gap_free, next, .. } = since(dir, 0).await;
    assert!(is_gap_free);
    assert_eq!(next, changes.last().map_or(Seq::ZERO, |change| change.seq));
    assert!(changes.is_sorted_by(|one, other| one.seq < other.seq), "{changes:?}");
    changes
}

fn kinds(changes: &[Change]) -> Vec<ChangeKind> {
    changes.iter().map(|change| change.kind).collect()
}

fn numbered(number: u128, content: &str) -> Message {
    message(content).with_id(MessageId::from_u128(number))
}

async fn start(tracker: &Tracker) {
    within(tracker.start_session(new_session()).unwrap().durable()).await.unwrap();
}

/// Plays a conversation: a start, a message, a revision, new metadata and an end.
async fn converse(tracker: &Tracker) {
    start(tracker).await;
    within(accept(tracker, numbered(1, "hello"))).await.unwrap();
    within(accept(tracker, numbered(1, "hello!").with_revision(1))).await.unwrap();
    let metadata = JsonObject::parse(r#"{"topic":"tea"}"#).unwrap();
    within(tracker.update_session(SESSION, metadata).unwrap().durable()).await.unwrap();
    within(tracker.end_session(SESSION, "completed").unwrap().durable()).await.unwrap();
}

fn of_the_conversation(changes: &[Change]) {
    use ChangeKind::{Message, Revision, SessionEnded, SessionStarted, SessionUpdated};
    assert_eq!(kinds(changes), [SessionStarted, Message, Revision, SessionUpdated, SessionEnded]);
    let first = Some(MessageId::from_u128(1));
    let messages: Vec<_> = changes.iter().map(|change| change.message_id).collect();
    assert_eq!(messages, [None, first, first, None, None]);
    assert!(changes.iter().all(|change| change.session_id == SESSION && change.user_id == Some(USER)));
}

#[tokio::test]
async fn each_record_that_changed_something_is_told_in_the_order_of_acceptance() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    converse(&tracker).await;
    let receipt = accept(&tracker, numbered(2, "one more thing"));
    let seq = receipt.seq();
    within(receipt).await.unwrap();
    let changes = all(&dir).await;
    of_the_conversation(&changes[..5]);
    assert_eq!((changes[5].seq, changes.len()), (seq, 6));
    assert_eq!(reader(&dir).newest_change().await.unwrap(), seq);
}

#[tokio::test]
async fn the_end_of_a_session_tells_first_what_it_made_final() {
    let dir = dir();
    let tracker = Tracker::open(Options::new(dir.path())).unwrap();
    start(&tracker).await;
    let half = numbered(1, "hel").with_status(MessageStatus::InProgress);
    within(accept(&tracker, half)).await.unwrap();
    within(tracker.end_session(SESSION, "completed").unwrap().durable()).await.unwrap();
    let changes = since(&dir, 0).await.changes;
    use ChangeKind::{Message, Revision, SessionEnded, SessionStarted};
    assert_eq!(kinds(&changes), [SessionStarted, Message, Revision, SessionEnded]);
    let (closed, end) = (&changes[2], &changes[3]);
    assert_eq!((closed.message_id, closed.seq), (Some(MessageId::from_u128(1)), end.seq));
}

#[tokio::test]
async fn with_a_remote_store_they_are_told_when_they_are_durable_and_once() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    let tracker = setup.open(setup.options()).unwrap();
    converse(&tracker).await;
    of_the_conversation(&all(&dir).await);
    within(accept(&tracker, numbered(1, "hello!").with_revision(1))).await.unwrap();
    store.fix();
    within(tracker.flush_to_store()).await.unwrap();
    of_the_conversation(&all(&dir).await);
}

#[tokio::test]
async fn what_changes_nothing_is_not_told() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    converse(&tracker).await;
    let told = all(&dir).await;
    within(accept(&tracker, numbered(1, "hello!").with_revision(1))).await.unwrap();
    within(accept(&tracker, numbered(1, "a conflict").with_revision(1))).await.unwrap_err();
    let nowhere = Message::new(SessionId::from_u128(0xdead), Role::User, "is anybody here?");
    within(accept(&tracker, nowhere)).await.unwrap();
    assert_eq!(tracker.health().books.dead_lettered, 1);
    assert_eq!(all(&dir).await, told);
}

#[tokio::test]
async fn a_page_says_where_to_go_on() {
    let dir = dir();
    let tracker = Tracker::open(Options::new(dir.path())).unwrap();
    converse(&tracker).await;
    let mut place = 0;
    let mut read = Vec::new();
    loop {
        let page = reader(&dir).changes_since(Seq::new(place), 2).await.unwrap();
        assert!(page.is_gap_free && page.changes.len() <= 2);
        if page.changes.is_empty() {
            assert_eq!(page.next, Seq::new(place));
            break;
        }
        place = page.next.get();
        read.extend(page.changes);
    }
    assert_eq!(read, all(&dir).await);
}

/// Checks that the start after a crash ends the session that was left open, and that this change comes
/// after every change that a subscriber can have seen.
async fn ends_after_a_crash(live: &TempDir, image: &TempDir, restarted: &Setup, tracker: &Tracker) {
    start(tracker).await;
    let last = accept(tracker, message("and then"));
    let seq = last.seq();
    within(last).await.unwrap();
    image_of(live.path(), image.path());
    let restarted = restarted.open(restarted.options()).unwrap();
    let changes = all(image).await;
    assert_eq!(changes.len(), 3);
    assert_eq!((changes[2].kind, changes[2].session_id), (ChangeKind::SessionEnded, SESSION));
    assert!(changes[2].seq > seq);
    let next = accept(&restarted, Message::new(SESSION, Role::User, "again"));
    assert!(next.seq() > changes[2].seq);
    within(next).await.unwrap();
    assert_eq!(all(image).await.len(), 4);
}

#[tokio::test]
async fn the_ends_of_sessions_that_a_crash_left_open_are_told_behind_all_others() {
    let live = dir();
    let image = dir();
    let setup = Setup::sqlite(live.path());
    let tracker = setup.open(setup.options()).unwrap();
    ends_after_a_crash(&live, &image, &Setup::sqlite(image.path()), &tracker).await;
}

#[tokio::test]
async fn so_are_those_on_the_way_to_a_remote_store() {
    let live = dir();
    let image = dir();
    let (setup, store) = remote(&live);
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    let tracker = setup.open(setup.options()).unwrap();
    let restarted = Setup::remote(image.path(), std::sync::Arc::new(store.clone()));
    ends_after_a_crash(&live, &image, &restarted, &tracker).await;
}

#[tokio::test]
async fn what_comes_home_from_an_outbox_is_not_told_a_second_time() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    let tracker = setup.open(setup.options()).unwrap();
    converse(&tracker).await;
    within(tracker.shutdown(Duration::from_secs(120))).await.unwrap();
    drop(tracker);
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options().with_redirect(Redirect::Always)).unwrap();
    assert_eq!(value::<u64>(dir.path(), "SELECT count(*) FROM conversation_messages"), 1);
    of_the_conversation(&all(&dir).await);
    drop(tracker);
}

#[tokio::test]
async fn a_replayed_letter_is_told_behind_all_others() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    within(accept(&tracker, numbered(7, "too early"))).await.unwrap();
    start(&tracker).await;
    let letters = reader(&dir).dead_letters().list(None, 10).await.unwrap();
    within(tracker.replay_record(*letters[0].record.clone().unwrap()).unwrap()).await.unwrap();
    let changes = all(&dir).await;
    assert_eq!(kinds(&changes), [ChangeKind::SessionStarted, ChangeKind::Message]);
    assert_eq!(changes[1].message_id, Some(MessageId::from_u128(7)));
}

/// Fills a directory with as many changes as are always kept, and returns the first of them.
fn full_of_changes(dir: &TempDir) -> i64 {
    let setup = Setup::sqlite(dir.path());
    drop(setup.open(setup.options()).unwrap());
    let fill = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1) \
                INSERT INTO changes SELECT n, 5, ?2, ?2, ?2 FROM n";
    sqlite(dir.path()).execute(fill, params![KEPT.start(), SESSION.as_bytes()]).unwrap();
    1
}

#[tokio::test]
async fn the_oldest_go_and_whoever_is_too_late_learns_it() {
    let dir = dir();
    let first = full_of_changes(&dir);
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    start(&tracker).await;
    assert!(since(&dir, first).await.is_gap_free, "nothing has gone yet");
    for _ in 0..5 {
        (0..1_000).for_each(|number| drop(accept(&tracker, message(format!("message {number}")))));
        within(tracker.flush()).await.unwrap();
        let there = value::<u64>(dir.path(), "SELECT count(*) FROM changes");
        assert!(KEPT.contains(&there), "{there}");
    }
    let oldest = value::<i64>(dir.path(), "SELECT min(seq) FROM changes");
    assert!(oldest > 2_000, "{oldest}");
    let late = since(&dir, oldest - 1).await;
    assert_eq!((late.is_gap_free, late.changes[0].seq), (false, Seq::new(oldest)));
    let in_time = since(&dir, oldest).await;
    assert_eq!((in_time.is_gap_free, in_time.changes.len()), (true, 1_000));
    assert!(in_time.changes[0].seq > Seq::new(oldest));
}

#[tokio::test]
async fn after_damage_they_begin_anew_and_whoever_followed_learns_it() {
    let dir = dir();
    let tracker = Tracker::open(Options::new(dir.path())).unwrap();
    converse(&tracker).await;
    within(tracker.shutdown(Duration::from_secs(120))).await.unwrap();
    drop(tracker);
    let seen = all(&dir).await[4].seq;
    // Damages one page of the table's tree, so that the remaining changes have a gap.
    let root: u64 = value(dir.path(), "SELECT rootpage FROM sqlite_schema WHERE name = 'changes'");
    let path = dir.path().join(DATABASE_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let page = usize::try_from(root - 1).unwrap() * 4_096;
    bytes[page..page + 4_096].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();

    let tracker = Tracker::open(Options::new(dir.path())).unwrap();
    assert_eq!(quarantines(&path).len(), 1);
    let after = since(&dir, seen.get()).await;
    assert_eq!((after.is_gap_free, after.changes.len()), (false, 0));
    assert!(after.next > seen);
    within(accept(&tracker, Message::new(SESSION, Role::User, "again"))).await.unwrap();
    let news = since(&dir, after.next.get()).await;
    assert_eq!((news.is_gap_free, kinds(&news.changes)), (true, vec![ChangeKind::Message]));
    assert_eq!(value::<u64>(dir.path(), "SELECT count(*) FROM conversation_messages"), 2);
}

#[tokio::test]
async fn a_file_from_before_there_were_any_begins_with_now() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    converse(&tracker).await;
    drop(tracker);
    let last_seq: i64 = value(dir.path(), "SELECT last_seq FROM books");
    downgrade(dir.path(), 2);
    let tracker = setup.open(setup.options()).unwrap();
    assert!(!since(&dir, 0).await.is_gap_free, "there were some, and nobody wrote them down");
    let begun = since(&dir, last_seq).await;
    assert_eq!((begun.is_gap_free, begun.next, begun.changes.len()), (true, Seq::new(last_seq), 0));
    converse(&tracker).await;
    assert_eq!(since(&dir, last_seq).await.changes.len(), 3, "the same message again is none");
}
