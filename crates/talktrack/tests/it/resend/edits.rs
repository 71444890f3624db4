//! A store that forgets that messages were removed or replaced: the same messages are removed again, and no others.

use std::sync::Arc;

use talktrack::message::Author;
use talktrack::record::{Edit, MessagesEdit};
use talktrack::store::Store;
use talktrack::{Deletion, MessageId, SessionId};
use talktrack_testkit::memory::MemoryStore;

use super::postgres::{dump, restore};
use super::{has_all, texts};
use crate::node::Node;
use crate::postgres::{migrated, store_at};
use crate::support::{SESSION, accept, message, within};

/// A session in the same lane as [`SESSION`].
const NEIGHBOUR: SessionId = SessionId::from_u128(0xa4);

fn edit(edit: Edit) -> MessagesEdit {
    MessagesEdit {
        session_id: SESSION,
        owner: None,
        told_to: None,
        by_user: false,
        written: Vec::new(),
        edit,
    }
}

async fn remove(node: &Node, which: Edit) {
    let Deletion { here, in_store, .. } = node.tracker.delete_messages(edit(which)).unwrap();
    within(here.durable()).await.unwrap();
    within(in_store.durable()).await.unwrap();
}

/// Says these texts, and returns the ids of the messages.
async fn say(node: &Node, texts: &[String]) -> Vec<MessageId> {
    let receipts: Vec<_> = texts.iter().map(|text| accept(&node.tracker, message(text.clone()))).collect();
    let ids = receipts.iter().map(|receipt| receipt.id()).collect();
    node.settled().await;
    ids
}

async fn edits_are_repeated_as_they_were(store: Arc<dyn Store>, forget: impl AsyncFn(bool)) {
    let node = Node::on(&store);
    node.start(SESSION).await;
    node.start(NEIGHBOUR).await;
    let ids = say(&node, &texts(0..10)).await;
    forget(false).await;
    remove(&node, Edit::Delete(vec![ids[0]])).await;
    let popped = within(node.tracker.edit_messages(edit(Edit::Pop(1)))).await.unwrap();
    assert_eq!(popped.removed[0].id, ids[9]);
    say(&node, &["after".to_owned()]).await;
    let mut expected = texts(1..9);
    expected.push("after".to_owned());
    repeated(&node, &forget, &expected).await;

    remove(&node, Edit::Clear { waited: Vec::new() }).await;
    say(&node, &texts(20..23)).await;
    repeated(&node, &forget, &texts(20..23)).await;

    let news = vec![message("new"), message("replaced").with_id(ids[3])];
    let stamped = node.tracker.stamp_replacement(news, &Author::Program).unwrap();
    within(node.tracker.edit_messages(edit(Edit::Replace(stamped)))).await.unwrap();
    say(&node, &["last".to_owned()]).await;
    repeated(&node, &forget, &["new", "replaced", "last"].map(str::to_owned)).await;
}

/// Checks that the session has these messages, also after the store has forgotten what was done since the first message.
async fn repeated(node: &Node, forget: &impl AsyncFn(bool), expected: &[String]) {
    has_all(node, SESSION, expected).await;
    for text in ["first", "last"] {
        forget(true).await;
        node.say(NEIGHBOUR, text).await;
        has_all(node, SESSION, expected).await;
        assert_eq!(node.session(SESSION).await.message_count, expected.len() as i64);
    }
}

#[tokio::test]
async fn what_an_edit_removed_is_removed_again_and_what_was_said_since_stays_in_memory() {
    let store = MemoryStore::new();
    let snapshot = parking_lot::Mutex::new(None);
    let way = Arc::new(store.clone()) as Arc<dyn Store>;
    let forget = async |forgets: bool| {
        let mut snapshot = snapshot.lock();
        if forgets { store.restore(snapshot.as_ref().unwrap()) } else { *snapshot = Some(store.snapshot()) }
    };
    edits_are_repeated_as_they_were(way, forget).await;
}

#[tokio::test]
async fn what_an_edit_removed_is_removed_again_and_what_was_said_since_stays_in_postgresql() {
    let database = migrated().await;
    let way = Arc::new(store_at(&database.url())) as Arc<dyn Store>;
    let forget = async |forgets: bool| if forgets { restore(&database) } else { dump(&database) };
    edits_are_repeated_as_they_were(way, forget).await;
}
