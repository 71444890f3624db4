//! A cache of the keys that a Supabase project publishes. The server fetches them in the background, and immediately
//! when a token names a key that is not in the cache. While the project cannot be reached, the last keys stay valid.

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

/// The path at which a Supabase project publishes its keys.
const PATH: &str = "/auth/v1/.well-known/jwks.json";

/// The largest document that is read, in bytes. A key takes half a KiB.
const MAX_BYTES: usize = 256 << 10;

/// How often the keys are fetched.
#[derive(Debug, Clone, Copy)]
struct FetchTimes {
    /// The interval while fetches succeed. A key that the project has withdrawn stops being accepted after this time at
    /// the latest.
    regular: Duration,
    /// The backoff after the first failure. It doubles after each further failure, up to `longest_retry`.
    first_retry: Duration,
    longest_retry: Duration,
    /// The minimum time between two fetches that tokens with an unknown `kid` cause. Anyone can send such tokens.
    asked: Duration,
    /// How long one fetch may take.
    deadline: Duration,
}

const FETCH_TIMES: FetchTimes = FetchTimes {
    regular: Duration::from_secs(600),
    first_retry: Duration::from_secs(1),
    longest_retry: Duration::from_secs(30),
    asked: Duration::from_secs(30),
    deadline: Duration::from_secs(5),
};

/// The published keys. Cheap to clone; all clones refer to the same keys.
#[derive(Clone)]
pub(super) struct Jwks(Arc<Published>);

struct Published {
    url: Uri,
    times: FetchTimes,
    keys: RwLock<KeySet>,
    /// Held during a fetch. A task that waits for the lock finds the fetched keys and need not fetch them too.
    fetching: Mutex<Fetching>,
}

/// The state of fetching.
#[derive(Default)]
struct Fetching {
    /// When a token with an unknown `kid` last caused a fetch.
    asked: Option<Instant>,
    /// True if the last fetch failed. The failure was logged once.
    is_failing: bool,
}

impl Jwks {
    /// Returns the keys of the project at this URL.
    pub(super) fn of_project(url: &str) -> Self {
        // The settings contain only valid URLs. An empty URL would only make every fetch fail.
        Self::new(format!("{url}{PATH}").parse().unwrap_or_default(), FETCH_TIMES)
    }

    fn new(url: Uri, times: FetchTimes) -> Self {
        Self(Arc::new(Published { url, times, keys: RwLock::default(), fetching: Mutex::default() }))
    }

    /// Refreshes the keys for as long as the server runs.
    pub(super) async fn keep_fresh(&self) {
        let FetchTimes { regular, first_retry, longest_retry, .. } = self.0.times;
        let mut retry = first_retry;
        loop {
            let fetched = self.0.fetch_keys(&mut *self.0.fetching.lock().await).await;
            let pause = if fetched { regular } else { retry };
            retry = if fetched { first_retry } else { longest_retry.min(retry * 2) };
            sleep(pause).await;
        }
    }

    /// True if the cache has a published key of this name.
    pub(super) fn has_key(&self, kid: &str) -> bool {
        self.0.cached_key(kid).is_some()
    }

    /// Returns the key of this name. If it is not in the cache, waits for a fetch, unless an unknown key has caused one
    /// too recently.
    pub(super) async fn find_key(&self, kid: &str) -> Result<Arc<PinnedKey>, Refused> {
        if let Some(key) = self.0.cached_key(kid) {
            return Ok(key);
        }
        // The fetch runs in its own task: if this caller disconnects, the other callers still get the result.
        let published = Arc::clone(&self.0);
        let kid = kid.to_owned();
        let looked = tokio::spawn(async move { published.find_or_fetch(&kid).await });
        looked.await.unwrap_or(Err(Refused::KeysOutOfReach))
    }
}

impl Published {
    fn cached_key(&self, kid: &str) -> Option<Arc<PinnedKey>> {
        self.keys.read().find(kid)
    }

    async fn find_or_fetch(&self, kid: &str) -> Result<Arc<PinnedKey>, Refused> {
        let mut fetching = self.fetching.lock().await;
        // Another task may have fetched the key while this one waited for the lock.
        let mut key = self.cached_key(kid);
        if key.is_none() && fetching.asked.is_none_or(|asked| asked.elapsed() >= self.times.asked) {
            fetching.asked = Some(Instant::now());
            self.fetch_keys(&mut fetching).await;
            key = self.cached_key(kid);
        }
        key.ok_or(if fetching.is_failing { Refused::KeysOutOfReach } else { Refused::UnknownKeyId })
    }

    /// Fetches the keys, and returns true if that succeeded. After a failure the cached keys stay.
    async fn fetch_keys(&self, fetching: &mut Fetching) -> bool {
        let document = timeout(self.times.deadline, fetch::get(&self.url, MAX_BYTES)).await;
        let document = document.unwrap_or_else(|_| Err(format!("no answer for {:?}", self.times.deadline)));
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
                    let url = &self.url;
                    let known = self.keys.read().len();
                    tracing::warn!(
                        "cannot fetch the keys of users' tokens from {url}: {why}; the last {known} keys stay valid"
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
    use talktrack_testkit::eventually;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use super::*;

    /// Publishes one key under the current name in the channel; closes each connection if that name is empty.
    async fn publish(name: watch::Receiver<&'static str>) -> Uri {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let kid = *name.borrow();
                let half = "A".repeat(43);
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
        let times = FetchTimes { regular: moment, first_retry: moment, longest_retry: moment, ..FETCH_TIMES };
        let jwks = Jwks::new(publish(shown).await, times);
        let fresh = jwks.clone();
        tokio::spawn(async move { fresh.keep_fresh().await });
        let is_failing = || jwks.0.fetching.try_lock().is_ok_and(|fetching| fetching.is_failing);
        let knows = |kid| jwks.0.cached_key(kid).is_some();
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
