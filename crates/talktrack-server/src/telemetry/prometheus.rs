//! The exported metrics: their names, descriptions and histogram buckets.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::process;
use crate::build_info;
use crate::error::Failure;

/// The counter of lost log lines. `telemetry` updates it from the counters of the sinks.
pub(super) const LOG_LINES_LOST: &str = "talktrack_log_lines_lost_total";

const REFUSED: &str = "talktrack_messages_refused_total";

/// Buckets from a commit on a fast disk to one that hangs.
const SECONDS: &[f64] = &[
    0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Buckets around what people feel as an immediate answer, and as a long silence.
const ANSWERS: &[f64] = &[0.2, 0.3, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0];

/// Buckets up to the largest batch of the journal.
const RECORDS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];

/// Installs the recorder of this process and describes all metrics.
pub(super) fn install_recorder() -> Result<PrometheusHandle, Failure> {
    let matcher = |name: &str| Matcher::Full(format!("talktrack_{name}"));
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(matcher("commit_seconds"), SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(matcher("store_seconds"), SECONDS))
        .and_then(|builder| builder.set_buckets_for_metric(matcher("answer_seconds"), ANSWERS))
        .and_then(|builder| builder.set_buckets_for_metric(matcher("batch_size"), RECORDS))
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(Failure::new)?;
    describe_metrics();
    process::describe_metrics();
    counter!("talktrack_audio_bytes_total").increment(0);
    gauge!(
        "talktrack_build_info",
        "version" => build_info::VERSION,
        "commit" => build_info::commit().unwrap_or("unknown"),
        "target" => build_info::TARGET,
    )
    .set(1);
    Ok(handle)
}

/// Returns the metrics of a command, which nobody reads.
pub(super) fn unread() -> PrometheusHandle {
    PrometheusBuilder::new().build_recorder().handle()
}

fn describe_metrics() {
    describe_counter!(
        "talktrack_audit_entries_lost_total",
        "Entries of the audit log that could not be written"
    );
    describe_counter!("talktrack_limited_total", "Requests, frames and connections refused by a limit");
    describe_counter!("talktrack_audio_bytes_total", Unit::Bytes, "Bytes of recordings that were stored");
    describe_counter!("talktrack_messages_accepted_total", "Messages accepted into the queue");
    describe_counter!(
        "talktrack_messages_durable_total",
        "Messages acknowledged: committed on the local disk"
    );
    describe_counter!("talktrack_messages_stored_total", "Messages committed in the store");
    describe_counter!("talktrack_sessions_deleted_total", "Sessions removed from the store, by reason");
    describe_counter!(
        "talktrack_messages_deleted_total",
        "Messages removed from the store with their sessions"
    );
    describe_counter!(
        "talktrack_messages_dead_lettered_total",
        "Messages that became dead letters, because the store will never accept them"
    );
    describe_counter!(
        "talktrack_dead_letters_taken_out_total",
        "Dead letters of messages that were replayed or dropped"
    );
    describe_counter!(REFUSED, "Messages and frames refused, by reason");
    describe_counter!(
        "talktrack_store_retries_total",
        "Writes to the store that failed and are retried, by class"
    );
    describe_counter!(
        LOG_LINES_LOST,
        "Log lines that were lost, because they came faster than they could be written"
    );
    describe_gauge!("talktrack_queue_depth", "Entries that wait in memory");
    describe_gauge!("talktrack_journal_pending", "Messages durable here and not yet in the store");
    describe_gauge!("talktrack_journal_bytes", Unit::Bytes, "Bytes durable here and not yet in the store");
    describe_gauge!("talktrack_store_up", "1 while the store accepts writes, otherwise 0");
    describe_gauge!("talktrack_quarantines", "Damaged databases that are kept next to the current one");
    describe_gauge!("talktrack_search_lag_messages", "Messages stored and not yet in the search index");
    describe_gauge!("talktrack_sessions_active", "Sessions that have not ended");
    describe_gauge!("talktrack_ws_connections", "WebSocket connections");
    describe_gauge!("talktrack_event_listeners", "Listeners to live events");
    describe_gauge!("talktrack_build_info", "1; the labels name the version, the commit and the platform");
    describe_histogram!(
        "talktrack_answer_seconds",
        Unit::Seconds,
        "From the end of the user's turn to the beginning of the answer, as callers measured it (e2e_ms)"
    );
    describe_histogram!("talktrack_batch_size", "Entries in one commit");
    describe_histogram!(
        "talktrack_commit_seconds",
        Unit::Seconds,
        "How long a commit to the local disk takes"
    );
    describe_histogram!("talktrack_store_seconds", Unit::Seconds, "How long a write to the store takes");
}
