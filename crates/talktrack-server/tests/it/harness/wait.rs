//! Waiting for conditions. Every wait has a deadline, after which the test fails and says what it waited for.

use std::time::{Duration, Instant};

/// Far longer than anything here takes, even on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// How often a condition is looked at that cannot be awaited.
const INTERVAL: Duration = Duration::from_millis(5);

/// Looks again and again until there is something to see.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    until_told(what, async || look()).await
}

/// Asks again and again until there is an answer.
pub(crate) async fn until_told<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(DEADLINE, what, ask).await
}

/// The same for what may take longer or must be there sooner.
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

/// Awaits what should happen soon.
pub(crate) async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, event).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited {DEADLINE:?} in vain for this: {what}"),
    }
}
