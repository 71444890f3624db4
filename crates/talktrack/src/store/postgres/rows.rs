//! Rows as values. Others than talktrack may have written them: what it cannot read it names.

use std::fmt;

use jiff::Timestamp as Moment;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::ReadError;
use crate::json::{JsonArray, JsonObject};
use crate::record::Status;
use crate::store::{Glimpse, MessageRow, SessionRow};

pub(super) fn session_row(row: &Row) -> Result<SessionRow, ReadError> {
    Ok(SessionRow {
        session_id: get(row, 0)?,
        user_id: get(row, 1)?,
        external_id: get(row, 2)?,
        status: word(row, 3, Status::parse)?,
        end_reason: get(row, 4)?,
        started_at: timestamp(row, 5)?,
        ended_at: timestamp_or_null(row, 6)?,
        duration_seconds: get(row, 7)?,
        last_event_at: timestamp_or_null(row, 8)?,
        message_count: get::<i64>(row, 9)?.try_into().unwrap_or(0),
        metadata: json_or_null(row, 10, |text| JsonObject::parse(text).ok())?,
    })
}

pub(super) fn glimpse(row: &Row) -> Result<Glimpse, ReadError> {
    Ok(Glimpse {
        session_id: get(row, 0)?,
        last_role: word(row, 1, |word| word.parse().ok())?,
        last_words: get(row, 2)?,
        interruptions: get::<i64>(row, 3)?.unsigned_abs(),
    })
}

/// A row with the columns of a message.
pub(super) fn message_row(row: &Row) -> Result<MessageRow, ReadError> {
    Ok(MessageRow {
        id: get(row, 0)?,
        session_id: get(row, 1)?,
        user_id: get(row, 2)?,
        role: word(row, 3, |word| word.parse().ok())?,
        content: get(row, 4)?,
        audio_url: get(row, 5)?,
        metadata: json_or_null(row, 6, |text| JsonObject::parse(text).ok())?,
        created_at: timestamp(row, 7)?,
        seq: get(row, 8)?,
        external_id: get(row, 9)?,
        kind: word(row, 10, |word| word.parse().ok())?,
        revision: get::<i32>(row, 11)?.try_into().unwrap_or(0),
        interrupted: get(row, 12)?,
        content_generated: get(row, 13)?,
        parts: json_or_null(row, 14, |text| JsonArray::parse(text).ok())?,
        metrics: json_or_null(row, 15, |text| JsonObject::parse(text).ok())?,
    })
}

pub(super) fn get<'r, T: tokio_postgres::types::FromSql<'r>>(
    row: &'r Row,
    column: usize,
) -> Result<T, ReadError> {
    row.try_get(column).map_err(|error| ReadError(error.to_string()))
}

/// What a column's text stands for; others than talktrack may have written it.
pub(super) fn word<T>(row: &Row, column: usize, parse: impl Fn(&str) -> Option<T>) -> Result<T, ReadError> {
    let text: &str = get(row, column)?;
    parse(text).ok_or_else(|| unreadable(row, column, &text))
}

fn json_or_null<T>(
    row: &Row,
    column: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, ReadError> {
    let text: Option<&str> = get(row, column)?;
    // Others may have put any JSON there. What is not of the expected type says nothing to talktrack.
    Ok(text.and_then(parse))
}

pub(super) fn timestamp(row: &Row, column: usize) -> Result<Timestamp, ReadError> {
    timestamp_or_null(row, column)?.ok_or_else(|| unreadable(row, column, &"null"))
}

fn timestamp_or_null(row: &Row, column: usize) -> Result<Option<Timestamp>, ReadError> {
    let moment: Option<Moment> = get(row, column)?;
    let known = |moment: Moment| Timestamp::from_micros(moment.as_microsecond());
    moment.map(|moment| known(moment).ok_or_else(|| unreadable(row, column, &moment))).transpose()
}

fn unreadable(row: &Row, column: usize, value: &dyn fmt::Display) -> ReadError {
    let name = row.columns().get(column).map_or("a column", |column| column.name());
    let id: Option<Uuid> = row.try_get(0).ok();
    let id = id.map(|id| id.to_string()).unwrap_or_default();
    ReadError(format!("row {id}: {name} has a value that talktrack does not know: {value}"))
}
