//! The exported metrics. `docs/operations.md` describes each. They go to the recorder that the process has installed.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use talktrack_core::books::Books;
use talktrack_core::error_code::ErrorCode;
use talktrack_core::message::{Message, MessageStatus};
use talktrack_core::record::{Body, DeletionCounts, Record, SessionDelete, Verdict};

/// The metrics that change often.
#[derive(Clone)]
pub(crate) struct MetricHandles {
    pub(crate) accepted: Counter,
    pub(crate) durable: Counter,
    pub(crate) stored: Counter,
    pub(crate) dead_lettered: Counter,
    pub(crate) letters_taken_out: Counter,
    pub(crate) queue_depth: Gauge,
    pub(crate) journal_pending: Gauge,
    pub(crate) journal_bytes: Gauge,
    pub(crate) store_up: Gauge,
    pub(crate) batch_size: Histogram,
    pub(crate) commit_seconds: Histogram,
    pub(crate) store_seconds: Histogram,
    pub(crate) sessions_active: Gauge,
}

impl MetricHandles {
    pub(crate) fn new() -> Self {
        register_counters();
        Self {
            accepted: counter!("talktrack_messages_accepted_total"),
            durable: counter!("talktrack_messages_durable_total"),
            stored: counter!("talktrack_messages_stored_total"),
            dead_lettered: counter!("talktrack_messages_dead_lettered_total"),
            letters_taken_out: counter!("talktrack_dead_letters_taken_out_total"),
            queue_depth: gauge!("talktrack_queue_depth"),
            journal_pending: gauge!("talktrack_journal_pending"),
            journal_bytes: gauge!("talktrack_journal_bytes"),
            store_up: gauge!("talktrack_store_up"),
            batch_size: histogram!("talktrack_batch_size"),
            commit_seconds: histogram!("talktrack_commit_seconds"),
            store_seconds: histogram!("talktrack_store_seconds"),
            sessions_active: gauge!("talktrack_sessions_active"),
        }
    }

    /// Publishes the current books.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is an f64; 2^53 messages are out of reach")]
    pub(crate) fn publish(&self, books: &Books) {
        self.durable.absolute(books.durable);
        self.stored.absolute(books.stored);
        self.dead_lettered.absolute(books.dead_lettered);
        self.letters_taken_out.absolute(books.letters_taken_out);
        self.journal_pending.set(books.pending() as f64);
        self.journal_bytes.set(books.journal_bytes as f64);
    }
}

/// The words of the labels `reason` and `class`.
const DELETED_ON_REQUEST: &str = "request";
const DELETED_BY_AGE: &str = "age";
const DELETED_BY_EDIT: &str = "edit";
const RETRY_CLASSES: [&str; 2] = ["transient", "systemic"];

/// Registers the counters with labels, so that each exists from the start with the value zero.
fn register_counters() {
    for code in ErrorCode::ALL {
        counter!("talktrack_messages_refused_total", "reason" => code.as_str()).increment(0);
    }
    counter!("talktrack_messages_deleted_total", "reason" => DELETED_BY_EDIT).increment(0);
    for reason in [DELETED_ON_REQUEST, DELETED_BY_AGE] {
        counter!("talktrack_sessions_deleted_total", "reason" => reason).increment(0);
        counter!("talktrack_messages_deleted_total", "reason" => reason).increment(0);
    }
    for class in RETRY_CLASSES {
        counter!("talktrack_store_retries_total", "class" => class).increment(0);
    }
    drop(answer_histogram());
}

/// Counts a refusal by its reason.
pub(crate) fn count_refusal(reason: &'static str) {
    counter!("talktrack_messages_refused_total", "reason" => reason).increment(1);
}

/// Counts what a record's verdict means: deleted rows, or the time that the user waited for an answer.
pub(crate) fn count_outcome(record: &Record, verdict: &Verdict) {
    match (&record.body, verdict) {
        (Body::Delete(delete), Verdict::Deleted(removed)) => count_deletion(delete, removed),
        (_, Verdict::Edited(edited)) => {
            let removed = edited.removed.len() as u64;
            counter!("talktrack_messages_deleted_total", "reason" => DELETED_BY_EDIT).increment(removed);
        }
        // A message in progress is counted when it becomes final.
        (Body::Message(stamped), Verdict::Inserted | Verdict::Reopened(_))
            if stamped.message.status != MessageStatus::Final => {}
        (
            Body::Message(stamped),
            Verdict::Inserted | Verdict::Reopened(_) | Verdict::Revised { becomes_final: true },
        ) => {
            if let Some(seconds) = answer_seconds(&stamped.message) {
                answer_histogram().record(seconds);
            }
        }
        _ => {}
    }
}

/// Returns the time from the end of the user's turn to the beginning of this answer, in seconds, if the caller measured
/// it.
fn answer_seconds(message: &Message) -> Option<f64> {
    let members = message.metrics.as_ref()?.as_json().members();
    let (_, ms) = members.iter().find(|(key, _)| key.as_str() == "e2e_ms")?;
    let ms: f64 = ms.get().parse().ok()?;
    (ms >= 0.0).then_some(ms / 1_000.0)
}

/// Returns the histogram of the times to an answer. It has no labels.
fn answer_histogram() -> Histogram {
    histogram!("talktrack_answer_seconds")
}

/// Counts a deleted session and its messages by the reason of the deletion.
fn count_deletion(delete: &SessionDelete, removed: &DeletionCounts) {
    let reason = if delete.is_permanent() { DELETED_ON_REQUEST } else { DELETED_BY_AGE };
    counter!("talktrack_sessions_deleted_total", "reason" => reason).increment(removed.sessions);
    counter!("talktrack_messages_deleted_total", "reason" => reason).increment(removed.messages);
}

/// Counts a failed write to the store that will be retried, by the class of its error.
pub(crate) fn count_retry(class: &'static str) {
    counter!("talktrack_store_retries_total", "class" => class).increment(1);
}
