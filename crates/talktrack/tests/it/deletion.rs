//! Deletion is real: nothing of a deleted session stays on the disk or comes back, even if something else fails.

mod by_sql;
mod in_flight;
mod late_deliveries;
mod learning;
mod messages;

use std::path::Path;
use std::sync::Arc;
use talktrack::clock::Seq;

use talktrack::Redirect;
use talktrack::store::{ErrorClass, Store};
use talktrack::{
    Books, Deletion, DeletionCounts, Message, NewSession, NotDurable, Options, Role, SessionId, Tracker,
};
use talktrack_testkit::memory::MemoryStore;
use talktrack_testkit::{Setup, Trial, eventually};

use crate::node::Node;
use crate::postgres::{migrated, store_at};
use crate::support::{
    SESSION, USER, accept, dir, image_of, message, new_session, remote, sqlite, store_error, value, within,
};

const OTHER_SESSION: SessionId = SessionId::from_u128(0xa1);

/// Words that occur only in the deleted session.
const SECRET: &str = "correct horse battery staple";

/// Returns a text that is long enough to need overflow pages.
fn long(number: u32) -> String {
    format!("{number}: {}", SECRET.repeat(600))
}

async fn delete(tracker: &Tracker) -> (DeletionCounts, DeletionCounts) {
    let Deletion { here, in_store, .. } = tracker.delete_session(SESSION, None).expect("accepted");
    let here = within(here.durable()).await.expect("durable");
    (here, within(in_store.durable()).await.expect("the store does it"))
}

/// Returns the files below a directory that contain these words.
fn files_with(words: &str, dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // The disk reserve is allocated and never written.
        if path.to_string_lossy().ends_with("-reserve") {
            continue;
        }
        // A file that is removed meanwhile contains no words.
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            read => read.unwrap(),
        };
        if String::from_utf8_lossy(&bytes).contains(words) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Tracks short and long messages, revises some, and sends some that are refused.
async fn talk(tracker: &Tracker) {
    let said = |number: u32, revision: u32, text: String| {
        message(text).with_external_id(number.to_string()).with_revision(revision)
    };
    for number in 0..40 {
        drop(accept(tracker, said(number, 0, if number % 2 == 0 { SECRET.into() } else { long(number) })));
        drop(accept(tracker, Message::new(OTHER_SESSION, Role::User, format!("{number} of the other"))));
    }
    for number in 0..10 {
        drop(accept(tracker, said(number, 1, format!("{SECRET}, or so"))));
    }
    within(tracker.flush()).await.unwrap();
}

async fn two_sessions(tracker: &Tracker) {
    for session in [SESSION, OTHER_SESSION] {
        let receipt = tracker.start_session(NewSession::new(session, USER)).expect("accepted");
        within(receipt.durable()).await.expect("durable");
    }
    talk(tracker).await;
}

async fn contents(tracker: &Tracker, session: SessionId) -> Vec<String> {
    let rows = within(tracker.reader().messages(session, None, 1_000)).await.unwrap();
    rows.into_iter().map(|row| row.content).collect()
}

#[tokio::test]
async fn the_words_of_a_deleted_session_are_in_no_file_when_the_answer_comes() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    two_sessions(&tracker).await;
    assert_ne!(files_with(SECRET, dir.path()), [""; 0]);
    let (removed, _) = delete(&tracker).await;
    assert_eq!((removed.sessions, removed.messages), (1, 40));
    assert_eq!(files_with(SECRET, dir.path()), [""; 0]);
    assert_eq!(contents(&tracker, OTHER_SESSION).await.len(), 40);
    assert_eq!(within(tracker.reader().audit()).await.unwrap().problems, [""; 0]);
    let Books { inserted, deleted, .. } = tracker.health().books;
    assert_eq!((inserted, deleted), (80, 40));
}

#[tokio::test]
async fn words_that_a_remote_store_has_long_had_are_in_no_file_either() {
    let dir = dir();
    let (setup, _store) = remote(&dir);
    let tracker = setup.open(setup.options()).unwrap();
    two_sessions(&tracker).await;
    within(tracker.flush_to_store()).await.unwrap();
    let (here, in_store) = delete(&tracker).await;
    assert_eq!((here, in_store.messages), (DeletionCounts::default(), 40));
    assert_eq!(files_with(SECRET, dir.path()), [""; 0]);
    assert_eq!(contents(&tracker, OTHER_SESSION).await.len(), 40);
}

/// Returns a text that occurs only in this session.
fn secret(session: u32) -> String {
    format!("<the secret of session {session:04}>")
}

/// Tracks messages in sessions that talk at the same time, short and long ones, and revises many of them
/// to longer texts, so that SQLite splits and merges pages.
async fn many_sessions(tracker: &Tracker, sessions: &[SessionId], random: &mut fastrand::Rng) {
    for session in sessions {
        let receipt = tracker.start_session(NewSession::new(*session, USER)).expect("accepted");
        within(receipt.durable()).await.expect("durable");
    }
    for revision in 0..5 {
        for turn in 0..6_u32 {
            for (number, session) in (0..).zip(sessions) {
                if revision > 0 && random.bool() {
                    continue;
                }
                let text = secret(number).repeat(random.usize(1..=(1 << (revision + 1))) * 2);
                let message = Message::new(*session, Role::User, text)
                    .with_external_id(turn.to_string())
                    .with_revision(revision);
                drop(accept(tracker, message));
            }
        }
        within(tracker.flush()).await.unwrap();
    }
}

/// Deletes most of the sessions, and after each deletion searches every file for the words of the session.
async fn nothing_remains_of_deleted_sessions(setup: &Setup, data_dir: &Path, is_away: impl FnOnce(bool)) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let tracker = setup.open(setup.options()).unwrap();
    let sessions: Vec<SessionId> = (0..40).map(|number| SessionId::from_u128(0x5ec0_0000 + number)).collect();
    many_sessions(&tracker, &sessions, &mut random).await;
    within(tracker.flush_to_store()).await.unwrap();
    is_away(true);
    let mut order: Vec<u32> = (0..40).collect();
    random.shuffle(&mut order);
    for (place, number) in order.iter().take(30).enumerate() {
        let words = secret(*number);
        if place == 0 {
            assert_ne!(files_with(&words, data_dir), [""; 0]);
        }
        let Deletion { here, .. } =
            tracker.delete_session(sessions[usize::try_from(*number).unwrap()], None).unwrap();
        within(here.durable()).await.unwrap();
        within(tracker.wait_until_erased()).await;
        assert_eq!(files_with(&words, data_dir), [""; 0], "session {number}, deleted as number {place}");
        // The other sessions continue.
        let other = sessions[usize::try_from(order[30 + place % 10]).unwrap()];
        drop(accept(&tracker, Message::new(other, Role::User, "more".repeat(random.usize(1..500)))));
    }
    within(tracker.flush()).await.unwrap();
    for number in &order[..30] {
        assert_eq!(files_with(&secret(*number), data_dir), [""; 0], "session {number}, at the end");
    }
    for number in &order[30..] {
        assert_ne!(files_with(&secret(*number), data_dir), [""; 0], "session {number} stays");
    }
    let damage: String = value(data_dir, "SELECT group_concat(integrity_check) FROM pragma_integrity_check");
    assert_eq!(damage, "ok");
}

#[tokio::test]
async fn nothing_remains_of_a_deleted_session_where_pages_were_split_and_revisions_grew() {
    let dir = dir();
    nothing_remains_of_deleted_sessions(&Setup::sqlite(dir.path()), dir.path(), |_| {}).await;
}

#[tokio::test]
async fn nothing_remains_of_a_deleted_session_in_the_window_or_the_journal_of_a_remote_store() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let away = |_| store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    nothing_remains_of_deleted_sessions(&setup, dir.path(), away).await;
}

#[tokio::test]
async fn somebody_who_reads_the_log_only_delays_that_the_words_leave_it() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    two_sessions(&tracker).await;
    let reader = sqlite(dir.path());
    reader.execute_batch("BEGIN; SELECT count(*) FROM conversation_messages").unwrap();
    let (removed, _) = delete(&tracker).await;
    assert_eq!(removed.messages, 40, "nobody waits for who reads");
    reader.execute_batch("COMMIT").unwrap();
    eventually("the words leave the log", || files_with(SECRET, dir.path()).is_empty()).await;
}

#[tokio::test]
async fn a_deletion_while_the_store_is_away_is_done_here_at_once_and_there_when_it_is_back() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let tracker = setup.open(setup.options()).unwrap();
    two_sessions(&tracker).await;
    within(tracker.flush_to_store()).await.unwrap();
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    drop(accept(&tracker, message(format!("{SECRET} once more"))));
    drop(accept(&tracker, Message::new(OTHER_SESSION, Role::User, "the last")));
    within(tracker.flush()).await.unwrap();
    let Deletion { here, in_store, .. } = tracker.delete_session(SESSION, None).unwrap();
    let here = within(here.durable()).await.unwrap();
    assert_eq!(here, DeletionCounts { journal: 1, ..DeletionCounts::default() });
    assert_eq!(files_with(SECRET, dir.path()), [""; 0]);
    let books = tracker.health().books;
    assert_eq!((books.durable, books.pending(), books.letters()), (92, 1, 0));
    assert_eq!(within(accept(&tracker, message("late"))).await, Err(NotDurable::Deleted));
    store.fix();
    // The writer may have had one more message in flight, which then reached the store before the deletion.
    let in_store = within(in_store.durable()).await.unwrap();
    assert!((40..=41).contains(&in_store.messages), "{in_store:?}");
    within(tracker.flush_to_store()).await.unwrap();
    assert_eq!(
        (contents(&tracker, SESSION).await.len(), contents(&tracker, OTHER_SESSION).await.len()),
        (0, 41)
    );
    assert_eq!(value::<u64>(dir.path(), "SELECT count(*) FROM pending"), 0);
    assert_eq!(value::<u64>(dir.path(), "SELECT count(*) FROM dead_letters"), 0);
}

#[tokio::test]
async fn a_kill_right_after_the_answer_brings_nothing_back() {
    let (dir, image) = (dir(), dir());
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    two_sessions(&tracker).await;
    delete(&tracker).await;
    image_of(dir.path(), image.path());
    let survivor = Setup::sqlite(image.path());
    let survivor = survivor.open(survivor.options()).unwrap();
    assert_eq!(
        (contents(&survivor, SESSION).await.len(), contents(&survivor, OTHER_SESSION).await.len()),
        (0, 40)
    );
    assert_eq!(within(accept(&survivor, message("late"))).await, Err(NotDurable::Deleted));
    assert_eq!(files_with(SECRET, image.path()), [""; 0]);
}

#[tokio::test]
async fn a_kill_before_the_store_heard_of_it_brings_nothing_back_either() {
    let (dir, image) = (dir(), dir());
    let (setup, store) = remote(&dir);
    let tracker = setup.open(setup.options()).unwrap();
    two_sessions(&tracker).await;
    within(tracker.flush_to_store()).await.unwrap();
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    drop(accept(&tracker, message("on its way")));
    let Deletion { here, .. } = tracker.delete_session(SESSION, None).unwrap();
    within(here.durable()).await.unwrap();
    image_of(dir.path(), image.path());
    drop(tracker);
    store.fix();
    let survivor = Setup::remote(image.path(), Arc::new(store.clone()) as Arc<dyn Store>);
    let survivor = survivor.open(survivor.options()).unwrap();
    within(survivor.flush_to_store()).await.unwrap();
    assert_eq!(
        (contents(&survivor, SESSION).await.len(), contents(&survivor, OTHER_SESSION).await.len()),
        (0, 40)
    );
    assert_eq!(within(accept(&survivor, message("late"))).await, Err(NotDurable::Deleted));
}

#[tokio::test]
async fn a_file_that_becomes_the_store_itself_honours_what_was_deleted() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    let tracker = setup.open(setup.options()).unwrap();
    two_sessions(&tracker).await;
    let Deletion { here, .. } = tracker.delete_session(SESSION, None).unwrap();
    assert_eq!(within(here.durable()).await.map(|removed| removed.journal), Ok(50));
    drop(tracker);
    let home = Setup::sqlite(dir.path());
    let home = home.open(home.options().with_redirect(Redirect::Always)).unwrap();
    assert_eq!((contents(&home, SESSION).await.len(), contents(&home, OTHER_SESSION).await.len()), (0, 40));
    assert_eq!(within(accept(&home, message("late"))).await, Err(NotDurable::Deleted));
    assert_eq!(within(home.reader().audit()).await.unwrap().problems, [""; 0]);
}

#[tokio::test]
async fn what_lies_between_deleted_rows_in_the_journal_stays() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let tracker = setup.open(setup.options()).unwrap();
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    two_sessions(&tracker).await;
    // The journal may take these in the same batch as the deletion, or in batches before it.
    let receipts: Vec<_> = (0..20)
        .flat_map(|number| {
            [message(number.to_string()), Message::new(OTHER_SESSION, Role::User, format!("more {number}"))]
        })
        .map(|message| accept(&tracker, message))
        .collect();
    let Deletion { here, in_store, .. } = tracker.delete_session(SESSION, None).unwrap();
    within(here.durable()).await.unwrap();
    for receipt in receipts {
        within(receipt).await.unwrap();
    }
    store.fix();
    within(in_store.durable()).await.unwrap();
    within(tracker.flush_to_store()).await.unwrap();
    let books = tracker.health().books;
    assert_eq!((books.durable, books.stored, books.letters()), (130, 60, 0));
    assert_eq!(
        (contents(&tracker, SESSION).await.len(), contents(&tracker, OTHER_SESSION).await.len()),
        (0, 60)
    );
}

/// When the session is deleted, another node still has messages of it that the store does not have yet.
async fn late_from_another_node(ways: [Arc<dyn Store>; 2], reach: &MemoryStore, is_memory: bool) {
    let [one, other] = ways;
    let one = Node::on(&one);
    one.start(SESSION).await;
    one.say(SESSION, "on the first").await;
    one.settled().await;
    let second = Node::on(&other);
    second.start(SESSION).await;
    second.say(SESSION, "on the second").await;
    second.settled().await;
    if is_memory {
        reach.fail_when(|records| {
            let late = |record: &talktrack::record::Record| record.message().is_some();
            records.iter().any(late).then(|| store_error(ErrorClass::Transient, "away"))
        });
        second.say(SESSION, "under way").await;
    }
    delete(&one.tracker).await;
    if is_memory {
        reach.fix();
    } else {
        second.say(SESSION, "too late").await;
    }
    let books = second.settled().await;
    assert_eq!((books.dead_lettered, books.letters()), (1, 0), "let go of, with nothing kept");
    assert!(second.dead_letters().is_empty());
    assert_eq!(within(accept(&second.tracker, message("later still"))).await, Err(NotDurable::Deleted));
    assert_eq!(within(one.tracker.reader().session(SESSION)).await.unwrap(), None);
    assert!(one.contents(SESSION).await.is_empty());
    one.settled().await;
}

#[tokio::test]
async fn what_another_node_still_has_of_a_deleted_session_is_let_go_in_memory() {
    let store = MemoryStore::new();
    late_from_another_node([Arc::new(store.clone()), Arc::new(store.clone())], &store, true).await;
}

#[tokio::test]
async fn what_another_node_still_has_of_a_deleted_session_is_let_go_in_postgresql() {
    let database = migrated().await;
    let way = || Arc::new(store_at(&database.url())) as Arc<dyn Store>;
    late_from_another_node([way(), way()], &MemoryStore::new(), false).await;
}

#[tokio::test]
async fn nodes_that_start_and_delete_the_same_sessions_at_once_leave_none_behind() {
    let database = migrated().await;
    let node = || Node::on(&(Arc::new(store_at(&database.url())) as Arc<dyn Store>));
    let starts = node();
    let deletes = node();
    for number in 0..60 {
        let session = SessionId::from_u128(0xde1e7e + number);
        drop(starts.tracker.start_session(NewSession::new(session, USER)).unwrap());
        drop(accept(&starts.tracker, Message::new(session, Role::User, "hello")));
        let Deletion { here, in_store, .. } = deletes.tracker.delete_session(session, None).unwrap();
        within(here.durable()).await.unwrap();
        within(in_store.durable()).await.unwrap();
    }
    starts.settled().await;
    deletes.settled().await;
    let left = database.psql(
        "SELECT (SELECT count(*) FROM conversation_sessions) + (SELECT count(*) FROM conversation_messages)",
    );
    assert_eq!(left.trim(), "0");
    assert_eq!(database.psql("SELECT count(*) FROM conversation_deletions").trim(), "60");
}

#[tokio::test]
async fn letters_that_are_taken_out_leave_no_words_behind() {
    let dir = dir();
    let mut trial = Trial::open(Setup::sqlite(dir.path()));
    trial.track(message(long(1))).await.unwrap();
    let seq = Seq::new(value(dir.path(), "SELECT seq FROM dead_letters"));
    assert_ne!(files_with(SECRET, dir.path()), [""; 0]);
    assert_eq!(within(trial.tracker().delete_dead_letters(vec![seq])).await, Ok(vec![seq]));
    eventually("the words are gone", || files_with(SECRET, dir.path()).is_empty()).await;
}

#[tokio::test]
async fn a_file_that_was_saved_from_damage_still_refuses_what_was_deleted() {
    let dir = dir();
    let tracker = Tracker::open(Options::new(dir.path())).unwrap();
    two_sessions(&tracker).await;
    delete(&tracker).await;
    drop(tracker);
    let file = dir.path().join(talktrack::DATABASE_FILE);
    let mut bytes = std::fs::read(&file).unwrap();
    // Overwrites the beginning of the schema's first page, so that no table can be found by its name.
    bytes[100..108].fill(0xff);
    std::fs::write(&file, bytes).unwrap();
    let tracker = Tracker::open(Options::new(dir.path())).unwrap();
    assert_eq!(talktrack::quarantines(&file).len(), 1);
    assert_eq!(
        (contents(&tracker, SESSION).await.len(), contents(&tracker, OTHER_SESSION).await.len()),
        (0, 40)
    );
    assert_eq!(within(accept(&tracker, message("late"))).await, Err(NotDurable::Deleted));
    drop(tracker.start_session(new_session()).unwrap());
    within(tracker.flush()).await.unwrap();
    assert_eq!(within(tracker.reader().session(SESSION)).await.unwrap(), None);
    assert_eq!(within(tracker.reader().audit()).await.unwrap().problems, [""; 0]);
}
