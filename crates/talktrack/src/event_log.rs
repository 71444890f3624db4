//! The log lines that people grep for. Their wording is a contract: text logs show only the line, JSON logs add the
//! fields.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;

use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::message::MessageStatus;
use talktrack_core::record::{DeadReason, DeletionCounts, EditedRows, Ended, Record, Verdict};
use uuid::Uuid;

/// The target of these lines. The text format prints only their message.
pub const TARGET: &str = "talktrack::life";

/// The first 8 characters of an id.
struct ShortId(Uuid);

impl ShortId {
    fn new(id: impl Into<Uuid>) -> Self {
        Self(id.into())
    }
}

impl std::fmt::Display for ShortId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut buffer = Uuid::encode_buffer();
        f.write_str(&self.0.hyphenated().encode_lower(&mut buffer)[..8])
    }
}

/// The least time between two lines about refusals with the same reason.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(60);

/// Logs refusals: at most one line a minute for each reason, with the number of refusals since the last line.
#[derive(Debug, Default)]
pub struct RefusalLog(Mutex<BTreeMap<&'static str, LoggedRefusals>>);

#[derive(Debug, Clone, Copy)]
struct LoggedRefusals {
    /// How many refusals the lines so far have counted.
    total: u64,
    /// When the last line was written, since the start.
    at: Duration,
}

impl RefusalLog {
    /// Logs the refusals that no line has counted yet, unless the last line with that reason is too recent. `totals` are the
    /// numbers of refusals by reason, `now` is the time since the start, and `what` names what was refused.
    pub fn log_new(&self, totals: &BTreeMap<&'static str, u64>, now: Duration, what: &str) {
        let mut logged = self.0.lock();
        for (reason, total) in totals {
            let last = logged.get(reason).copied();
            let count = total.saturating_sub(last.map_or(0, |last| last.total));
            let is_recent = last.is_some_and(|last| now.saturating_sub(last.at) < REFUSAL_INTERVAL);
            if count == 0 || is_recent {
                continue;
            }
            logged.insert(reason, LoggedRefusals { total: *total, at: now });
            tracing::warn!(target: TARGET, event = "refused", reason, count, total,
                "⚠️ Refused {what}: {count} with {reason} ({total} since the start)");
        }
    }
}

/// Logs what a record's verdict means for a person who reads the log.
pub(crate) fn log_verdict(record: &Record, verdict: &Verdict) {
    use talktrack_core::record::Body;
    match (&record.body, verdict) {
        (Body::Start(start), Verdict::Started { .. }) => log_start(start.session_id, &start.user_id),
        (Body::Message(stamped), Verdict::Inserted | Verdict::Reopened(_))
            if stamped.message.status != MessageStatus::Final => {}
        (
            Body::Message(stamped),
            Verdict::Inserted | Verdict::Reopened(_) | Verdict::Revised { becomes_final: true },
        ) => {
            let session = stamped.message.session_id;
            let role = stamped.message.role;
            tracing::info!(target: TARGET, event = "message_saved", session_id = %session, message_id = %stamped.id,
                role = role.as_str(), "✅ Saved {role} message for session {}...", ShortId::new(session));
        }
        (Body::End(end), Verdict::Ended(figures)) => log_end(end.session_id, figures),
        (Body::Delete(delete), Verdict::Deleted(removed)) if delete.is_permanent() => {
            log_deletion(delete.session_id, removed)
        }
        (Body::EditMessages(edit), Verdict::Edited(edited)) => log_edit(edit.session_id, edited),
        (_, Verdict::Dead(DeadReason::Deleted | DeadReason::DeletedForUser)) => {
            let session = record.session_id();
            tracing::info!(target: TARGET, event = "record_dropped", session_id = %session,
                "Dropped a record of session {}..., because the session was deleted", ShortId::new(session));
        }
        (_, Verdict::Dead(DeadReason::DeletedMessage)) => {
            let session = record.session_id();
            tracing::info!(target: TARGET, event = "message_dropped", session_id = %session,
                "Dropped a message of session {}..., because it was deleted", ShortId::new(session));
        }
        (_, Verdict::Dead(reason)) => {
            let reason = reason.detail().unwrap_or(reason.as_str());
            tracing::error!(target: TARGET, event = "message_dead_lettered", session_id = %record.session_id(),
                reason, "❌ Failed to save message: {reason} (kept as a dead letter)");
        }
        _ => {}
    }
}

fn log_start(session: SessionId, user: &UserId) {
    // The text of a user may be an address or a telephone number, which has no place in a log.
    let user = user.as_uuid();
    tracing::info!(target: TARGET, event = "session_started", session_id = %session, user_id = %user,
        "✅ Started session {}... for user {}...", ShortId::new(session), ShortId::new(user));
}

fn log_end(session: SessionId, figures: &Ended) {
    let Ended { duration_seconds, message_count } = *figures;
    tracing::info!(target: TARGET, event = "session_ended", session_id = %session, duration_seconds, message_count,
        "✅ Ended session {}... (duration: {duration_seconds:.1}s, messages: {message_count})", ShortId::new(session));
}

fn log_deletion(session: SessionId, removed: &DeletionCounts) {
    let DeletionCounts { sessions, messages, dead_letters, .. } = *removed;
    tracing::info!(target: TARGET, event = "session_deleted", session_id = %session, sessions, messages, dead_letters,
        "✅ Deleted session {}... (messages: {messages})", ShortId::new(session));
}

fn log_edit(session: SessionId, edited: &EditedRows) {
    let removed = edited.removed.len();
    let written = edited.inserted + edited.revised;
    tracing::info!(target: TARGET, event = "messages_edited", session_id = %session, removed, written,
        "✅ Edited session {}... (messages removed: {removed}, written: {written})", ShortId::new(session));
}

/// Logs a message or an end for a session that this process does not know. The store will be asked.
pub(crate) fn log_unknown_session(session: SessionId) {
    tracing::warn!(target: TARGET, event = "session_not_in_state", session_id = %session,
        "⚠️ Session {}... not found in state", ShortId::new(session));
}

/// Logs that nothing can be written at present. The write will be retried.
pub(crate) fn log_failure(cause: &str) {
    tracing::error!(target: TARGET, event = "save_failed", cause, "❌ Failed to save message: {cause}");
}

/// Logs that something other than a message cannot be written at present. The write will be retried.
pub(crate) fn log_failed_maintenance(task: &str, cause: &str) {
    tracing::error!(target: TARGET, event = "maintenance_failed", task, cause, "❌ Failed to {task}: {cause}");
}

/// Logs that the database file is damaged. Salvaging its readable content takes a while if there is much.
pub(crate) fn log_damage(file: &Path, damage: &str) {
    tracing::error!(target: TARGET, event = "database_damaged", file = %file.display(), damage,
        "❌ The database {} is damaged: {damage}; saving what can be read", file.display());
}

/// Logs that the readable content of a damaged database is in a new file.
pub(crate) fn log_salvage(summary: &str) {
    tracing::error!(target: TARGET, event = "database_salvaged", summary, "❌ {summary}");
}
