//! A node that could not reach the database delivers records that were deleted over another node in the meantime.

use talktrack::{Deletion, DeletionCounts, JsonObject, Message, NotDurable, Role, SessionId, UserId};
use talktrack_testbed::{Database, Postgres, Proxy};

use super::{OTHER_SESSION, SECRET, files_with};
use crate::node::Node;
use crate::postgres::migrated;
use crate::support::{SESSION, USER, accept, message, new_session, value, within};

const OTHER_USER: UserId = UserId::from_u128(0xb1);

/// Two nodes on one database. The node `held` cannot reach it.
struct Scene {
    database: Database,
    proxy: Proxy,
    held: Node,
    node: Node,
}

impl Scene {
    async fn new() -> Self {
        let database = migrated().await;
        let proxy = Proxy::to(Postgres::shared().port());
        proxy.cut();
        let held = Node::at(&database.url_at(proxy.port()));
        let node = Node::at(&database.url());
        Self { database, proxy, held, node }
    }

    /// The user starts a session on the held node and talks there.
    async fn talk(&self) {
        self.held.start(SESSION).await;
        self.held.say(SESSION, format!("{SECRET} before")).await;
        self.describe().await;
    }

    async fn describe(&self) {
        let metadata = JsonObject::parse(&format!(r#"{{"note": "{SECRET}"}}"#)).unwrap();
        within(self.held.tracker.update_session(SESSION, metadata).unwrap()).await.unwrap();
    }

    /// Deletes a session over the node that reaches the database.
    async fn delete(&self, session: SessionId, owner: Option<UserId>) -> DeletionCounts {
        self.done(self.node.tracker.delete_session(session, owner).unwrap()).await
    }

    async fn delete_user(&self, user: UserId) {
        assert_eq!(self.done(self.node.tracker.delete_user(user).unwrap()).await, DeletionCounts::default());
    }

    async fn done(&self, Deletion { here, in_store, .. }: Deletion) -> DeletionCounts {
        within(here.durable()).await.unwrap();
        within(in_store.durable()).await.unwrap()
    }

    /// Makes the held node deliver everything, and checks that nothing of the session exists anywhere afterwards.
    async fn nothing_is_left(&self) {
        self.held.say(SESSION, format!("{SECRET} after")).await;
        self.describe().await;
        within(self.held.tracker.end_session(SESSION, "completed").unwrap().durable()).await.unwrap();
        self.proxy.fix();
        let books = self.held.settled().await;
        assert_eq!((books.durable, books.stored, books.letters()), (2, 0, 0));
        assert_eq!(self.rows(), "0 0");
        assert!(self.held.dead_letters().is_empty());
        assert_eq!(value::<u64>(self.held.dir(), "SELECT count(*) FROM dead_letters"), 0);
        within(self.held.tracker.wait_until_erased()).await;
        assert_eq!(files_with(SECRET, self.held.dir()), [""; 0]);
        self.held.tracker.sweep();
        assert_eq!(self.held.tracker.sessions_of_user(&USER), [SESSION; 0], "the claim has fallen");
    }

    /// Returns the numbers of sessions and messages in the database.
    fn rows(&self) -> String {
        let count = "SELECT (SELECT count(*) FROM conversation_sessions) || ' ' || (SELECT count(*) FROM conversation_messages)";
        self.database.psql(count).trim().to_owned()
    }
}

#[tokio::test]
async fn a_session_that_a_key_deleted_while_it_waited_on_another_node_does_not_come_back() {
    let scene = Scene::new().await;
    scene.talk().await;
    assert_eq!(scene.delete(SESSION, None).await, DeletionCounts::default());
    scene.nothing_is_left().await;
    let start = scene.held.tracker.start_session(new_session()).unwrap();
    assert_eq!(within(start.durable()).await, Err(NotDurable::Deleted));
}

#[tokio::test]
async fn a_session_that_its_user_deleted_while_it_waited_on_another_node_does_not_come_back() {
    let scene = Scene::new().await;
    scene.talk().await;
    assert_eq!(scene.delete(SESSION, Some(USER)).await, DeletionCounts::default());
    scene.nothing_is_left().await;
    // The tombstone applies only to this user, so another user may start a session with the same id.
    scene.node.start_as(SESSION, OTHER_USER).await;
    scene.node.say(SESSION, "hello").await;
    scene.node.settled().await;
    assert_eq!(scene.rows(), "1 1");
}

#[tokio::test]
async fn sessions_that_waited_on_another_node_when_their_user_was_deleted_do_not_come_back() {
    let scene = Scene::new().await;
    scene.talk().await;
    scene.delete_user(USER).await;
    scene.nothing_is_left().await;
    // A session that starts after the deletion is a new one.
    scene.held.start(SESSION).await;
    scene.held.say(SESSION, "hello again").await;
    scene.node.start(OTHER_SESSION).await;
    scene.node.settled().await;
    scene.held.settled().await;
    assert_eq!(scene.rows(), "2 1");
}

#[tokio::test]
async fn a_session_that_began_anew_after_its_user_was_deleted_takes_nothing_that_was_said_before() {
    let scene = Scene::new().await;
    scene.talk().await;
    scene.delete_user(USER).await;
    scene.node.start(SESSION).await;
    scene.node.say(SESSION, "hello again").await;
    scene.node.settled().await;
    scene.proxy.fix();
    let books = scene.held.settled().await;
    assert_eq!((books.stored, books.letters()), (0, 0));
    assert_eq!(scene.node.contents(SESSION).await, ["hello again"]);
    assert!(
        scene
            .node
            .session(SESSION)
            .await
            .metadata
            .is_none_or(|metadata| !format!("{metadata:?}").contains(SECRET))
    );
}

#[tokio::test]
async fn another_users_claim_to_a_session_that_a_user_deleted_is_stored_as_if_nothing_had_been() {
    let scene = Scene::new().await;
    scene.held.start_as(SESSION, OTHER_USER).await;
    scene.held.say(SESSION, "mine").await;
    assert_eq!(scene.delete(SESSION, Some(USER)).await, DeletionCounts::default());
    scene.delete_user(USER).await;
    scene.proxy.fix();
    scene.held.settled().await;
    assert_eq!(scene.held.contents(SESSION).await, ["mine"]);
    let refused = scene.node.tracker.delete_session(SESSION, Some(USER)).unwrap();
    assert_eq!(within(refused.in_store.durable()).await, Err(NotDurable::OtherUser));
    assert_eq!(scene.rows(), "1 1");
}

#[tokio::test]
async fn a_users_deletion_takes_what_was_accepted_for_the_user_and_leaves_another_users_claim() {
    let scene = Scene::new().await;
    for user in [USER, OTHER_USER] {
        scene.held.start_as(SESSION, user.clone()).await;
        let text = format!("{SECRET} of {user}");
        let claim = talktrack::Author::ProgramFor(user);
        within(scene.held.tracker.track_message_as(Message::new(SESSION, Role::User, text), &claim).unwrap())
            .await
            .unwrap();
    }
    let Deletion { here, in_store, .. } = scene.held.tracker.delete_session(SESSION, Some(USER)).unwrap();
    assert_eq!(within(here.durable()).await.map(|removed| removed.journal), Ok(1));
    within(scene.held.tracker.wait_until_erased()).await;
    assert_eq!(files_with(&format!("{SECRET} of {USER}"), scene.held.dir()), [""; 0]);
    scene.proxy.fix();
    scene.held.settled().await;
    assert_eq!(within(in_store.durable()).await, Err(NotDurable::OtherUser), "the other start came first");
    assert_eq!(scene.held.contents(SESSION).await, [format!("{SECRET} of {OTHER_USER}")]);
}

#[tokio::test]
async fn the_marks_of_one_user_are_bounded_and_take_no_room_from_others() {
    let scene = Scene::new().await;
    scene.delete(SESSION, Some(OTHER_USER)).await;
    let sessions = (0..1_010).map(|number| SessionId::from_u128(0xde1e_0000 + number));
    let deletions: Vec<_> =
        sessions.map(|id| scene.node.tracker.delete_session(id, Some(USER)).unwrap()).collect();
    for deletion in deletions {
        scene.done(deletion).await;
    }
    // Lanes that delete at the same moment do not see each other's tombstones, so more than 1,000 may be
    // left. The next deletion removes the surplus.
    scene.delete(OTHER_SESSION, Some(USER)).await;
    let marks = "SELECT string_agg(marks::text, ' ' ORDER BY marks) FROM \
                 (SELECT count(*) AS marks FROM conversation_user_deletions GROUP BY user_id) AS users";
    assert_eq!(scene.database.psql(marks).trim(), "1 1000");
    let marks = "SELECT count(*) FROM deleted_claims";
    assert_eq!(value::<u64>(scene.node.dir(), marks), 1_001);
    drop(accept(&scene.node.tracker, message("still works")));
}
