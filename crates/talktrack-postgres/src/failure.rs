//! Describes failures: what failed, where, and what to do. The text never contains values of a row, because
//! the log must not contain what was said.

use std::borrow::Cow;

use deadpool_postgres::{HookError, PoolError};
use talktrack_core::error::ReadError;
use talktrack_core::store::{ErrorClass, StoreError};
use tokio_postgres::error::{DbError, SqlState};

use crate::cleartext::CleartextAsked;
use crate::prefer::{NO_CHANNEL_BINDING, lacks_channel_binding};
use crate::schema::Difference;
use crate::sqlstate::class_of;

pub(super) const SESSIONS: &str = "conversation_sessions";
pub(super) const MESSAGES: &str = "conversation_messages";

/// An error of the database or of the connection to it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) class: ErrorClass,
    message: String,
    /// Records may have been written despite the failure.
    is_outcome_unknown: bool,
    is_changed_id: bool,
    /// The SQLSTATE, if the server answered.
    code: Option<SqlState>,
    table: Option<String>,
    column: Option<String>,
    constraint: Option<String>,
}

impl Failure {
    /// The answer did not come in time.
    pub(super) fn timeout(message: impl Into<String>) -> Self {
        Self::without_answer(ErrorClass::Transient, message.into())
    }

    /// Another transaction changed the data first. A retry will see its changes.
    pub(super) fn changed(message: &str) -> Self {
        Self::without_answer(ErrorClass::Transient, message.to_owned())
    }

    /// An operator has to act before a retry can succeed.
    pub(super) fn systemic(message: String) -> Self {
        Self::without_answer(ErrorClass::Systemic, message)
    }

    /// The database holds a row that talktrack cannot read.
    pub(super) fn unreadable(error: &ReadError) -> Self {
        Self::without_answer(ErrorClass::Systemic, error.source.to_string())
    }

    /// The description of the failure.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    fn without_answer(class: ErrorClass, message: String) -> Self {
        let code = None;
        let table = None;
        let column = None;
        let constraint = None;
        Self {
            class,
            message,
            is_outcome_unknown: true,
            is_changed_id: false,
            code,
            table,
            column,
            constraint,
        }
    }

    /// True if another transaction removed a session's row between two statements, or wrote the row at the
    /// same moment. A retry will see its changes.
    pub(super) fn is_race(&self) -> bool {
        match (&self.code, self.table.as_deref()) {
            (Some(code), Some(MESSAGES)) => *code == SqlState::FOREIGN_KEY_VIOLATION,
            (Some(code), Some(SESSIONS)) => *code == SqlState::UNIQUE_VIOLATION,
            _ => false,
        }
    }

    /// True if a trigger gave a row another id and the statement therefore aborted the transaction. The
    /// statement itself produces this message.
    pub(super) fn is_changed_id(&self) -> bool {
        self.code == Some(SqlState::INVALID_TEXT_REPRESENTATION) && self.is_changed_id
    }

    /// True if the schema may be the cause, so that a comparison is worth its time.
    pub(super) fn may_be_drift(&self) -> bool {
        const ROLE_IS_TURNED_AWAY: [&str; 2] = ["28", "3D"];
        let code = self.code.as_ref().map_or("", SqlState::code);
        self.class != ErrorClass::Transient
            && !code.is_empty()
            && !ROLE_IS_TURNED_AWAY.iter().any(|group| code.starts_with(group))
    }

    /// True if a table differs from what the statement expects.
    pub(super) fn is_about_the_schema(&self) -> bool {
        // Undefined columns, tables, types and keys, and a missing schema.
        let code = self.code.as_ref().map_or("", SqlState::code);
        code.starts_with("42") && code != "42501" || code == "3F000"
    }

    /// True if the role lacks a privilege.
    pub(super) fn is_about_rights(&self) -> bool {
        self.code == Some(SqlState::INSUFFICIENT_PRIVILEGE)
    }

    /// True if the server cancelled the statement because it took too long.
    pub(super) fn is_over_time(&self) -> bool {
        self.code == Some(SqlState::QUERY_CANCELED)
    }

    /// True if this difference is the reason why a row was refused.
    pub(super) fn concerns(&self, difference: &Difference) -> bool {
        let same_table = self.table.as_deref() == difference.table;
        let same_column = self.column.is_some() && self.column == difference.column;
        // A constraint names no column, but the SQL that removes the difference names the constraint.
        let same_constraint = self.constraint.as_deref().is_some_and(|name| difference.fix.contains(name));
        same_table && (same_column || same_constraint)
    }

    /// Says that the failure concerns the session's row of a message.
    pub(super) fn for_session(self) -> Self {
        Self { message: format!("its session cannot be stored: {}", self.message), ..self }
    }

    /// Marks the outcome as unknown: an earlier transaction of the batch was committed.
    pub(super) fn after_a_commit(self) -> Self {
        Self { is_outcome_unknown: true, ..self }
    }

    /// Marks the outcome as known: nothing had been sent.
    fn before_anything(self) -> Self {
        Self { is_outcome_unknown: false, ..self }
    }

    /// Says that no row is the cause: the connection could not be opened, for example because `options` of the
    /// connection string has an invalid value.
    fn of_no_row(self) -> Self {
        let class = if self.class == ErrorClass::Data { ErrorClass::Systemic } else { self.class };
        Self { class, ..self }
    }

    /// True if records may have been written despite the failure.
    pub(super) fn is_outcome_unknown(&self) -> bool {
        self.is_outcome_unknown
    }

    /// Converts the failure to the error for the writer.
    pub(super) fn into_error(self) -> StoreError {
        let Self { class, message, is_outcome_unknown, .. } = self;
        StoreError { class, message, is_outcome_unknown }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(answer) = error.as_db_error() {
            return Self::from_db_error(answer);
        }
        let cause = std::error::Error::source(&error);
        if let Some(asked) = cause.and_then(find_cleartext_error) {
            return Self::systemic(asked.to_string());
        }
        let of_the_network = cause.is_some_and(|cause| cause.is::<std::io::Error>());
        if lacks_channel_binding(&error) {
            return Self::systemic(NO_CHANNEL_BINDING.to_owned());
        }
        let message = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
        // A failure on this side before sending, or an unreadable answer, has no rule of its own: it counts
        // as systemic.
        let class = if error.is_closed() || of_the_network || message.starts_with("error connecting") {
            ErrorClass::Transient
        } else {
            ErrorClass::Systemic
        };
        Self::without_answer(class, format!("the database cannot be reached ({message})"))
    }
}

/// Finds the error for a refused cleartext password.
fn find_cleartext_error<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e CleartextAsked> {
    cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref()
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                Self::from(error).of_no_row().before_anything()
            }
            PoolError::PostCreateHook(HookError::Message(message)) => {
                Self::systemic(message.into_owned()).before_anything()
            }
            PoolError::Timeout(_) => {
                Self::timeout("the database cannot be reached (no connection in time)").before_anything()
            }
            other => Self::without_answer(ErrorClass::Systemic, other.to_string()).before_anything(),
        }
    }
}

impl Failure {
    fn from_db_error(answer: &DbError) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            class: class_of(answer.code().code()),
            message: describe(answer),
            is_changed_id: answer.message().contains("\"talktrack: a trigger changed"),
            // A server that shuts down or drops the connection may have committed before.
            is_outcome_unknown: ["08", "57P"].iter().any(|group| answer.code().code().starts_with(group)),
            code: Some(answer.code().clone()),
            table: owned(answer.table()),
            column: owned(answer.column()),
            constraint: owned(answer.constraint()),
        }
    }
}

/// Returns the server's message, plus advice if only an operator can help.
fn describe(answer: &DbError) -> String {
    let code = answer.code();
    let said = message_without_values(answer);
    let place = match (answer.table(), answer.column()) {
        (Some(table), Some(column)) => format!(" ('{column}' of '{table}')"),
        (Some(table), None) => format!(" ('{table}')"),
        _ => String::new(),
    };
    let what_to_do = match code.code() {
        "28P01" => "; check user and password in database_url",
        "28000" if is_about_encryption(answer.message()) => {
            "; the server admits this user only over TLS: use sslmode=require or stronger in database_url"
        }
        "28000" if answer.message().contains("pg_hba.conf") => {
            "; the server's pg_hba.conf does not admit this user from this address: check user, database and sslmode in \
             database_url"
        }
        "28000" => "; check the user in database_url",
        "3D000" => "; check the database's name in database_url",
        "42501" if answer.message().contains("row-level security") => {
            "; the user of database_url needs a policy of its own, or to own the tables (docs/supabase.md)"
        }
        "42501" => "; grant the rights to the user of database_url, or use the owner of the tables",
        "P0001" => "; rows that your own function refuses wait until it is fixed or its trigger is dropped",
        "53100" => "; the database's disk is full",
        "25006" => "; the database is read-only: a standby, or a disk that is nearly full",
        _ => "",
    };
    format!("{said}{place} (SQLSTATE {}){what_to_do}", code.code())
}

/// True if pg_hba.conf refuses the connection because it is not encrypted. Versions before 14 say `SSL off`.
fn is_about_encryption(message: &str) -> bool {
    message.contains("pg_hba.conf")
        && ["no encryption", "SSL off"].iter().any(|words| message.ends_with(words))
}

/// Removes values from the message. In the SQLSTATE classes for values, PostgreSQL quotes a bad value after
/// a colon. The message of a function that the user wrote may quote anything, so only its location is
/// shown.
fn message_without_values(answer: &DbError) -> Cow<'_, str> {
    let message = answer.message();
    if let Some(place) = raised_at(answer) {
        let constraint = answer.constraint().map(|name| format!(", constraint '{name}'"));
        format!("refused by {place}{}", constraint.unwrap_or_default()).into()
    } else if answer.code().code().starts_with("22") {
        message.split(": \"").next().unwrap_or(message).into()
    } else {
        message.into()
    }
}

/// Returns the function and line that raised the error with a message of its own; the first line of the
/// context is the innermost. Other errors in PL/pgSQL functions carry PostgreSQL's own messages. In other
/// languages the origin of the message is unknown.
fn raised_at(answer: &DbError) -> Option<&str> {
    let place = answer.where_()?.lines().next().filter(|place| place.starts_with("PL/"))?;
    (place.ends_with("RAISE") || !place.starts_with("PL/pgSQL")).then_some(place)
}
