//! Case 7: the connection breaks after `COMMIT` was sent and before its response arrives.

use std::time::Duration;

use super::cut;
use super::ordeal::Ordeal;
use super::rows;
use super::stand::Stand;
use crate::harness::{until, until_told};

/// Most commits take less.
const A_MOMENT: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_and_never_answered_is_there_once_and_counted_once() {
    let ordeal = Ordeal::begin(Stand::on_postgres().await).await;
    let stored = || rows::count(&ordeal.stand);
    for _ in 0..cut::rounds(4, 60) {
        let proxy = &ordeal.remote().proxy;
        // From here on, no response passes the proxy. The writes that the proxy holds back reach the database only
        // after the rows were counted, unless every lane had sent all its writes before; in that case no row is added
        // and the attempt is repeated.
        let holds_back = async || {
            let grows = async |from: u64| until("a new row", || (stored() > from).then_some(())).await;
            proxy.fix();
            grows(stored()).await;
            proxy.hang();
            let before = stored();
            proxy.mute();
            tokio::time::timeout(A_MOMENT, grows(before)).await.ok()
        };
        until_told("a commit is answered in vain", holds_back).await;
        proxy.cut();
        ordeal.complains_of("store: the database cannot be reached").await;
        proxy.fix();
        ordeal.recovers().await;
    }
    ordeal.ends().await.without_dead_letters();
}
