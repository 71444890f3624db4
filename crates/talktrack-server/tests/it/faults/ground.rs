//! Case 16: a server loses its data directory or its database. The directory is moved away under load and back, and the
//! outbox gets the address of another database or of none. Nothing is acknowledged that the next start would not find,
//! and nothing is delivered to the wrong database.

use talktrack_testbed::Postgres;

use super::cut;
use super::judge::judge;
use super::rows;
use super::stand::Stand;
use super::talkers::Manner;
use crate::harness::remote::migrated;

async fn moved_away(stand: &Stand) {
    let talkers = stand.talk(Manner { per_session: 300, ..Manner::default() });
    let server = stand.serve(&[]).await;
    let data_dir = stand.home.data_dir();
    let away = stand.home.path("away");
    for _ in 0..cut::rounds(2, 20) {
        stand.oracle.hears(100).await;
        std::fs::rename(&data_dir, &away).unwrap();
        let told = server.readiness(503).await;
        assert!(told.contains("nothing is acknowledged any more"), "{told}");
        std::fs::rename(&away, &data_dir).unwrap();
        server.readiness(200).await;
    }
    stand.oracle.hears(100).await;
    talkers.fall_silent().await;
    judge(stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_that_is_moved_away_and_put_back_costs_nothing() {
    moved_away(&Stand::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_that_is_moved_away_and_put_back_costs_nothing() {
    moved_away(&Stand::on_postgres().await).await;
}

/// Servers run one after the other on one data directory: with the right database, with another one, with none, and
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_one_database_reaches_no_other_whatever_the_settings_say_meanwhile() {
    let stand = Stand::on_postgres().await;
    let other = migrated(Postgres::shared()).await;
    let talkers = stand.talk(Manner { per_session: 300, ..Manner::default() });
    let server = stand.serve(&[]).await;
    stand.oracle.hears(100).await;
    stand.stop(server).await;
    let other_url = other.url();
    for flags in [&["--database-url", &other_url][..], &[]] {
        for _ in 0..cut::rounds(1, 5) {
            let server = stand.serve_as(stand.home.server_command(flags)).await;
            stand.oracle.hears(100).await;
            server.readiness(503).await;
            stand.kill(server).await;
        }
    }
    let server = stand.serve(&[]).await;
    stand.oracle.hears(100).await;
    talkers.fall_silent().await;
    judge(&stand, &server).await.without_dead_letters();
    assert_eq!(other.psql("SELECT count(*) FROM conversation_sessions"), "0");
    assert_eq!(rows::number(&stand, "SELECT count(*) AS n FROM conversation_store"), 1);
    stand.stop(server).await;
}
