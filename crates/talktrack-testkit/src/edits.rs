//! Messages that are removed or replaced while their session is kept.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use std::collections::HashSet;

use talktrack::store::{EditedMessages, SessionFilter};
use talktrack::{EditError, NewSession};
use talktrack_core::error::NotDurable;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::message::{Author, Message, MessageStatus, Role};
use talktrack_core::record::{DeletionCounts, Edit, MessagesEdit};

use crate::search::found;
use crate::setup::Setup;
use crate::trial::{Trial, within};

const SESSION: SessionId = SessionId::from_u128(0xe8);
const OTHER_SESSION: SessionId = SessionId::from_u128(0xe9);
const USER: UserId = UserId::from_u128(0xf8);
const OTHER: UserId = UserId::from_u128(0xf9);

fn edit_by(owner: Option<UserId>, by_user: bool, edit: Edit) -> MessagesEdit {
    let told_to = owner.clone();
    MessagesEdit { session_id: SESSION, owner, told_to, by_user, written: Vec::new(), edit }
}

fn edit(edit: Edit) -> MessagesEdit {
    edit_by(None, false, edit)
}

/// Removes messages, here and in the store, and returns what was removed.
async fn remove(trial: &Trial, edit: MessagesEdit) -> DeletionCounts {
    let deletion = trial.tracker().delete_messages(edit).expect("accepted");
    let mut removed = within("the deletion", deletion.here.durable()).await.expect("durable");
    removed += within("the store's deletion", deletion.in_store.durable()).await.expect("the store does it");
    removed
}

async fn apply(trial: &Trial, edit: MessagesEdit) -> Result<EditedMessages, EditError> {
    within("the edit", trial.tracker().edit_messages(edit)).await
}

async fn pop(trial: &Trial, count: usize) -> Vec<String> {
    let popped = apply(trial, edit(Edit::Pop(count))).await.expect("the store does it");
    popped.removed.into_iter().map(|row| row.content).collect()
}

async fn replace(trial: &mut Trial, news: Vec<Message>) -> EditedMessages {
    let stamped = trial.tracker().stamp_replacement(news, &Author::Program).expect("accepted");
    trial.acknowledge(stamped.len());
    apply(trial, edit(Edit::Replace(stamped))).await.expect("the store does it")
}

fn said(content: &str) -> Message {
    Message::new(SESSION, Role::User, content)
}

/// A session with these messages, all stored. Returns their ids.
async fn session_with(setup: Setup, contents: &[&str]) -> (Trial, Vec<MessageId>) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    let mut ids = Vec::new();
    for content in contents {
        ids.push(trial.say(SESSION, Role::User, content).await);
    }
    trial.settled().await;
    (trial, ids)
}

pub async fn a_removed_message_is_gone_and_does_not_come_again(setup: Setup) {
    let (mut trial, ids) = session_with(setup, &["one", "two", "three"]).await;
    let removed = remove(&trial, edit(Edit::Delete(vec![ids[1]]))).await;
    assert_eq!(removed, DeletionCounts { messages: 1, ..DeletionCounts::default() });
    assert_eq!(trial.contents(SESSION).await, ["one", "three"]);
    assert_eq!(trial.session(SESSION).await.message_count, 2);
    for _ in 0..2 {
        for revision in [0, 7] {
            let again = said("two").with_id(ids[1]).with_revision(revision);
            assert_eq!(trial.track(again).await, Err(NotDurable::Deleted));
        }
        assert_eq!(remove(&trial, edit(Edit::Delete(vec![ids[1]]))).await, DeletionCounts::default());
        trial.say(SESSION, Role::User, "and on").await;
        trial.settled().await;
        trial = trial.restart().await;
    }
    assert_eq!(trial.contents(SESSION).await, ["one", "three", "and on", "and on"]);
    assert_eq!(trial.session(SESSION).await.message_count, 4);
}

pub async fn a_message_that_was_never_there_is_refused_once_it_was_removed(setup: Setup) {
    let (mut trial, _) = session_with(setup, &["one"]).await;
    let never = MessageId::from_u128(0x7e);
    assert_eq!(remove(&trial, edit(Edit::Delete(vec![never]))).await, DeletionCounts::default());
    assert_eq!(trial.track(said("late").with_id(never)).await, Err(NotDurable::Deleted));
    trial.settled().await;
    assert_eq!(trial.contents(SESSION).await, ["one"]);
}

pub async fn a_cleared_session_is_empty_and_goes_on(setup: Setup) {
    let (mut trial, ids) = session_with(setup, &["one", "two", "three"]).await;
    trial.start(NewSession::new(OTHER_SESSION, USER)).await;
    trial.say(OTHER_SESSION, Role::User, "elsewhere").await;
    trial.settled().await;
    assert_eq!(remove(&trial, edit(Edit::Clear { waited: Vec::new() })).await.messages, 3);
    assert_eq!(trial.contents(SESSION).await, [""; 0]);
    assert_eq!(trial.session(SESSION).await.message_count, 0);
    assert_eq!(trial.track(said("one").with_id(ids[0])).await, Err(NotDurable::Deleted));
    trial.say(SESSION, Role::User, "again").await;
    trial.settled().await;
    let trial = trial.restart().await;
    assert_eq!(trial.contents(SESSION).await, ["again"]);
    assert_eq!(trial.session(SESSION).await.message_count, 1);
    assert_eq!(trial.contents(OTHER_SESSION).await, ["elsewhere"]);
    assert_eq!(trial.sessions(SessionFilter::default()).await.len(), 2);
}

pub async fn what_was_accepted_before_a_clear_goes_with_it(setup: Setup) {
    let (mut trial, _) = session_with(setup, &[]).await;
    let tracker = trial.tracker().clone();
    let mut receipts: Vec<_> =
        (0..50).map(|number| tracker.track_message(said(&number.to_string())).expect("accepted")).collect();
    let deletion = tracker.delete_messages(edit(Edit::Clear { waited: Vec::new() })).expect("accepted");
    receipts.push(tracker.track_message(said("after")).expect("accepted"));
    trial.acknowledge(receipts.len());
    within("the deletion", deletion.here.durable()).await.expect("durable");
    within("in the store", deletion.in_store.durable()).await.expect("the store does it");
    for receipt in receipts {
        assert_eq!(within("a receipt", receipt.durable()).await, Ok(()));
    }
    trial.settled().await;
    assert_eq!(trial.contents(SESSION).await, ["after"]);
    assert_eq!(trial.session(SESSION).await.message_count, 1);
}

pub async fn the_last_messages_are_taken_and_returned_in_their_order(setup: Setup) {
    let (mut trial, _) = session_with(setup, &["one", "two"]).await;
    trial.say(SESSION, Role::Assistant, "three").await;
    assert_eq!(pop(&trial, 2).await, ["two", "three"]);
    assert_eq!(trial.contents(SESSION).await, ["one"]);
    assert_eq!(trial.session(SESSION).await.message_count, 1);
    assert_eq!(pop(&trial, 5).await, ["one"]);
    assert_eq!(pop(&trial, 1).await, [""; 0]);
    trial.settled().await;
    let trial = trial.restart().await;
    assert_eq!(trial.contents(SESSION).await, [""; 0]);
}

pub async fn no_two_of_many_who_take_the_last_message_get_the_same(setup: Setup) {
    let contents: Vec<String> = (0..40).map(|number| format!("turn {number}")).collect();
    let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
    let (trial, ids) = session_with(setup, &contents).await;
    let tracker = trial.tracker();
    let pops = (0..ids.len()).map(|_| {
        let tracker = tracker.clone();
        tokio::spawn(async move { tracker.edit_messages(edit(Edit::Pop(1))).await })
    });
    let mut popped = HashSet::new();
    for answer in pops.collect::<Vec<_>>() {
        let answer = within("a pop", answer).await.expect("it does not panic").expect("the store does it");
        popped.extend(answer.removed.into_iter().map(|row| row.id));
    }
    assert_eq!(popped, ids.into_iter().collect());
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await.message_count, 0);
}

pub async fn replaced_messages_have_the_order_and_the_ids_of_the_list(setup: Setup) {
    let (mut trial, ids) = session_with(setup, &["one", "two", "three"]).await;
    let before = trial.transcript(SESSION).await;
    let news =
        vec![said("zero"), said("THREE").with_id(ids[2]), said("two").with_id(ids[1]).with_revision(9)];
    let edited = replace(&mut trial, news).await;
    let removed: Vec<MessageId> = edited.removed.iter().map(|row| row.id).collect();
    assert_eq!((removed, edited.inserted), (vec![ids[0]], 1));
    trial.settled().await;
    let trial_rows = trial.transcript(SESSION).await;
    assert_eq!(edited.written, trial_rows);
    let written: Vec<_> = trial_rows.iter().map(|row| (row.content.as_str(), row.revision)).collect();
    assert_eq!(written, [("zero", 0), ("THREE", 1), ("two", 9)]);
    assert_eq!(
        trial_rows[2].seq, before[1].seq,
        "a replaced message keeps its place in the order of acceptance"
    );
    assert_eq!(trial.session(SESSION).await.message_count, 3);
    assert_eq!(trial.track(said("one").with_id(ids[0])).await, Err(NotDurable::Deleted));
    // A message that was removed comes again with a replacement, and not by itself.
    replace(&mut trial, vec![said("one again").with_id(ids[0])]).await;
    trial.settled().await;
    let mut trial = trial.restart().await;
    assert_eq!(trial.contents(SESSION).await, ["one again"]);
    trial.track(said("one more").with_id(ids[0]).with_revision(5)).await.expect("it is there again");
    trial.settled().await;
    assert_eq!(trial.contents(SESSION).await, ["one more"]);
    replace(&mut trial, Vec::new()).await;
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await.message_count, 0);
}

pub async fn an_id_of_another_session_replaces_nothing(setup: Setup) {
    let (mut trial, _) = session_with(setup, &["one"]).await;
    trial.start(NewSession::new(OTHER_SESSION, OTHER)).await;
    let foreign = trial.say(OTHER_SESSION, Role::User, "not yours").await;
    trial.settled().await;
    let news = vec![said("stolen").with_id(foreign)];
    let stamped = trial.tracker().stamp_replacement(news, &Author::Program).expect("accepted");
    let refused = apply(&trial, edit(Edit::Replace(stamped))).await;
    assert!(matches!(refused, Err(EditError::Refused(NotDurable::IdConflict))), "{refused:?}");
    trial.settled().await;
    assert_eq!(trial.contents(SESSION).await, ["one"]);
    assert_eq!(trial.contents(OTHER_SESSION).await, ["not yours"]);
}

pub async fn another_users_messages_are_neither_removed_nor_replaced(setup: Setup) {
    let (trial, ids) = session_with(setup, &["one", "two"]).await;
    let others = |change| edit_by(Some(OTHER), true, change);
    for change in [Edit::Delete(ids), Edit::Clear { waited: Vec::new() }] {
        let deletion = trial.tracker().delete_messages(others(change)).expect("accepted");
        let here = within("here", deletion.here.durable()).await;
        let in_store = within("in the store", deletion.in_store.durable()).await;
        assert!([here, in_store].contains(&Err(NotDurable::OtherUser)), "{here:?} {in_store:?}");
    }
    for change in [Edit::Pop(1), Edit::Replace(Vec::new())] {
        let refused = apply(&trial, others(change)).await;
        assert!(matches!(refused, Err(EditError::Refused(NotDurable::OtherUser))), "{refused:?}");
    }
    trial.settled().await;
    assert_eq!(trial.contents(SESSION).await, ["one", "two"]);
}

pub async fn a_user_removes_only_what_a_user_wrote(setup: Setup) {
    let (mut trial, ids) = session_with(setup, &["by a program"]).await;
    for content in ["mine", "mine too", "and mine"] {
        trial.track_as(said(content), Author::User(USER)).await.expect("durable");
    }
    trial.say(SESSION, Role::User, "by a program too").await;
    trial.settled().await;
    let users = |change| edit_by(Some(USER), true, change);
    let popped = apply(&trial, users(Edit::Pop(1))).await.expect("the store does it");
    assert_eq!(popped.removed[0].content, "and mine");
    assert_eq!(remove(&trial, users(Edit::Delete(ids))).await, DeletionCounts::default());
    assert_eq!(remove(&trial, users(Edit::Clear { waited: Vec::new() })).await.messages, 2);
    trial.settled().await;
    assert_eq!(trial.contents(SESSION).await, ["by a program", "by a program too"]);
}

pub async fn removing_what_was_not_final_leaves_the_count(setup: Setup) {
    let (mut trial, _) = session_with(setup, &["one"]).await;
    let going = said("go").with_status(MessageStatus::InProgress);
    let going = trial.track(going).await.expect("durable");
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await.message_count, 1);
    assert_eq!(remove(&trial, edit(Edit::Delete(vec![going]))).await.messages, 1);
    assert_eq!(trial.session(SESSION).await.message_count, 1);
    let news = vec![said("still going").with_status(MessageStatus::InProgress), said("two")];
    replace(&mut trial, news).await;
    trial.settled().await;
    assert_eq!((trial.contents(SESSION).await.len(), trial.session(SESSION).await.message_count), (2, 1));
}

pub async fn removed_words_are_found_no_more(setup: Setup) {
    let (mut trial, ids) =
        session_with(setup, &["a word to remove", "a word to replace", "a word to keep"]).await;
    found(&trial, "word", 3).await;
    remove(&trial, edit(Edit::Delete(vec![ids[0]]))).await;
    found(&trial, "word", 2).await;
    replace(&mut trial, vec![said("something else").with_id(ids[1]), said("a word to keep").with_id(ids[2])])
        .await;
    assert_eq!(found(&trial, "else", 1).await, ["something [else]"]);
    assert_eq!(found(&trial, "word", 1).await, ["a [word] to keep"]);
    pop(&trial, 1).await;
    found(&trial, "word", 0).await;
    trial.say(SESSION, Role::User, "a new word").await;
    assert_eq!(found(&trial, "word", 1).await, ["a new [word]"]);
}
