//! Case 7: the connection is cut after `COMMIT` was sent and before its answer came back.

use std::time::Duration;

use super::cut;
use super::ordeal::Ordeal;
use super::rows;
use super::stand::Stand;
use crate::harness::{until, until_told};

/// A commit takes less, mostly.
const A_MOMENT: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_and_never_answered_is_there_once_and_counted_once() {
    let ordeal = Ordeal::begin(Stand::on_postgres().await).await;
    let stored = || rows::count(&ordeal.stand);
    for _ in 0..cut::rounds(4, 60) {
        let proxy = &ordeal.remote().proxy;
        // No answer passes from here on. What is held back with them reaches the database after it was counted, unless every
        // lane had sent everything before.
        let holds_back = async || {
            let grows = async |from: u64| until("a new row", || (stored() > from).then_some(())).await;
            proxy.mend();
            grows(stored()).await;
            proxy.hang();
            let before = stored();
            proxy.mute();
            tokio::time::timeout(A_MOMENT, grows(before)).await.ok()
        };
        until_told("a commit is answered in vain", holds_back).await;
        proxy.cut();
        ordeal.complains_of("store: the database cannot be reached").await;
        proxy.mend();
        ordeal.recovers().await;
    }
    ordeal.ends().await.without_dead_letters();
}
