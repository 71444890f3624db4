//! Case 1: the server is killed at random moments under load, while the database is available and while it is not.

use std::time::Duration;

use super::cut;
use super::judge::judge;
use super::stand::Stand;
use super::talkers::Manner;

/// The latest moment of a kill, in milliseconds after the first acknowledgement of its round.
const LATEST_MS: u64 = 300;

async fn kill_after_kill(stand: &Stand, case: &str) {
    let mut random = cut::random(case);
    let talkers = stand.talk(Manner { per_session: 500, ..Manner::default() });
    for _ in 0..cut::rounds(4, 700) {
        // In some rounds the database becomes unavailable, at the start or in the middle of a write.
        if let Some(remote) = stand.remote() {
            match random.u8(0..4) {
                0 => remote.proxy.cut(),
                1 => remote.proxy.cut_after(random.usize(1_000..200_000)),
                _ => remote.proxy.fix(),
            }
        }
        let server = stand.serve(&[]).await;
        stand.oracle.hears(1).await;
        // The moment must be random, so the test sleeps instead of waiting for a condition.
        tokio::time::sleep(Duration::from_millis(random.u64(0..LATEST_MS))).await;
        stand.kill(server).await;
    }
    if let Some(remote) = stand.remote() {
        remote.proxy.fix();
    }
    let server = stand.serve(&[]).await;
    talkers.fall_silent().await;
    judge(stand, &server).await.without_dead_letters();
    stand.stop(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_after_kill_nothing_acknowledged_is_lost_or_doubled() {
    kill_after_kill(&Stand::on_sqlite(), "kills, SQLite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_after_kill_with_postgresql_there_and_away_nothing_acknowledged_is_lost_or_doubled() {
    kill_after_kill(&Stand::on_postgres().await, "kills, PostgreSQL").await;
}
