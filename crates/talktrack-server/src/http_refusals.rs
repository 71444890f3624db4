//! Logs requests that were refused, by their error codes: at most one line a minute for each, with their number.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use parking_lot::Mutex;
use talktrack::ErrorCode;
use talktrack::event_log::RefusalLog;
use tokio::time::Instant;

/// How often new refusals are logged.
const INTERVAL: Duration = Duration::from_secs(1);

/// The numbers of refused requests. Cheap to clone; all clones refer to the same numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct HttpRefusals(Arc<HttpRefusalsInner>);

#[derive(Debug, Default)]
struct HttpRefusalsInner {
    totals: Mutex<BTreeMap<&'static str, u64>>,
    log: RefusalLog,
}

impl HttpRefusals {
    /// Counts the answer if it is a refusal. An absent session or address is an everyday answer, and is not.
    pub(crate) fn note(&self, answer: &Response) {
        let is_refusal = answer.status().is_client_error() || answer.status().is_server_error();
        if let Some(code) = answer.extensions().get::<ErrorCode>()
            && is_refusal
            && answer.status() != StatusCode::NOT_FOUND
        {
            *self.0.totals.lock().entry(code.as_str()).or_default() += 1;
        }
    }

    /// Logs new refusals until the future is dropped.
    pub(crate) async fn run(self) {
        let began = Instant::now();
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            self.0.log.log_new(&self.0.totals.lock(), began.elapsed(), "requests over HTTP");
        }
    }
}
