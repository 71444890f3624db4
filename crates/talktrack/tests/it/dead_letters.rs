//! Dead letters are replayed or deleted, and the books balance throughout, with both kinds of store.

use std::time::Duration;

use talktrack::clock::Seq;
use talktrack::record::{Body, Record};
use talktrack::store::sqlite::{DeadLetter, DeadLetterReader, Replayed, SqliteReader};
use talktrack::store::{ErrorClass, MessageRow, Read as _, Rows as _};
use talktrack::{
    Books, DATABASE_FILE, MessageId, NotDurable, Reason, RecordReceipt, SessionId, Tracker, UserId,
};
use talktrack_testkit::Setup;
use tempfile::TempDir;

use crate::support::{
    SESSION, StuckDisk, USER, accept, assert_pending, dir, downgrade, message, new_session, remote, sqlite,
    store_error, value, within,
};

const AMPLE: Duration = Duration::from_secs(120);

/// Runs a test with the SQLite file as the store, and again with the in-memory store behind an outbox.
async fn with_each_store(test: impl AsyncFn(&TempDir, &Setup)) {
    let local = dir();
    test(&local, &Setup::sqlite(local.path())).await;
    let outbox = dir();
    test(&outbox, &remote(&outbox).0).await;
}

fn open(setup: &Setup) -> Tracker {
    setup.open(setup.options()).unwrap()
}

/// Reopens the tracker, and waits until the end of a session that the previous run left open has reached the store.
async fn reopen(setup: &Setup) -> Tracker {
    let tracker = open(setup);
    within(tracker.flush_to_store()).await.unwrap();
    tracker
}

fn file(dir: &TempDir) -> SqliteReader {
    SqliteReader::open(&dir.path().join(DATABASE_FILE)).unwrap()
}

fn reader(dir: &TempDir) -> DeadLetterReader {
    file(dir).dead_letters()
}

async fn letters(dir: &TempDir) -> Vec<DeadLetter> {
    within(reader(dir).list(None, 1_000)).await.unwrap()
}

/// Tracks these messages for a session that was never started, and returns their dead letters.
async fn lay_aside(dir: &TempDir, tracker: &Tracker, texts: &[&str]) -> Vec<DeadLetter> {
    for text in texts {
        drop(accept(tracker, message(*text)));
    }
    within(tracker.flush_to_store()).await.unwrap();
    let letters = letters(dir).await;
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, vec!["unknown_session"; texts.len()]);
    letters
}

/// Starts the session whose absence made the dead letters.
async fn start(tracker: &Tracker) {
    within(tracker.start_session(new_session()).unwrap().durable()).await.unwrap();
}

/// Replays a dead letter, waits until its message is durable again, and keeps the dead letter.
async fn replay(tracker: &Tracker, letter: &DeadLetter) -> RecordReceipt {
    let record = letter.clone().intact().expect("a whole record");
    let receipt = tracker.replay_record(record).expect("the record is accepted");
    within(receipt.clone()).await.expect("durable again");
    receipt
}

async fn take_out(tracker: &Tracker, letters: &[Seq]) -> Vec<Seq> {
    within(tracker.delete_dead_letters(letters.to_vec())).await.unwrap()
}

async fn rows(tracker: &Tracker) -> Vec<MessageRow> {
    within(tracker.flush_to_store()).await.unwrap();
    within(tracker.reader().messages(SESSION, None, 1_000)).await.unwrap().rows
}

async fn contents(tracker: &Tracker) -> Vec<String> {
    rows(tracker).await.into_iter().map(|row| row.content).collect()
}

/// Checks that the books in memory and in the file balance and have these counts: messages that are
/// durable, dead-lettered, and taken out of the dead letters.
async fn assert_books(dir: &TempDir, tracker: &Tracker, durable: u64, dead: u64, taken_out: u64) {
    let books = tracker.health().books;
    assert_eq!((books.durable, books.dead_lettered, books.letters_taken_out), (durable, dead, taken_out));
    assert_eq!(books.durable, books.stored + books.dead_lettered + books.pending());
    let audit = within(file(dir).audit()).await.unwrap();
    assert_eq!((audit.books, audit.dead_letters), (Some(books), dead - taken_out));
    assert_eq!(audit.problems, [""; 0]);
}

#[tokio::test]
async fn a_letter_whose_cause_is_mended_reaches_the_store_and_leaves_the_dead_letters() {
    with_each_store(async |dir, setup| {
        let tracker = open(setup);
        let letters = lay_aside(dir, &tracker, &["one", "two"]).await;
        start(&tracker).await;
        let seqs: Vec<_> = letters.iter().map(|letter| letter.seq).collect();
        for letter in &letters {
            drop(replay(&tracker, letter).await);
        }
        assert_eq!(take_out(&tracker, &seqs).await, seqs);
        let rows = rows(&tracker).await;
        assert_eq!(rows.iter().map(|row| row.content.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        for (row, letter) in rows.iter().zip(&letters) {
            let stamped = letter.record.as_ref().unwrap().message().unwrap().clone();
            assert_eq!(
                (Some(row.id), row.created_at.clone()),
                (letter.message_id, stamped.created_at.into())
            );
            assert!(row.seq > Some(letter.seq), "accepted anew");
            assert_eq!(row.user_id, Some(USER));
        }
        assert_eq!(within(reader(dir).seqs()).await.unwrap(), [] as [Seq; 0]);
        assert_books(dir, &tracker, 4, 2, 2).await;
        within(tracker.shutdown(AMPLE)).await.unwrap();
        drop(tracker);
        assert_books(dir, &reopen(setup).await, 4, 2, 2).await;
    })
    .await;
}

#[tokio::test]
async fn a_letter_replayed_twice_is_stored_once() {
    with_each_store(async |dir, setup| {
        let tracker = open(setup);
        let letters = lay_aside(dir, &tracker, &["once"]).await;
        start(&tracker).await;
        drop(replay(&tracker, &letters[0]).await);
        // The state after a crash between the two steps: the message is stored, and its dead letter still exists.
        within(tracker.flush_to_store()).await.unwrap();
        drop(tracker);
        let tracker = reopen(setup).await;
        assert_books(dir, &tracker, 2, 1, 0).await;
        drop(replay(&tracker, &letters[0]).await);
        assert_eq!(take_out(&tracker, &[letters[0].seq]).await.len(), 1);
        assert_eq!(contents(&tracker).await, ["once"]);
        assert_books(dir, &tracker, 3, 1, 1).await;
        assert_eq!(take_out(&tracker, &[letters[0].seq]).await, [] as [Seq; 0], "it is out");
        assert_books(dir, &tracker, 3, 1, 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_letter_whose_cause_is_still_there_becomes_a_new_letter() {
    with_each_store(async |dir, setup| {
        let tracker = open(setup);
        let before = lay_aside(dir, &tracker, &["nobody's"]).await.remove(0);
        let receipt = replay(&tracker, &before).await;
        take_out(&tracker, &[before.seq]).await;
        within(tracker.flush_to_store()).await.unwrap();
        let after = letters(dir).await;
        assert_eq!(after.len(), 1);
        assert_eq!((after[0].seq, after[0].message_id), (receipt.seq(), before.message_id));
        let body = |letter: &DeadLetter| letter.record.as_ref().unwrap().body.clone();
        assert_eq!(body(&after[0]), body(&before), "whole");
        let replayed = within(reader(dir).replay_outcome(&receipt)).await.unwrap();
        assert_eq!(replayed, Replayed::DeadAgain(Box::new(after[0].clone())));
        assert_books(dir, &tracker, 2, 2, 1).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_dropped_is_gone_and_the_others_stay() {
    with_each_store(async |dir, setup| {
        let tracker = open(setup);
        let seqs: Vec<_> =
            lay_aside(dir, &tracker, &["a", "b", "c"]).await.iter().map(|letter| letter.seq).collect();
        assert_eq!(
            take_out(&tracker, &[seqs[1], Seq::new(7), seqs[1]]).await,
            [seqs[1]],
            "those that were there"
        );
        let left: Vec<_> = letters(dir).await.iter().map(|letter| letter.seq).collect();
        assert_eq!(left, [seqs[0], seqs[2]]);
        assert_books(dir, &tracker, 3, 3, 1).await;
        within(tracker.shutdown(AMPLE)).await.unwrap();
        assert_eq!(
            within(tracker.delete_dead_letters(vec![seqs[0]])).await,
            Err(NotDurable::Stopped),
            "nobody writes the file any more"
        );
    })
    .await;
}

#[tokio::test]
async fn letters_are_listed_in_pages_from_the_oldest_on() {
    let dir = dir();
    let tracker = open(&Setup::sqlite(dir.path()));
    let all = lay_aside(&dir, &tracker, &["a", "b", "c"]).await;
    let reader = reader(&dir);
    let page = within(reader.list(None, 2)).await.unwrap();
    assert_eq!(page, all[..2]);
    assert_eq!(within(reader.list(Some(page[1].seq), 2)).await.unwrap(), all[2..]);
    assert_eq!(within(reader.get(all[1].seq)).await.unwrap(), Some(all[1].clone()));
    assert_eq!(within(reader.get(Seq::new(7))).await.unwrap(), None);
}

#[tokio::test]
async fn a_replay_never_replaces_what_was_stored_under_its_id_meanwhile() {
    let dir = dir();
    let tracker = open(&Setup::sqlite(dir.path()));
    let said = |text: &str| message(text).with_id(MessageId::from_u128(1));
    drop(accept(&tracker, said("the first")));
    within(tracker.flush()).await.unwrap();
    start(&tracker).await;
    within(accept(&tracker, said("the other"))).await.unwrap();
    let letter = letters(&dir).await.remove(0);
    let receipt = tracker.replay_record(letter.intact().unwrap()).unwrap();
    assert_eq!(within(receipt).await, Err(NotDurable::IdConflict), "and the letter stays");
    assert_eq!(contents(&tracker).await, ["the other"]);
    assert_books(&dir, &tracker, 2, 1, 0).await;
}

#[tokio::test]
async fn a_whole_session_that_died_comes_back_in_its_order() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    store.fail_when(|records| {
        let any = records.iter().any(|record| record.session_id() == SESSION);
        any.then(|| store_error(ErrorClass::Data, "not today"))
    });
    let tracker = open(&setup);
    drop(tracker.start_session(new_session()).unwrap());
    drop(accept(&tracker, message("hello")));
    // The store accepts rows of another user, which shows that the refused rows themselves are bad.
    let other = SessionId::from_u128(0xa9);
    drop(tracker.start_session(talktrack::NewSession::new(other, UserId::from_u128(0xb9))).unwrap());
    drop(accept(&tracker, message("hello").with_session_id(other)));
    let metadata = talktrack::JsonObject::parse(r#"{"a":1}"#).unwrap();
    drop(tracker.update_session(SESSION, metadata.clone()).unwrap());
    drop(tracker.end_session(SESSION, "completed").unwrap());
    within(tracker.flush_to_store()).await.unwrap();
    store.fix();
    let letters = letters(&dir).await;
    let is_message = |record: &Record| matches!(record.body, Body::Message(_));
    let messages: Vec<_> = letters.iter().map(|letter| is_message(letter.record.as_ref().unwrap())).collect();
    assert_eq!(messages, [false, true, false, false]);
    assert!(letters.iter().all(|letter| letter.session_id == Some(SESSION)));
    for letter in &letters {
        drop(replay(&tracker, letter).await);
    }
    take_out(&tracker, &letters.iter().map(|letter| letter.seq).collect::<Vec<_>>()).await;
    assert_eq!(contents(&tracker).await, ["hello"]);
    let session = store.session(SESSION).await.unwrap().unwrap();
    assert_eq!((session.end_reason.as_deref(), session.metadata), (Some("completed"), Some(metadata.into())));
    assert_books(&dir, &tracker, 3, 1, 1).await;
}

#[tokio::test]
async fn a_replayed_letter_waits_for_a_store_that_is_away() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let tracker = open(&setup);
    let letter = lay_aside(&dir, &tracker, &["later"]).await.remove(0);
    start(&tracker).await;
    within(tracker.flush_to_store()).await.unwrap();
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    let receipt = replay(&tracker, &letter).await;
    let again = replay(&tracker, &letter).await;
    take_out(&tracker, &[letter.seq]).await;
    let whereabouts = async |receipt| within(reader(&dir).replay_outcome(receipt)).await.unwrap();
    assert_eq!(whereabouts(&receipt).await, Replayed::Pending);
    assert_eq!(whereabouts(&again).await, Replayed::Pending, "the same message waits already");
    assert_books(&dir, &tracker, 3, 1, 1).await;
    assert_eq!(tracker.health().books.pending(), 1);
    store.fix();
    assert_eq!(contents(&tracker).await, ["later"]);
    assert_eq!(whereabouts(&receipt).await, Replayed::Stored);
    assert_eq!(whereabouts(&again).await, Replayed::Stored);
    assert_books(&dir, &tracker, 3, 1, 1).await;
}

#[tokio::test]
async fn letters_are_taken_out_when_the_disk_answers_and_not_before() {
    let dir = dir();
    let tracker = open(&Setup::sqlite(dir.path()));
    let seq = lay_aside(&dir, &tracker, &["stuck"]).await[0].seq;
    let disk = StuckDisk::of(dir.path());
    let mut taking = Box::pin(tracker.delete_dead_letters(vec![seq]));
    assert_pending(&mut taking, "the disk has not answered").await;
    assert_eq!(tracker.health().books.letters_taken_out, 0);
    drop(disk);
    assert_eq!(within(taking).await.unwrap(), [seq]);
    assert_books(&dir, &tracker, 1, 1, 1).await;
}

#[tokio::test]
async fn a_record_that_cannot_be_taken_now_is_handed_back() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = open(&setup);
    let letter = lay_aside(&dir, &tracker, &["too long for what is allowed now"]).await.remove(0);
    let record = letter.intact().unwrap();
    drop(tracker);
    let tracker = setup.open(setup.options().with_max_message_bytes(10)).unwrap();
    let refused = tracker.replay_record(record.clone()).expect_err("refused");
    assert_eq!((refused.reason.code().as_str(), &refused.returned), ("too_large", &record));
    tracker.refuse_new_work();
    let refused = tracker.replay_record(record.clone()).expect_err("refused");
    assert_eq!((refused.reason, refused.returned), (Reason::ShuttingDown, record));
    assert_books(&dir, &tracker, 1, 1, 0).await;
}

#[tokio::test]
async fn a_letter_whose_bytes_have_changed_is_shown_and_not_replayed() {
    let dir = dir();
    let tracker = open(&Setup::sqlite(dir.path()));
    lay_aside(&dir, &tracker, &["a", "b"]).await;
    let file = sqlite(dir.path());
    file.execute(
        "UPDATE dead_letters SET body = 'what is this' WHERE seq = (SELECT min(seq) FROM dead_letters)",
        [],
    )
    .unwrap();
    file.execute(
        "UPDATE dead_letters SET reason = 'corrupt' WHERE seq = (SELECT max(seq) FROM dead_letters)",
        [],
    )
    .unwrap();
    let letters = letters(&dir).await;
    assert_eq!(letters[0].record, Err("what is this".to_owned()));
    assert!(letters[1].record.is_ok(), "readable, and yet not what was accepted");
    assert!(letters.into_iter().all(|letter| letter.intact().is_none()));
}

#[tokio::test]
async fn a_file_from_before_letters_could_be_taken_out_is_brought_up_to_date() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = open(&setup);
    let seq = lay_aside(&dir, &tracker, &["old"]).await[0].seq;
    drop(tracker);
    let newest: u64 = value(dir.path(), "PRAGMA user_version");
    downgrade(dir.path(), 1);
    let tracker = open(&setup);
    assert_eq!(tracker.health().books, Books { durable: 1, dead_lettered: 1, ..Books::default() });
    take_out(&tracker, &[seq]).await;
    assert_books(&dir, &tracker, 1, 1, 1).await;
    assert_eq!(value::<u64>(dir.path(), "PRAGMA user_version"), newest);
}

#[tokio::test]
async fn bytes_of_letters_are_kept_by_user_from_the_first_version_on() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = open(&setup);
    let old = lay_aside(&dir, &tracker, &["of nobody by name"]).await[0].seq;
    drop(tracker);
    let bytes = |of: &str| {
        value::<u64>(dir.path(), &format!("SELECT octet_length(body) FROM dead_letters WHERE {of}"))
    };
    let owned = r#"{"seq": 7, "body": {"message": {"owner": "00000000-0000-0000-0000-000000000007"}}}"#;
    let add = |seq: u64| {
        let sql = "INSERT INTO dead_letters (seq, reason, body, died_at) VALUES (?1, 'data', ?2, '2026-01-01T00:00:00.000000Z')";
        sqlite(dir.path()).execute(sql, rusqlite::params![seq, owned]).unwrap();
    };
    add(7);
    downgrade(dir.path(), 13);
    let tracker = open(&setup);
    add(8);
    let user = Some(UserId::from_u128(7));
    let one = bytes("seq = 7");
    let nobodys = bytes(&format!("seq = {old}"));
    assert_eq!(
        within(reader(&dir).bytes_by_user()).await.unwrap(),
        [(None, nobodys), (user.clone(), 2 * one)]
    );
    // A dead letter whose body is damaged can be taken out like any other.
    sqlite(dir.path()).execute("UPDATE dead_letters SET body = 'rot' WHERE seq = 7", []).unwrap();
    take_out(&tracker, &[Seq::new(7)]).await;
    assert_eq!(within(reader(&dir).bytes_by_user()).await.unwrap(), [(None, nobodys), (user, one)]);
    take_out(&tracker, &[Seq::new(8)]).await;
    take_out(&tracker, &[old]).await;
    assert_eq!(within(reader(&dir).bytes_by_user()).await.unwrap(), []);
}
