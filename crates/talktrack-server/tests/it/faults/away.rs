//! Case 2: PostgreSQL stops, hangs, returns as a standby, runs out of connections, or has a full disk. Clients notice
//! nothing.

use std::path::Path;
use std::time::Duration;

use talktrack_testbed::{Postgres, SmallDisk, skip};

use super::cut;
use super::ordeal::Ordeal;
use super::stand::{Remote, Stand};

const UNREACHABLE: &str = "store: the database cannot be reached";
const READ_ONLY: &str =
    "(SQLSTATE 25006); the database is read-only: a standby, or a disk that is nearly full";

async fn stops(ordeal: &Ordeal, cluster: &mut Postgres) {
    cluster.stop();
    ordeal.goes_on_despite(UNREACHABLE).await;
    cluster.start_again();
    ordeal.recovers().await;
}

/// The restart breaks all statements in flight. It may be so short that `/readyz` never reports it, so the test does not
/// wait for that.
async fn restarts(ordeal: &Ordeal, cluster: &mut Postgres, random: &mut fastrand::Rng) {
    for _ in 0..cut::rounds(2, 15) {
        tokio::time::sleep(Duration::from_millis(random.u64(0..200))).await;
        cluster.stop();
        cluster.start_again();
        ordeal.goes_on().await;
    }
    ordeal.recovers().await;
}

async fn hangs(ordeal: &Ordeal, cluster: &Postgres) {
    let frozen = cluster.freeze();
    ordeal.goes_on_despite("store: the store has not answered for 5 s").await;
    drop(frozen);
    ordeal.recovers().await;
}

async fn is_a_standby(ordeal: &Ordeal, cluster: &mut Postgres) {
    cluster.stop();
    cluster.start_as_standby();
    ordeal.goes_on_despite(READ_ONLY).await;
    cluster.promote();
    ordeal.recovers().await;
}

async fn has_no_connection_left(ordeal: &Ordeal, cluster: &Postgres) {
    // The server is disconnected while other clients take all connections.
    ordeal.remote().proxy.cut();
    let occupied = cluster.occupy();
    ordeal.remote().proxy.fix();
    ordeal.goes_on_despite("too many clients already").await;
    drop(occupied);
    ordeal.recovers().await;
}

/// Connections that were open before keep their old setting, so the proxy cuts them.
async fn is_read_only(ordeal: &Ordeal) {
    let database = &ordeal.remote().database;
    let set = |on: &str| {
        database
            .psql(&format!("ALTER DATABASE {} SET default_transaction_read_only = {on}", database.name()));
    };
    set("on");
    ordeal.remote().proxy.cut();
    ordeal.remote().proxy.fix();
    ordeal.goes_on_despite(READ_ONLY).await;
    // The test's own session is read-only by default too, so it first allows itself to write.
    database.psql(&format!(
        "SET default_transaction_read_only = off; ALTER DATABASE {} SET default_transaction_read_only = off",
        database.name()
    ));
    ordeal.recovers().await;
}

async fn has_its_disk_full(ordeal: &Ordeal) {
    let database = &ordeal.remote().database;
    database.psql("CREATE TABLE filler (text text) TABLESPACE small");
    let fill = |rows: u32| {
        let text = "SELECT repeat('x', 1000)";
        database.try_psql(&format!("INSERT INTO filler {text} FROM generate_series(1, {rows})"))
    };
    // First in large steps, then row by row until the disk is full.
    while fill(1_000).is_ok() {}
    while fill(1).is_ok() {}
    ordeal.goes_on_despite("No space left on device (SQLSTATE 53100); the database's disk is full").await;
    database.psql("DROP TABLE filler");
    ordeal.recovers().await;
}

/// Starts a cluster with few connections, so that the test can take all of them.
fn cluster() -> Postgres {
    let mut cluster = Postgres::start();
    cluster.stop();
    cluster.start_with("max_connections = 30");
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_crashes_restarts_hangs_and_is_a_standby_for_a_while_costs_nothing() {
    let mut random = cut::random("a database that is away");
    let mut cluster = Postgres::start();
    let ordeal = Ordeal::begin(Stand::on_remote(Remote::on(&cluster).await)).await;
    for _ in 0..cut::rounds(1, 4) {
        stops(&ordeal, &mut cluster).await;
        restarts(&ordeal, &mut cluster, &mut random).await;
        is_a_standby(&ordeal, &mut cluster).await;
        hangs(&ordeal, &cluster).await;
    }
    ordeal.ends().await.without_dead_letters();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_read_only_has_no_connection_left_or_no_disk_for_a_while_costs_nothing() {
    let cluster = cluster();
    let data = cluster.psql("postgres", "SHOW data_directory");
    let disk = SmallDisk::for_owner_of(Path::new(&data), 16);
    let remote = Remote::on(&cluster).await;
    match &disk {
        Some(disk) => {
            remote.database.psql(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.path().display()));
            remote.database.psql("ALTER TABLE conversation_messages SET TABLESPACE small");
        }
        None => skip::missing("PostgreSQL on a full disk", "this process may not mount one (run as root)"),
    }
    let ordeal = Ordeal::begin(Stand::on_remote(remote)).await;
    for _ in 0..cut::rounds(1, 4) {
        has_no_connection_left(&ordeal, &cluster).await;
        is_read_only(&ordeal).await;
        if disk.is_some() {
            has_its_disk_full(&ordeal).await;
        }
    }
    ordeal.ends().await.without_dead_letters();
}
