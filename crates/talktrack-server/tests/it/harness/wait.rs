//! Waits for conditions. Every wait has a deadline; a test that misses it fails with the condition in its message.

use std::time::{Duration, Instant};

/// Far more than any wait needs, even on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// The interval at which conditions are polled that cannot be awaited.
const INTERVAL: Duration = Duration::from_millis(5);

/// Polls until `look` returns a value.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    until_told(what, async || look()).await
}

/// Polls until `ask` returns a value.
pub(crate) async fn until_told<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(DEADLINE, what, ask).await
}

/// Polls as [`until_told`] does, with another deadline.
pub(crate) async fn until_within<T>(
    deadline: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < deadline, "waited {deadline:?} in vain for this: {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Awaits an event, at most until the deadline.
pub(crate) async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, event).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited {DEADLINE:?} in vain for this: {what}"),
    }
}
