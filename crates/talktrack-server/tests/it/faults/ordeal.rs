//! An ordeal: clients send messages to a server whose store has one fault after another, and nothing is restarted.

use std::time::{Duration, Instant};

use super::PATIENCE;
use super::judge::{Verdict, judge};
use super::stand::{Remote, Stand};
use super::talkers::{Manner, Talkers};
use crate::harness::{Server, until_within};

/// Longer than an acknowledgement takes on a busy machine, and shorter than any wait for an unavailable database.
const USUAL: Duration = Duration::from_secs(3);

/// Acknowledgements to wait for before and during each fault.
const SOME: usize = 100;

/// Enough load to keep every lane of the writer busy, and little enough that the recovery after a long fault is short.
pub(crate) const STEADY: Manner =
    Manner { talkers: 8, ahead: 20, pause: Duration::from_millis(5), per_session: 60 };

/// A server under a steady load.
pub(crate) struct Ordeal {
    pub(crate) stand: Stand,
    pub(crate) server: Server,
    talkers: Talkers,
}

impl Ordeal {
    /// Starts the clients and checks that acknowledgements arrive.
    pub(crate) async fn begin(stand: Stand) -> Self {
        let server = stand.serve(&[]).await;
        let talkers = stand.talk(STEADY);
        let ordeal = Self { stand, server, talkers };
        ordeal.goes_on().await;
        ordeal
    }

    /// Returns the remote store.
    pub(crate) fn remote(&self) -> &Remote {
        self.stand.remote().expect("an ordeal is that of a remote store")
    }

    /// Asserts that acknowledgements arrive at their usual speed.
    pub(crate) async fn goes_on(&self) {
        self.stand.oracle.notes().slowest = Duration::ZERO;
        self.stand.oracle.hears(SOME).await;
        let slowest = self.stand.oracle.notes().slowest;
        assert!(slowest < USUAL, "an acknowledgement took {slowest:?}");
    }

    /// Asserts that the server works during a fault that `/readyz` names in these words, and that the metrics and the
    /// log report it too. Returns the body of `/readyz`.
    pub(crate) async fn goes_on_despite(&self, words: &str) -> String {
        self.goes_on().await;
        let page = self.complains_of(words).await;
        self.server.shows("talktrack_store_up", 0.0).await;
        assert!(self.server.metric("talktrack_journal_pending").await > 0.0, "what is said waits");
        self.server.logged(words.trim_start_matches("store: ")).await;
        self.goes_on().await;
        page
    }

    /// Waits until `/readyz` names the fault in these words, and returns its body.
    pub(crate) async fn complains_of(&self, words: &str) -> String {
        let mut last = String::new();
        let begun = Instant::now();
        loop {
            let answer = self.server.get("/readyz").await;
            if answer.status == 503 && answer.body.contains(words) {
                return answer.body;
            }
            last = if answer.status == 503 { answer.body } else { last };
            assert!(begun.elapsed() < PATIENCE, "/readyz does not say {words:?}, but {last}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the server is ready again after the repair, while the clients continue.
    pub(crate) async fn recovers(&self) {
        let ready = async || (self.server.get("/readyz").await.status == 200).then_some(());
        until_within(PATIENCE, "/readyz says that all is well", ready).await;
        self.server.shows("talktrack_store_up", 1.0).await;
        self.goes_on().await;
    }

    /// Stops the clients and judges.
    pub(crate) async fn ends(self) -> Verdict {
        self.talkers.fall_silent().await;
        let verdict = judge(&self.stand, &self.server).await;
        self.stand.stop(self.server).await;
        verdict
    }
}
