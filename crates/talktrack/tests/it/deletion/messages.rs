//! Messages that are removed while their session stays: nothing of their text remains in a file.

use talktrack::Deletion;
use talktrack::record::{Edit, MessagesEdit};
use talktrack::store::ErrorClass;
use talktrack_testkit::memory::MemoryStore;
use talktrack_testkit::{Setup, eventually};

use super::{SECRET, contents, files_with, long, two_sessions};
use crate::support::{SESSION, accept, dir, message, remote, store_error, within};

fn clear() -> MessagesEdit {
    let edit = Edit::Clear { waited: Vec::new() };
    MessagesEdit {
        session_id: SESSION,
        owner: None,
        told_to: None,
        by_user: false,
        written: Vec::new(),
        edit,
    }
}

async fn is_cleared_from_files(setup: Setup, store: Option<&MemoryStore>) {
    let tracker = setup.open(setup.options()).unwrap();
    two_sessions(&tracker).await;
    let path = setup.options().data_dir;
    within(tracker.flush_to_store()).await.unwrap();
    assert_ne!(files_with(SECRET, &path), [""; 0]);
    // With a remote store, more messages wait when the session is cleared.
    if let Some(store) = store {
        store.fail_when(|_| Some(store_error(ErrorClass::Transient, "the store is away")));
        drop(accept(&tracker, message(long(99))));
        within(tracker.flush()).await.unwrap();
    }
    let Deletion { here, in_store, .. } = tracker.delete_messages(clear()).unwrap();
    within(here.durable()).await.unwrap();
    within(tracker.wait_until_erased()).await;
    assert_eq!(files_with(SECRET, &path), [""; 0]);
    store.inspect(|store| store.fix());
    within(in_store.durable()).await.unwrap();
    assert_eq!(contents(&tracker, SESSION).await, [""; 0]);
    eventually("its words have left the files", || files_with(SECRET, &path).is_empty()).await;
    within(tracker.flush_to_store()).await.unwrap();
    let books = tracker.health().books;
    assert_eq!(books.durable, books.stored + books.dead_lettered, "{books:?}");
}

#[tokio::test]
async fn the_words_of_a_cleared_session_are_in_no_file_when_the_answer_comes() {
    let dir = dir();
    is_cleared_from_files(Setup::sqlite(dir.path()), None).await;
}

#[tokio::test]
async fn the_words_of_a_cleared_session_are_in_no_file_while_the_store_is_away() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    is_cleared_from_files(setup, Some(&store)).await;
}
