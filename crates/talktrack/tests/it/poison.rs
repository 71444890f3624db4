//! A row that the store will never accept becomes a dead letter, and its neighbours are stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use talktrack::record::Record;
use talktrack::store::{ErrorClass, Rows as _};
use talktrack::{Message, NewSession, Role, SessionId, Tracker};
use talktrack_testkit::memory::MemoryStore;

use crate::support::{SESSION, USER, accept, dir, message, new_session, remote, sqlite, store_error, within};

fn is_poison(record: &Record) -> bool {
    record.message().is_some_and(|stamped| stamped.message.content.starts_with("poison"))
}

/// Makes the store refuse every batch that contains poison, without saying which row it is.
fn refuse_poison(store: &MemoryStore) {
    store.fail_when(|records| {
        records.iter().any(is_poison).then(|| store_error(ErrorClass::Data, "invalid byte sequence"))
    });
}

/// Returns the dead letters in their order, each as (message id, reason, detail, body).
fn dead_letters(connection: &Connection) -> Vec<(String, String, Option<String>, String)> {
    let mut query =
        connection.prepare("SELECT message_id, reason, detail, body FROM dead_letters ORDER BY seq").unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Tracks 500 messages with poison at these places, and checks that exactly these become dead letters.
async fn exactly_the_poison_is_laid_aside(places: &[usize]) {
    let dir = dir();
    let (setup, store) = remote(&dir);
    refuse_poison(&store);
    let tracker = setup.open(setup.options()).unwrap();
    drop(tracker.start_session(new_session()).unwrap());
    let text = |place: usize| {
        let word = if places.contains(&place) { "poison" } else { "message" };
        format!("{word} {place}")
    };
    let receipts: Vec<_> = (0..500).map(|place| accept(&tracker, message(text(place)))).collect();
    within(tracker.flush_to_store()).await.unwrap();

    let rows = store.messages(SESSION, None, 1_000).await.unwrap();
    let stored: Vec<_> = rows.into_iter().map(|row| row.content).collect();
    let expected: Vec<_> = (0..500).filter(|place| !places.contains(place)).map(text).collect();
    assert_eq!(stored, expected, "all neighbours, in their order");
    assert_eq!(store.session(SESSION).await.unwrap().unwrap().message_count, expected.len() as i64);

    let letters = dead_letters(&sqlite(dir.path()));
    let ids: Vec<_> = letters.iter().map(|letter| letter.0.clone()).collect();
    assert_eq!(ids, places.iter().map(|place| receipts[*place].id().to_string()).collect::<Vec<_>>());
    for ((_, reason, detail, body), place) in letters.iter().zip(places) {
        assert_eq!((reason.as_str(), detail.as_deref()), ("data", Some("invalid byte sequence")));
        let record: Record = serde_json::from_str(body).expect("a dead letter can be read back");
        assert_eq!(record.message().unwrap().message.content, text(*place), "whole");
    }
    let books = tracker.health().books;
    let dead = places.len() as u64;
    assert_eq!((books.durable, books.stored, books.dead_lettered), (500, 500 - dead, dead));
    for receipt in receipts {
        within(receipt).await.expect("each was durable long before");
    }
}

#[tokio::test]
async fn one_bad_row_among_500_is_laid_aside_alone() {
    exactly_the_poison_is_laid_aside(&[273]).await;
}

#[tokio::test]
async fn bad_rows_at_the_ends_and_side_by_side_are_laid_aside_alone() {
    exactly_the_poison_is_laid_aside(&[0, 1, 2, 250, 499]).await;
}

#[tokio::test]
async fn a_row_that_fails_once_is_no_dead_letter() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let mut alone = 0;
    store.fail_when(move |records| {
        let poison = records.iter().any(is_poison);
        alone += u64::from(poison && records.len() == 1);
        // Alone, the row is refused once and then accepted.
        (poison && alone < 2).then(|| store_error(ErrorClass::Data, "not yet"))
    });
    let tracker = setup.open(setup.options()).unwrap();
    drop(tracker.start_session(new_session()).unwrap());
    for text in ["before", "poison", "after"] {
        drop(accept(&tracker, message(text)));
    }
    within(tracker.flush_to_store()).await.unwrap();
    let rows = store.messages(SESSION, None, 10).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| row.content.as_str()).collect::<Vec<_>>(),
        ["before", "poison", "after"]
    );
    assert_eq!(tracker.health().books.dead_lettered, 0);
}

#[tokio::test]
async fn an_outage_while_the_bad_row_is_sought_makes_no_more_dead_letters() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let writes = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&writes);
    store.fail_when(move |records| {
        if seen.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            return Some(store_error(ErrorClass::Transient, "connection lost"));
        }
        records.iter().any(is_poison).then(|| store_error(ErrorClass::Data, "bad row"))
    });
    let tracker = setup.open(setup.options()).unwrap();
    drop(tracker.start_session(new_session()).unwrap());
    for text in ["1", "2", "3", "poison", "4"] {
        drop(accept(&tracker, message(text)));
    }
    within(tracker.flush_to_store()).await.unwrap();
    let rows = store.messages(SESSION, None, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.content.as_str()).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    assert_eq!(dead_letters(&sqlite(dir.path())).len(), 1);
    assert!(writes.load(Ordering::Relaxed) > 2, "the outage and the bad row met");
}

#[tokio::test]
async fn poison_in_one_session_does_not_hold_up_the_others() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    refuse_poison(&store);
    let tracker = setup.open(setup.options()).unwrap();
    let sessions: Vec<_> = (1..=12).map(SessionId::from_u128).collect();
    for &session in &sessions {
        drop(tracker.start_session(NewSession::new(session, USER)).unwrap());
        drop(accept(&tracker, Message::new(session, Role::User, "before")));
        drop(accept(&tracker, Message::new(session, Role::User, format!("poison {session}"))));
        drop(accept(&tracker, Message::new(session, Role::User, "after")));
    }
    within(tracker.flush_to_store()).await.unwrap();
    for session in sessions {
        let rows = store.messages(session, None, 10).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.content.as_str()).collect::<Vec<_>>(), ["before", "after"]);
    }
    assert_eq!(tracker.health().books.dead_lettered, 12);
}

#[tokio::test]
async fn the_sqlite_store_lays_aside_what_it_will_never_take_and_stores_its_neighbours() {
    let dir = dir();
    let tracker = Tracker::open(talktrack::Options::new(dir.path())).unwrap();
    within(tracker.start_session(new_session()).unwrap().durable()).await.unwrap();
    // A schema that has drifted as far as it can while other rows are still accepted.
    sqlite(dir.path())
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON conversation_messages WHEN NEW.content = 'poison' \
             BEGIN SELECT RAISE(ABORT, 'not this one'); END",
        )
        .unwrap();
    let receipts = ["one", "poison", "two"].map(|text| accept(&tracker, message(text)));
    let poison = receipts[1].id();
    for receipt in receipts {
        within(receipt).await.expect("kept, in the table or in the dead letters");
    }
    let rows = within(tracker.reader().messages(SESSION, None, 10)).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.content.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    let letters = dead_letters(&sqlite(dir.path()));
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].0.clone(), letters[0].1.as_str()), (poison.to_string(), "data"));
    assert!(
        letters[0].2.as_deref().is_some_and(|detail| detail.contains("not this one")),
        "{:?}",
        letters[0].2
    );
    let books = tracker.health().books;
    assert_eq!((books.durable, books.stored, books.dead_lettered), (3, 2, 1));
    assert_eq!(within(tracker.reader().audit()).await.unwrap().problems, [""; 0]);
}
