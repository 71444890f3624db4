//! Case 22: one user floods the server with rows that the database refuses. Meanwhile the rows of all other users are
//! stored, the server stays ready, and only the bad rows become dead letters.

use std::collections::BTreeSet;

use serde_json::json;
use uuid::Uuid;

use super::cut;
use super::judge::judge;
use super::rows;
use super::stand::Stand;
use super::talkers::Manner;
use crate::harness::{Client, Server};

/// Bad rows in each flood: this many once stopped every lane. They become dead letters some twenty at a time, with
/// pauses of up to ten seconds, so more rows only make the case longer.
const BAD: usize = 60;

/// Sends bad messages in a few sessions of one user and returns their ids.
async fn pour(server: &Server, user: Uuid) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for _ in 0..4 {
        let mut client = Client::join(server, Uuid::new_v4(), user).await;
        for number in 0..BAD / 4 {
            client.send(json!({"type": "message", "role": "user", "content": format!("bad {number}"), "ref": number})).await;
        }
        ids.extend(client.acks(BAD / 4).await.into_iter().map(|ack| ack.id));
        client.close().await;
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_rows_of_one_user_hold_up_nobody_else() {
    let stand = Stand::on_postgres().await;
    let database = &stand.remote().unwrap().database;
    database.psql("ALTER TABLE conversation_messages ADD CONSTRAINT polite CHECK (content NOT LIKE 'bad%')");
    let mut server = stand.serve(&[]).await;
    let talkers = stand.talk(Manner { talkers: 8, ahead: 10, per_session: 200, ..Manner::default() });
    stand.oracle.hears(100).await;
    let greedy = Uuid::new_v4();
    let mut bad = BTreeSet::new();
    for round in 0..cut::rounds(2, 10) {
        bad.extend(pour(&server, greedy).await);
        let before = rows::count(&stand);
        let count = || rows::count(&stand);
        let goes_on = async || (count() > before + 200).then_some(());
        crate::harness::until_within(super::PATIENCE, "rows of the others are stored", goes_on).await;
        server.readiness(200).await;
        if round % 2 == 1 {
            stand.kill(server).await;
            server = stand.serve(&[]).await;
        }
    }
    talkers.fall_silent().await;
    let dead = judge(&stand, &server).await.dead;
    assert_eq!(dead.into_keys().collect::<BTreeSet<_>>(), bad);
    stand.stop(server).await;
}
