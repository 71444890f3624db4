//! Limits how much one user may read: bytes over time, and responses produced at once. The size of a response is not
//! known before it is made, so a response may run up a debt. Until the debt is paid off, the next request is refused
//! and streams wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{Account, Limits, RateLimited};
use crate::config::Rate;

/// How many responses are produced for one user at once. A page holds at most 4 MiB of text.
const AT_ONCE: usize = 8;

/// Counts the bytes that each key has read.
pub(super) struct ReadRates<K> {
    /// The time that pays for one KiB.
    interval: Duration,
    /// As much as this time pays for may be read at once.
    burst: Duration,
    readers: Mutex<HashMap<K, Reader>>,
}

struct Reader {
    /// When everything read so far is paid off. Up to [`ReadRates::burst`] ahead of the present is not a debt.
    paid_at: Instant,
    at_once: Arc<Semaphore>,
}

impl<K: Hash + Eq + Clone> ReadRates<K> {
    /// Makes limits under which as much as `burst` pays for may be read at once.
    pub(super) fn new(rate: Rate, burst: Duration) -> Self {
        Self { interval: rate.interval(), burst, readers: Mutex::default() }
    }

    /// Waits until fewer than [`AT_ONCE`] responses are being produced for this reader.
    pub(super) async fn begin(&self, key: &K) -> Option<OwnedSemaphorePermit> {
        let at_once = Arc::clone(&self.readers.lock().entry(key.clone()).or_insert_with(Reader::new).at_once);
        // The semaphore is never closed, so this cannot fail.
        at_once.acquire_owned().await.ok()
    }

    /// Returns how long the reader must wait before it may continue; `None` if it need not wait.
    pub(super) fn debt(&self, key: &K) -> Option<Duration> {
        let paid_at = self.readers.lock().get(key)?.paid_at;
        let debt = paid_at.saturating_duration_since(Instant::now() + self.burst);
        Some(debt).filter(|debt| !debt.is_zero())
    }

    /// Counts this many bytes as read.
    pub(super) fn charge(&self, key: &K, bytes: usize) {
        let nanos = self.interval.as_nanos() * bytes as u128 / 1_024;
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut readers = self.readers.lock();
        let reader = readers.entry(key.clone()).or_insert_with(Reader::new);
        reader.paid_at = reader.paid_at.max(Instant::now()) + cost;
    }

    /// Removes the readers that have paid off everything and read nothing now.
    pub(super) fn remove_idle(&self) {
        let now = Instant::now();
        let mut readers = self.readers.lock();
        readers.retain(|_, reader| reader.paid_at > now || Arc::strong_count(&reader.at_once) > 1);
        readers.shrink_to_fit();
    }
}

impl Reader {
    fn new() -> Self {
        Self { paid_at: Instant::now(), at_once: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

/// Counts the reads of one request. A middleware puts it into the request before the caller is known, and the
/// authentication fills it.
#[derive(Clone, Default)]
pub(crate) struct Reading(Arc<Mutex<Option<(Account, OwnedSemaphorePermit)>>>);

impl Reading {
    /// Waits until the response may be produced, if the reads of this account are counted.
    ///
    /// # Errors
    /// Fails if the account has read too many bytes.
    pub(crate) async fn begin(&self, limits: &Limits, account: Option<&Account>) -> Result<(), RateLimited> {
        // A request that is authenticated twice has already begun.
        if self.0.lock().is_some() {
            return Ok(());
        }
        if let Some((account, rates)) = account.zip(limits.reads_of(account)) {
            let permit = rates.begin(account).await;
            limits.check_reading(account)?;
            *self.0.lock() = permit.map(|permit| (account.clone(), permit));
        }
        Ok(())
    }

    /// Returns the account that the read bytes count against, and the permit to hold until the response is produced.
    pub(crate) fn end(&self) -> Option<(Account, OwnedSemaphorePermit)> {
        self.0.lock().take()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    fn rates() -> ReadRates<&'static str> {
        ReadRates::new("1/s".parse().unwrap(), Duration::from_secs(4))
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_may_run_up_a_debt_once_and_pays_it_off_evenly() {
        let rates = rates();
        assert_eq!(rates.debt(&"a"), None);
        rates.charge(&"a", 4 << 10);
        assert_eq!(rates.debt(&"a"), None, "at once");
        rates.charge(&"a", 10 << 10);
        assert_eq!((rates.debt(&"a"), rates.debt(&"b")), (Some(Duration::from_secs(10)), None));
        rates.remove_idle();
        advance(Duration::from_secs(9)).await;
        assert_eq!(rates.debt(&"a"), Some(Duration::from_secs(1)));
        advance(Duration::from_secs(1)).await;
        assert_eq!(rates.debt(&"a"), None);
        advance(Duration::from_secs(100)).await;
        rates.charge(&"a", 5 << 10);
        assert_eq!(
            rates.debt(&"a"),
            Some(Duration::from_secs(1)),
            "time alone saves up no more than the burst"
        );
        rates.remove_idle();
        assert_eq!(rates.debt(&"a"), Some(Duration::from_secs(1)), "not forgotten while it counts");
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_answers_are_made_at_once_for_each() {
        let rates = rates();
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(rates.begin(&"a").await);
        }
        assert!(timeout(Duration::from_secs(1), rates.begin(&"a")).await.is_err());
        assert!(rates.begin(&"b").await.is_some());
        rates.remove_idle();
        assert!(
            timeout(Duration::from_secs(1), rates.begin(&"a")).await.is_err(),
            "not forgotten while it counts"
        );
        held.pop();
        assert!(rates.begin(&"a").await.is_some());
    }
}
