//! PostgreSQL is down, becomes unavailable, hangs or returns, while servers are stopped or killed. Clients notice
//! nothing, and no acknowledged message is lost or duplicated.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use talktrack_testbed::{Database, Postgres, Proxy};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::harness::remote::{all_said, arrives, has_status, migrated, said, session};
use crate::harness::{Client, Home, Oracle, gapless, until_told, within};

/// The number of connections at the same time.
const TALKERS: usize = 4;
/// Far longer than an ack takes on a busy machine, and far shorter than a database takes to return.
const SOON: Duration = Duration::from_secs(5);

async fn all_notice(talkers: Vec<JoinHandle<()>>) {
    for talker in talkers {
        within("the talker notices", talker).await.unwrap();
    }
}

/// Asserts that the database has every acknowledged message once and in order, in sessions that the next start after
/// the kill has closed.
async fn has_everything(database: &Database, oracle: &Oracle) {
    let stored = all_said(database);
    oracle.finds_everything_in(&stored);
    for id in oracle.sessions() {
        let row = has_status(database, id, "abandoned").await;
        let contents = said(database, id);
        assert_eq!(row["message_count"], json!(contents.len()), "{row}");
        gapless(&contents, id);
    }
    eprintln!("{} acknowledged, {} stored", oracle.count(), stored.len());
}

#[tokio::test]
async fn a_database_that_is_down_from_the_start_keeps_nobody_waiting_and_a_stop_neither() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let proxy = Proxy::to(Postgres::shared().port());
    proxy.cut();
    let url = database.url_at(proxy.port());
    let server = home.serve_on(&url).await;
    let mut client = Client::new(&server).await;
    let session_id = client.session;
    client.say("one").await;
    client.say("two").await;
    let told = server.readiness(503).await;
    assert!(told.contains("store: the database cannot be reached"), "{told}");
    server.shows("talktrack_store_up", 0.0).await;
    assert_eq!(server.metric("talktrack_journal_pending").await, 2.0);
    assert_eq!(server.metric("talktrack_messages_durable_total").await, 2.0);
    assert_eq!(server.metric("talktrack_messages_stored_total").await, 0.0);
    let retries = async || {
        let retries = server.metric("talktrack_store_retries_total{class=\"transient\"}").await;
        (retries >= 3.0).then_some(())
    };
    until_told("it is tried again", retries).await;
    server.logged("❌ Failed to save message: the database cannot be reached").await;
    let report = home.look_at(&database.url(), &["verify", "--json"]).await.succeeded().json();
    assert_eq!(
        (&report["balanced"], &report["pending"], &report["messages"]),
        (&json!(true), &json!(2), &json!(0))
    );

    let began = Instant::now();
    server.stop().await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let server = home.serve_on(&url).await;
    let mut client = Client::join(&server, session_id, client.user).await;
    client.say("three").await;
    assert_eq!(session(&database, session_id), None);
    proxy.fix();
    arrives(&database, session_id, &["one", "two", "three"]).await;
    server.readiness(200).await;
    server.shows("talktrack_store_up", 1.0).await;
    client.end("completed").await;
    let row = has_status(&database, session_id, "ended").await;
    assert_eq!((&row["message_count"], &row["end_reason"]), (&json!(3), &json!("completed")), "{row}");
    server.stop().await;
    home.look_at(&url, &["verify"]).await.succeeded();
}

#[tokio::test]
async fn what_waits_for_a_database_that_is_the_store_no_longer_goes_into_the_file() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let proxy = Proxy::to(Postgres::shared().port());
    let server = home.serve_on(&database.url_at(proxy.port())).await;
    let mut client = Client::new(&server).await;
    client.say("in the database").await;
    server.drained().await;
    proxy.cut();
    client.say("in the file").await;
    server.kill().await;
    home.look(&["outbox", "redirect", "--local", "--yes"]).await.succeeded();
    let server = home.serve(&[]).await;
    assert_eq!(home.database().contents(client.session), ["in the file"]);
    server.readiness(200).await;
    let mut client = Client::join(&server, client.session, client.user).await;
    client.say("and this one").await;
    server.stop().await;
    assert_eq!(home.database().contents(client.session), ["in the file", "and this one"]);
    home.verify().await;
}

#[tokio::test]
async fn a_database_that_hangs_halfway_holds_up_neither_acks_nor_a_stop() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let proxy = Proxy::to(Postgres::shared().port());
    let url = database.url_at(proxy.port());
    let server = home.serve_on(&url).await;
    let mut client = Client::new(&server).await;
    client.say("one").await;
    server.drained().await;
    proxy.hang();
    client.say("two").await;
    let began = Instant::now();
    server.stop().await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    proxy.fix();
    let server = home.serve_on(&url).await;
    server.drained().await;
    assert_eq!(said(&database, client.session), ["one", "two"]);
    assert_eq!(has_status(&database, client.session, "ended").await["end_reason"], "shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_the_server_is_killed_or_cut_off_or_both_nothing_acknowledged_is_lost_or_doubled() {
    let seed = fastrand::u64(..);
    eprintln!("the moments come from the seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let proxy = Proxy::to(Postgres::shared().port());
    let url = database.url_at(proxy.port());
    let oracle = Arc::new(Oracle::default());
    let user = Uuid::new_v4();
    let lasting: Vec<_> = (0..TALKERS / 2).map(|_| Uuid::new_v4()).collect();
    for round in 0..4 {
        let new = (lasting.len()..TALKERS).map(|_| Uuid::new_v4());
        let sessions: Vec<_> = lasting.iter().copied().chain(new).collect();
        let server = home.serve(&["--log-level", "warn", "--database-url", &url]).await;
        // In every other round the connection also breaks, in the middle of a write.
        if round % 2 == 1 {
            proxy.cut_after(random.usize(1_000..200_000));
        }
        let talkers = oracle.hears(&server, &sessions, user).await;
        // The moment must be random, so the test sleeps instead of waiting for a condition.
        tokio::time::sleep(Duration::from_millis(random.u64(0..300))).await;
        server.kill().await;
        proxy.fix();
        all_notice(talkers).await;
    }
    let server = home.serve_on(&url).await;
    server.drained().await;
    has_everything(&database, &oracle).await;
    home.look_at(&url, &["verify"]).await.succeeded();
    Client::join(&server, lasting[0], user).await.say("and it goes on").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_crashes_and_comes_back_is_noticed_by_nobody_who_talks() {
    let mut cluster = Postgres::start();
    let home = Home::new();
    let database = migrated(&cluster).await;
    let server = home.serve(&["--log-level", "warn", "--database-url", &database.url()]).await;
    let oracle = Arc::new(Oracle::default());
    let user = Uuid::new_v4();
    let sessions: Vec<_> = (0..TALKERS).map(|_| Uuid::new_v4()).collect();
    let talkers = oracle.hears(&server, &sessions, user).await;
    for _ in 0..2 {
        cluster.stop();
        let heard = oracle.count();
        server.readiness(503).await;
        oracle.has_heard_more_than(heard + 500).await;
        cluster.start_again();
        server.shows("talktrack_store_up", 1.0).await;
    }
    server.kill().await;
    all_notice(talkers).await;
    assert!(oracle.slowest() < SOON, "an ack took {:?}", oracle.slowest());
    let server = home.serve_on(&database.url()).await;
    server.drained().await;
    has_everything(&database, &oracle).await;
    home.look_at(&database.url(), &["verify"]).await.succeeded();
}

#[tokio::test]
async fn readiness_tells_of_a_database_that_is_away_or_has_drifted_before_anybody_speaks() {
    let home = Home::new();
    let database = Postgres::shared().database();
    let proxy = Proxy::to(Postgres::shared().port());
    proxy.cut();
    let url = database.url_at(proxy.port());
    let server = home.serve_on(&url).await;
    let told = server.readiness(503).await;
    assert!(told.contains("store: the database cannot be reached"), "{told}");
    server.shows("talktrack_store_up", 0.0).await;
    proxy.fix();
    let drifted = "Could not find the table 'public.conversation_sessions', and 6 more differences (run: talktrack migrate)";
    until_told("the tables are missed", async || {
        server.get("/readyz").await.body.contains(drifted).then_some(())
    })
    .await;
    home.run(&["migrate", "--database-url", &database.url()]).await.succeeded();
    server.readiness(200).await;
    server.shows("talktrack_store_up", 1.0).await;
    assert!(!server.log().contains("Failed to save"), "nobody wanted to save anything: {}", server.log());
    server.stop().await;
}
