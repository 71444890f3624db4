//! A data directory whose outbox belongs to one PostgreSQL, and commands and servers with another store or none.
//! Messages in the outbox reach the store for which they were acknowledged and no other, unless a user redirects them.

use serde_json::json;
use talktrack_testbed::{Database, Postgres, Proxy};
use uuid::Uuid;

use crate::harness::remote::{arrives, migrated, said};
use crate::harness::{Client, Home, Server, until};

/// An unreachable store and a data directory with messages that wait for it.
struct Away {
    home: Home,
    proxy: Proxy,
    store: Database,
    session: Uuid,
    user: Uuid,
}

impl Away {
    /// Stores a message, cuts the connection, gets more messages acknowledged and stops the server.
    async fn with_backlog() -> Self {
        let home = Home::new();
        let store = migrated(Postgres::shared()).await;
        let proxy = Proxy::to(Postgres::shared().port());
        let server = home.serve_on(&store.url_at(proxy.port())).await;
        let mut client = Client::new(&server).await;
        client.say("stored").await;
        arrives(&store, client.session, &["stored"]).await;
        server.drained().await;
        proxy.cut();
        client.say("waits 1").await;
        client.say("waits 2").await;
        let session = client.session;
        let user = client.user;
        server.stop().await;
        Self { home, proxy, store, session, user }
    }

    fn url(&self) -> String {
        self.store.url_at(self.proxy.port())
    }

    /// Returns the name of the store that users see.
    fn name(&self) -> String {
        format!("postgres://127.0.0.1:{}/{}", self.proxy.port(), self.store.name())
    }

    async fn waiting(&self) -> u64 {
        let shown = self.home.look(&["outbox", "show", "--json"]).await.succeeded().json();
        assert_eq!(shown["store"], self.name(), "{shown}");
        shown["waiting"].as_u64().unwrap()
    }

    /// Restores the connection and asserts that every message is in its store once and none in the file's own tables.
    async fn comes_to_its_store(self, more: &[&str]) {
        self.proxy.fix();
        let server = self.home.serve_on(&self.url()).await;
        let all = [&["stored", "waits 1", "waits 2"], more].concat();
        arrives(&self.store, self.session, &all).await;
        server.drained().await;
        server.readiness(200).await;
        assert_eq!(self.home.database().messages(self.session).len(), 0, "the file is an outbox");
        server.stop().await;
        self.home.look_at(&self.url(), &["verify"]).await.succeeded();
    }
}

#[tokio::test]
async fn commands_without_database_url_do_not_empty_the_outbox() {
    let away = Away::with_backlog().await;
    let waiting = away.waiting().await;
    assert!(waiting >= 2, "{waiting}");
    let line = json!({"type": "session.start", "session_id": Uuid::new_v4(), "user_id": Uuid::new_v4()});
    let file = away.home.write("one.jsonl", format!("{line}\n"));
    for command in [
        &["dead-letters", "replay", "--all"][..],
        &["dead-letters", "drop", "--all", "--yes"],
        &["import", &file],
        &["export"],
    ] {
        let line = away.home.look(command).await.failed(1);
        assert!(
            line.contains(&away.name()) && line.contains("database_url is not set"),
            "{command:?}: {line}"
        );
        assert_eq!(away.waiting().await, waiting, "{command:?}");
    }
    let verified = away.home.look(&["verify"]).await;
    assert!(verified.code == Some(1) && verified.stdout.contains(&away.name()), "{verified:?}");
    for looking in [&["sessions"][..], &["show", &away.session.to_string()]] {
        let told = away.home.look(looking).await.stderr;
        assert!(told.contains("database_url is not set"), "{looking:?}: {told}");
    }
    away.comes_to_its_store(&[]).await;
}

#[tokio::test]
async fn a_server_without_database_url_acknowledges_into_the_outbox_and_says_what_is_missing() {
    let away = Away::with_backlog().await;
    let server = away.home.serve(&[]).await;
    let told = server.readiness(503).await;
    assert!(told.contains(&away.name()) && told.contains("talktrack outbox redirect --local"), "{told}");
    let mut client = Client::join(&server, away.session, away.user).await;
    client.say("waits 3").await;
    let read = server.get(&format!("/v1/sessions/{}/messages", away.session)).await;
    assert_eq!(read.status, 503, "{read:?}");
    assert_eq!(server.get("/v1/sessions").await.status, 503);
    server.stop().await;
    away.comes_to_its_store(&["waits 3"]).await;
}

async fn parks(server: &Server, away: &Away, other: &Database) {
    let told = server.readiness(503).await;
    assert!(told.contains("leads to another store") && told.contains(&away.name()), "{told}");
    assert!(told.contains(other.name()) && told.contains("talktrack outbox redirect"), "{told}");
}

#[tokio::test]
async fn a_server_on_another_database_acknowledges_and_brings_nothing_there() {
    let away = Away::with_backlog().await;
    let other = migrated(Postgres::shared()).await;
    let server = away.home.serve_on(&other.url()).await;
    parks(&server, &away, &other).await;
    let mut client = Client::join(&server, away.session, away.user).await;
    client.say("waits 3").await;
    let read = server.get("/v1/sessions").await;
    assert_eq!(read.status, 503, "{read:?}");
    let elsewhere = Client::new(&server).await;
    assert_eq!(server.metric("talktrack_store_up").await, 0.0);
    drop(elsewhere);
    server.stop().await;
    assert_eq!(other.psql("SELECT count(*) FROM conversation_sessions"), "0");
    let replayed = away.home.look_at(&other.url(), &["dead-letters", "replay", "--all"]).await.failed(1);
    assert!(replayed.contains("leads to another store"), "{replayed}");
    let verified = away.home.look_at(&other.url(), &["verify"]).await;
    assert!(verified.code == Some(1) && verified.stdout.contains("another store"), "{verified:?}");
    away.comes_to_its_store(&["waits 3"]).await;
}

#[tokio::test]
async fn the_outbox_goes_to_another_database_if_somebody_says_so() {
    let away = Away::with_backlog().await;
    let other = migrated(Postgres::shared()).await;
    let asked = away.home.look_at(&other.url(), &["outbox", "redirect"]).await.failed(2);
    assert!(asked.contains("add --yes") && asked.contains(&away.name()), "{asked}");
    let done = away.home.look_at(&other.url(), &["outbox", "redirect", "--yes"]).await.succeeded();
    assert!(done.stdout.contains(other.name()), "{done:?}");
    let server = away.home.serve_on(&other.url()).await;
    // Messages in the re-send window are delivered there too.
    arrives(&other, away.session, &["stored", "waits 1", "waits 2"]).await;
    server.drained().await;
    server.readiness(200).await;
    server.stop().await;
    assert_eq!(said(&away.store, away.session), ["stored"]);
}

#[tokio::test]
async fn a_running_server_gives_its_outbox_to_its_own_database_when_it_is_told() {
    let away = Away::with_backlog().await;
    let other = migrated(Postgres::shared()).await;
    let server = away.home.serve_on(&other.url()).await;
    parks(&server, &away, &other).await;
    let done = away.home.look_at(&other.url(), &["outbox", "redirect", "--yes"]).await.succeeded();
    assert!(done.stdout.contains(other.name()), "{done:?}");
    // Messages in the re-send window are delivered there too.
    arrives(&other, away.session, &["stored", "waits 1", "waits 2"]).await;
    server.readiness(200).await;
    let noted = || {
        let note = away.home.database().select("SELECT store_address AS address FROM directory");
        note[0]["address"].as_str().unwrap().contains(other.name()).then_some(())
    };
    until("the directory notes it", noted).await;
    server.stop().await;
}

#[tokio::test]
async fn the_outbox_comes_home_if_somebody_says_so() {
    let away = Away::with_backlog().await;
    let asked = away.home.look(&["outbox", "redirect", "--yes"]).await.failed(2);
    assert!(asked.contains("database_url names no other store"), "{asked}");
    let server = away.home.serve(&[]).await;
    let running = away.home.look(&["outbox", "redirect", "--local", "--yes"]).await.failed(1);
    assert!(running.contains("stop the server before using --local"), "{running}");
    server.stop().await;
    away.home.look(&["outbox", "redirect", "--local", "--yes"]).await.succeeded();
    let server = away.home.serve(&[]).await;
    server.readiness(200).await;
    let rows = away.home.database().messages(away.session);
    assert_eq!(rows.len(), 2, "{rows:?}");
    server.stop().await;
    away.home.look(&["verify"]).await.succeeded();
}

#[tokio::test]
async fn an_outbox_in_which_nothing_waits_follows_the_settings() {
    let home = Home::new();
    let first = migrated(Postgres::shared()).await;
    let second = migrated(Postgres::shared()).await;
    for store in [&first, &second] {
        // By default, the re-send window keeps confirmed messages in the outbox for some time, and the outbox would
        // still belong to the store.
        let server = home.serve(&["--database-url", &store.url(), "--resend-window", "1ms"]).await;
        let mut client = Client::new(&server).await;
        client.say("here").await;
        arrives(store, client.session, &["here"]).await;
        client.end("completed").await;
        server.drained().await;
        let is_empty = || {
            let left = home.database().count("SELECT count(*) FROM journal", &[]);
            (left == 0).then_some(())
        };
        until("nothing is kept any more", is_empty).await;
        server.stop().await;
    }
    let log = std::fs::read_to_string(home.log_path()).unwrap();
    assert!(log.contains("held no waiting records; it is now the outbox of"), "{log}");
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    client.say("in the file").await;
    assert_eq!(home.database().messages(client.session).len(), 1);
    server.stop().await;
}

/// Only the local tables were used, so the directory adopts the first PostgreSQL it is started with. The rows in the
/// local tables stay there.
#[tokio::test]
async fn a_directory_that_only_the_local_store_has_used_takes_the_first_store_it_meets() {
    let home = Home::new();
    let store = migrated(Postgres::shared()).await;
    let server = home.serve(&[]).await;
    let mut local = Client::new(&server).await;
    local.say("in the file").await;
    server.stop().await;
    let server = home.serve_on(&store.url()).await;
    let mut client = Client::new(&server).await;
    client.say("in the database").await;
    arrives(&store, client.session, &["in the database"]).await;
    assert_eq!(said(&store, local.session), Vec::<String>::new());
    assert_eq!(home.database().messages(local.session).len(), 1);
    server.stop().await;
}

/// The database contains the id of the store. A dump that is restored elsewhere is therefore the same store, and a
/// newly created database is not.
#[tokio::test]
async fn a_restored_dump_is_the_same_store_and_an_empty_one_of_the_same_name_is_not() {
    let away = Away::with_backlog().await;
    let copy = Postgres::shared().database_from(away.store.name());
    let server = away.home.serve_on(&copy.url()).await;
    arrives(&copy, away.session, &["stored", "waits 1", "waits 2"]).await;
    server.stop().await;

    let away = Away::with_backlog().await;
    away.store.psql("DELETE FROM conversation_store");
    Home::new().run(&["migrate", "--database-url", &away.store.url()]).await.succeeded();
    away.proxy.fix();
    let server = away.home.serve_on(&away.url()).await;
    let told = server.readiness(503).await;
    assert!(told.contains("leads to another store"), "{told}");
    server.stop().await;
    assert_eq!(said(&away.store, away.session), ["stored"]);
}

#[tokio::test]
async fn a_database_that_was_never_migrated_parks_the_writer_and_says_what_to_run() {
    let home = Home::new();
    let empty = Postgres::shared().database();
    let server = home.serve_on(&empty.url()).await;
    Client::new(&server).await.say("waits").await;
    let told = server.readiness(503).await;
    assert!(told.contains("run: talktrack migrate"), "{told}");
    home.run(&["migrate", "--database-url", &empty.url()]).await.succeeded();
    server.readiness(200).await;
    server.drained().await;
    empty.psql("DELETE FROM conversation_store");
    let told = home.run(&["doctor", "--database-url", &empty.url()]).await;
    assert!(told.stdout.contains("'conversation_store' shows no row"), "{told:?}");
    server.stop().await;
}

/// For example, a connection pooler that is switched to another database while the server runs.
#[tokio::test]
async fn a_database_that_is_exchanged_while_the_server_runs_gets_nothing() {
    let home = Home::new();
    let first = migrated(Postgres::shared()).await;
    let second = migrated(Postgres::shared()).await;
    let proxy = Proxy::to(Postgres::shared().port());
    let server = home.serve_on(&first.url_at(proxy.port())).await;
    let mut client = Client::new(&server).await;
    client.say("in the first").await;
    arrives(&first, client.session, &["in the first"]).await;
    server.drained().await;
    // The second database gets the name of the first.
    proxy.cut();
    let name = first.name().to_owned();
    let old = format!("{}_old", first.name());
    rename(&name, &old).await;
    rename(second.name(), &name).await;
    client.say("for the first").await;
    proxy.fix();
    server.logged("leads to another store").await;
    server.readiness(503).await;
    assert_eq!(Postgres::shared().psql(&name, "SELECT count(*) FROM conversation_sessions"), "0");
    proxy.cut();
    rename(&name, second.name()).await;
    rename(&old, &name).await;
    proxy.fix();
    arrives(&first, client.session, &["in the first", "for the first"]).await;
    server.readiness(200).await;
    server.stop().await;
}

/// Renames a database as soon as no client is connected to it.
async fn rename(from: &str, to: &str) {
    let sql = format!("ALTER DATABASE \"{from}\" RENAME TO \"{to}\"");
    let renamed = || Postgres::shared().try_psql("postgres", &sql).ok();
    until("the database is renamed", renamed).await;
}
