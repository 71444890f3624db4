//! Case 21: while the database is unavailable, a session starts on one node and another node accepts its messages. The
//! start and the messages reach the database in any order, and no message becomes a dead letter.

use serde_json::json;
use uuid::Uuid;

use super::cut;
use super::judge::judge_nodes;
use super::rows;
use super::saying::Saying;
use super::stand::Stand;
use super::talkers::Manner;
use crate::harness::Server;

/// Messages that the other node accepts of each session.
const SAID: usize = 25;

/// Sends these messages of the session to this node and records the acknowledgements.
async fn say(stand: &Stand, server: &Server, session: Uuid, steps: std::ops::Range<usize>) {
    for step in steps {
        let saying = Saying::at(session, step);
        stand.oracle.notes().sent(saying);
        let began = std::time::Instant::now();
        let path = format!("/v1/sessions/{session}/messages");
        let answer = server.request("POST", path).json(&saying.frame()).send().await;
        assert_eq!(answer.status, 202, "{answer:?}");
        stand.oracle.notes().heard(saying, stand.node(), began.elapsed(), None);
    }
}

async fn start(stand: &Stand, server: &Server, session: Uuid) {
    let body = json!({"session_id": session, "user_id": stand.user});
    let answer = server.request("POST", "/v1/sessions").json(&body).send().await;
    assert!([200, 201].contains(&answer.status), "{answer:?}");
    stand.oracle.notes().begun.insert(session);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_takes_of_a_session_that_another_node_started_in_an_outage_is_stored() {
    let stands = Stand::nodes(2).await;
    let mut servers = vec![stands[0].serve(&[]).await, stands[1].serve(&[]).await];
    let talkers = stands[0].talk(Manner { talkers: 2, ahead: 10, per_session: 100, ..Manner::default() });
    let cut_or_mend = |is_cut: bool| {
        for proxy in stands.iter().map(|stand| &stand.remote().unwrap().proxy) {
            if is_cut { proxy.cut() } else { proxy.fix() }
        }
    };
    for round in 0..cut::rounds(2, 40) {
        let (first, other) = if round % 2 == 0 { (0, 1) } else { (1, 0) };
        cut_or_mend(true);
        let session = Uuid::new_v4();
        start(&stands[first], &servers[first], session).await;
        say(&stands[other], &servers[other], session, 1..SAID).await;
        if round % 4 == 1 {
            let server = servers.remove(other);
            stands[other].kill(server).await;
            servers.insert(other, stands[other].serve(&[]).await);
        }
        // The node with the messages reconnects first, so the database does not know the session yet.
        stands[other].remote().unwrap().proxy.fix();
        stands[other].oracle.hears(50).await;
        say(&stands[other], &servers[other], session, SAID..2 * SAID).await;
        let stored =
            format!("SELECT count(*) AS n FROM conversation_messages WHERE session_id = '{session}'");
        assert_eq!(rows::number(&stands[0], &stored), 0, "its start is not there yet");
        cut_or_mend(false);
    }
    talkers.fall_silent().await;
    let nodes: Vec<_> = stands.iter().zip(&servers).collect();
    judge_nodes(&nodes).await.without_dead_letters();
    for (stand, server) in stands.iter().zip(servers) {
        stand.stop(server).await;
    }
}
