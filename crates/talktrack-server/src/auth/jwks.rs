//! The keys that a project publishes, kept at hand. They are fetched in the background, and sooner when a token names one that
//! is not there yet; while the project cannot be reached, the last ones go on counting.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use parking_lot::RwLock;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::fetch;
use super::key_set::KeySet;
use super::refused::Refused;
use super::signature::PinnedKey;

/// Where a Supabase project publishes its keys.
const PATH: &str = "/auth/v1/.well-known/jwks.json";

/// A larger document is not read: a key has half a KiB.
const MAX_BYTES: usize = 256 << 10;

/// How often the keys are fetched.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// While all is well. A key that the project has taken back stops counting after this at the latest.
    regular: Duration,
    /// After the first failure; twice as long after each further one, up to `longest_retry`.
    first_retry: Duration,
    longest_retry: Duration,
    /// Between two fetches that tokens with an unknown `kid` have led to: anybody can send such tokens.
    asked: Duration,
    /// How long one may take.
    deadline: Duration,
}

const PACE: Pace = Pace {
    regular: Duration::from_secs(600),
    first_retry: Duration::from_secs(1),
    longest_retry: Duration::from_secs(30),
    asked: Duration::from_secs(30),
    deadline: Duration::from_secs(5),
};

/// The published keys. Clones are one.
#[derive(Clone)]
pub(super) struct Jwks(Arc<Published>);

struct Published {
    url: Uri,
    pace: Pace,
    keys: RwLock<KeySet>,
    /// Held while the keys are fetched: whoever waits for it need not fetch them too.
    fetching: Mutex<Fetching>,
}

/// How fetching has gone so far.
#[derive(Default)]
struct Fetching {
    /// When a token with an unknown `kid` last led to a fetch.
    asked: Option<Instant>,
    /// The last fetch failed, and the log says so.
    is_failing: bool,
}

impl Jwks {
    /// The keys of the project at this URL.
    pub(super) fn of_project(url: &str) -> Self {
        // The settings hold nothing that does not parse; nothing can be fetched from nowhere.
        Self::new(format!("{url}{PATH}").parse().unwrap_or_default(), PACE)
    }

    fn new(url: Uri, pace: Pace) -> Self {
        Self(Arc::new(Published { url, pace, keys: RwLock::default(), fetching: Mutex::default() }))
    }

    /// Fetches the keys again and again.
    pub(super) async fn keep_fresh(&self) {
        let Pace { regular, first_retry, longest_retry, .. } = self.0.pace;
        let mut retry = first_retry;
        loop {
            let fetched = self.0.fetch(&mut *self.0.fetching.lock().await).await;
            let pause = if fetched { regular } else { retry };
            retry = if fetched { first_retry } else { longest_retry.min(retry * 2) };
            sleep(pause).await;
        }
    }

    /// True if the project publishes a key of this name, as far as is known.
    pub(super) fn has(&self, kid: &str) -> bool {
        self.0.find(kid).is_some()
    }

    /// The key of this name; waits for a fetch where it is not at hand and may be new.
    pub(super) async fn key(&self, kid: &str) -> Result<Arc<PinnedKey>, Refused> {
        if let Some(key) = self.0.find(kid) {
            return Ok(key);
        }
        // In a task of its own: whoever asked may leave, and the others still get the answer.
        let (published, kid) = (Arc::clone(&self.0), kid.to_owned());
        let looked = tokio::spawn(async move { published.look_again(&kid).await });
        looked.await.unwrap_or(Err(Refused::KeysOutOfReach))
    }
}

impl Published {
    fn find(&self, kid: &str) -> Option<Arc<PinnedKey>> {
        self.keys.read().find(kid)
    }

    async fn look_again(&self, kid: &str) -> Result<Arc<PinnedKey>, Refused> {
        let mut fetching = self.fetching.lock().await;
        // Somebody may have fetched it while we waited.
        let mut key = self.find(kid);
        if key.is_none() && fetching.asked.is_none_or(|asked| asked.elapsed() >= self.pace.asked) {
            fetching.asked = Some(Instant::now());
            self.fetch(&mut fetching).await;
            key = self.find(kid);
        }
        key.ok_or(if fetching.is_failing { Refused::KeysOutOfReach } else { Refused::UnknownKeyId })
    }

    /// Fetches the keys; those at hand stay where that fails. Whether it went well.
    async fn fetch(&self, fetching: &mut Fetching) -> bool {
        let document = timeout(self.pace.deadline, fetch::get(&self.url, MAX_BYTES)).await;
        let document = document.unwrap_or_else(|_| Err(format!("no answer for {:?}", self.pace.deadline)));
        match document.and_then(|document| KeySet::parse(&document)) {
            Ok(keys) => {
                if fetching.is_failing {
                    tracing::info!("the keys of users' tokens can be fetched again");
                }
                tracing::debug!("{} keys from {}", keys.len(), self.url);
                *self.keys.write() = keys;
                fetching.is_failing = false;
            }
            Err(why) => {
                if !fetching.is_failing {
                    let (url, known) = (&self.url, self.keys.read().len());
                    tracing::warn!(
                        "cannot fetch the keys of users' tokens from {url}: {why}; the last {known} go on counting"
                    );
                }
                fetching.is_failing = true;
            }
        }
        !fetching.is_failing
    }
}

#[cfg(test)]
mod tests {
    use talktrack::testing::eventually;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use super::*;

    /// Publishes one key under whatever name stands there now; hangs up where none does.
    async fn publish(name: watch::Receiver<&'static str>) -> Uri {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (kid, half) = (*name.borrow(), "A".repeat(43));
                if kid.is_empty() || stream.read(&mut [0; 1024]).await.is_err() {
                    continue;
                }
                let key = format!(r#"{{"kty":"EC","crv":"P-256","kid":"{kid}","x":"{half}","y":"{half}"}}"#);
                let body = format!(r#"{{"keys":[{key}]}}"#);
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        url.parse().unwrap()
    }

    #[tokio::test]
    async fn keys_come_and_go_by_themselves_and_stay_through_an_outage() {
        let (name, shown) = watch::channel("");
        let moment = Duration::from_millis(10);
        let pace = Pace { regular: moment, first_retry: moment, longest_retry: moment, ..PACE };
        let jwks = Jwks::new(publish(shown).await, pace);
        let fresh = jwks.clone();
        tokio::spawn(async move { fresh.keep_fresh().await });
        let is_failing = || jwks.0.fetching.try_lock().is_ok_and(|fetching| fetching.is_failing);
        let knows = |kid| jwks.0.find(kid).is_some();
        eventually("the first outage is noticed", is_failing).await;
        name.send_replace("first");
        eventually("the first key", || knows("first")).await;
        name.send_replace("");
        eventually("the second outage is noticed", is_failing).await;
        assert!(knows("first"));
        name.send_replace("second");
        eventually("the second key", || knows("second")).await;
        assert!(!knows("first"), "it was taken back");
    }
}
