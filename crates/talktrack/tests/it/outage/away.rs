//! A database that cannot be reached, or that does not answer.

use std::sync::Arc;
use std::time::Duration;

use talktrack::store::Store;
use talktrack_testbed::{PgBouncer, Postgres, Proxy};
use talktrack_testkit::{PATIENCE, eventually};

use super::{SESSIONS, Talk};
use crate::node::Node;
use crate::postgres::{migrate, migrated, store_at};
use crate::support::within;

const UNREACHABLE: &str = "the database cannot be reached";

#[tokio::test]
async fn a_server_that_is_down_when_talktrack_starts_and_crashes_later_costs_nothing() {
    let mut postgres = Postgres::start();
    let database = postgres.database();
    migrate(&database).await;
    postgres.stop();
    let mut talk = Talk::over(&database.url()).await;
    talk.goes_on_despite("the database cannot be reached (error connecting to server: Connection refused")
        .await;
    postgres.start_again();
    talk.is_stored().await;
    for _ in 0..2 {
        talk.goes_on(20).await;
        postgres.stop();
        talk.goes_on_despite(UNREACHABLE).await;
        postgres.start_again();
    }
    talk.arrives().await;
}

#[tokio::test]
async fn a_network_that_is_cut_in_the_middle_of_writes_doubles_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let database = migrated().await;
    let proxy = Proxy::to(Postgres::shared().port());
    let mut talk = Talk::over(&database.url_at(proxy.port())).await;
    for _ in 0..10 {
        proxy.cut_after(random.usize(..30_000));
        while talk.node.tracker.health().store.is_none() {
            talk.goes_on(5).await;
        }
        proxy.cut();
        talk.goes_on_despite(UNREACHABLE).await;
        proxy.fix();
        talk.is_stored().await;
    }
    talk.arrives().await;
}

#[tokio::test]
async fn answers_that_are_lost_after_the_commit_double_nothing() {
    let database = migrated().await;
    let proxy = Proxy::to(Postgres::shared().port());
    let mut talk = Talk::over(&database.url_at(proxy.port())).await;
    talk.is_stored().await;
    let rows = || database.psql("SELECT count(*) FROM conversation_messages").parse::<usize>().unwrap();
    for _ in 0..3 {
        // With this delay the cut comes after the commit and before its answer.
        proxy.delay(Duration::from_millis(300));
        talk.goes_on(1).await;
        eventually("the server has committed", || rows() == talk.said * SESSIONS.len()).await;
        proxy.cut();
        proxy.delay(Duration::ZERO);
        talk.goes_on_despite(UNREACHABLE).await;
        proxy.fix();
        talk.is_stored().await;
    }
    talk.arrives().await;
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_named_before_patience_ends_and_may_answer_after_all() {
    let database = migrated().await;
    let proxy = Proxy::to(Postgres::shared().port());
    let mut talk = Talk::over(&database.url_at(proxy.port())).await;
    talk.is_stored().await;
    proxy.hang();
    talk.goes_on_despite("the store has not answered for 5 s").await;
    proxy.fix();
    talk.arrives().await;
}

#[tokio::test]
async fn a_database_that_has_never_answered_and_is_then_cut_off_costs_nothing() {
    let database = migrated().await;
    let proxy = Proxy::to(Postgres::shared().port());
    proxy.hang();
    let mut talk = Talk::over(&database.url_at(proxy.port())).await;
    talk.goes_on_despite("the store has not answered for 5 s").await;
    proxy.cut();
    talk.goes_on_despite(UNREACHABLE).await;
    proxy.fix();
    talk.arrives().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_database_that_does_not_answer() {
    let database = migrated().await;
    let proxy = Proxy::to(Postgres::shared().port());
    let mut talk = Talk::over(&database.url_at(proxy.port())).await;
    talk.is_stored().await;
    proxy.hang();
    talk.goes_on(5).await;
    // The shutdown must not wait for the timeout of the store.
    within(talk.node.tracker.shutdown(PATIENCE)).await.unwrap();
    let dir = talk.node.dies();
    proxy.fix();
    let store = Arc::new(store_at(&database.url_at(proxy.port()))) as Arc<dyn Store>;
    let node = Node::back(dir, &store, |options| options);
    assert_eq!(node.settled().await.stored, 20);
    for session in SESSIONS {
        assert_eq!(node.contents(session).await.len(), 5);
        assert_eq!(node.session(session).await.end_reason.as_deref(), Some("shutdown"));
    }
}

#[tokio::test]
async fn a_pooler_that_loses_its_connections_to_the_server_costs_nothing() {
    let database = migrated().await;
    let pooler = PgBouncer::shared();
    let mut talk = Talk::over(&pooler.url(&database)).await;
    for _ in 0..10 {
        talk.goes_on(20).await;
        super::terminate_connections(&database);
    }
    talk.arrives().await;
}
