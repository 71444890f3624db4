//! Case 2: three nodes write to one database. Each is killed, disconnected from the database and restarted at random,
//! while sessions move between them. A node never denies a session of which it has acknowledged a message.

use std::time::Duration;

use fastrand::Rng;
use serde_json::json;
use uuid::Uuid;

use super::cut;
use super::judge::judge_nodes;
use super::stand::Stand;
use super::talkers::Manner;
use crate::harness::Server;

const NODES: usize = 3;
/// The latest moment of a kill, in milliseconds after the first acknowledgement of its round.
const LATEST_MS: u64 = 200;
/// Sessions that are requested from a node after each of its starts.
const ASKED_FOR: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_after_kill_among_three_nodes_nothing_acknowledged_is_lost_doubled_or_denied() {
    let mut random = cut::random("kills, three nodes");
    let stands = Stand::nodes(NODES).await;
    let mut servers = Vec::new();
    for stand in &stands {
        servers.push(stand.serve(&[]).await);
    }
    let talkers = stands[0].talk(Manner { per_session: 200, ..Manner::default() });
    for _ in 0..cut::rounds(9, 700) {
        stands[0].oracle.hears(1).await;
        // The moment must be random, so the test sleeps instead of waiting for a condition.
        tokio::time::sleep(Duration::from_millis(random.u64(0..LATEST_MS))).await;
        let node = random.usize(0..NODES);
        let stand = &stands[node];
        let server = servers.swap_remove(node);
        stand.kill(server).await;
        cut_or_mend(stand, &mut random);
        servers.push(stand.serve(&[]).await);
        servers.swap(node, NODES - 1);
        denies_nothing(stand, &servers[node], &mut random).await;
    }
    for stand in &stands {
        stand.remote().expect("each node has a remote store").proxy.fix();
    }
    talkers.fall_silent().await;
    for (stand, server) in stands.iter().zip(&servers) {
        denies_nothing(stand, server, &mut random).await;
    }
    let nodes: Vec<_> = stands.iter().zip(&servers).collect();
    judge_nodes(&nodes).await.without_dead_letters();
    for (stand, server) in stands.iter().zip(servers) {
        stand.stop(server).await;
    }
}

/// In some rounds the node cannot reach the database, from the start or from the middle of a write.
fn cut_or_mend(stand: &Stand, random: &mut Rng) {
    let proxy = &stand.remote().expect("each node has a remote store").proxy;
    match random.u8(0..4) {
        0 => proxy.cut(),
        1 => proxy.cut_after(random.usize(1_000..200_000)),
        _ => proxy.fix(),
    }
}

/// Asserts that the node accepts messages of every session of which it has acknowledged something, and shows the
/// session. It may answer 503 while it cannot ask the database.
async fn denies_nothing(stand: &Stand, server: &Server, random: &mut Rng) {
    let sessions: Vec<Uuid> = {
        let notes = stand.oracle.notes();
        notes.acknowledged_by.get(&stand.node()).into_iter().flatten().copied().collect()
    };
    for session in random.choose_multiple(sessions, ASKED_FOR) {
        let path = format!("/v1/sessions/{session}");
        let shown = server.get(&path).await;
        assert!([200, 503].contains(&shown.status), "GET {path}: {shown:?}");
        let told = server.request("PATCH", &path).json(&json!({"metadata": {"asked": true}})).send().await;
        assert!([202, 503].contains(&told.status), "PATCH {path}: {told:?}");
    }
}
