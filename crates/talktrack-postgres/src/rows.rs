//! Converts rows to values. Other programs may have written a row: any value that the column's type allows
//! is returned unchanged.

use std::error::Error;

use talktrack_core::clock::Seq;
use talktrack_core::dimensions::Dimensions;
use talktrack_core::error::ReadError;
use talktrack_core::ids::UserId;
use talktrack_core::store::{MessageRow, Page, SessionPreview, SessionRow};
use talktrack_core::stored::{FromJson, Stored, StoredTime, TimeKey};
use tokio_postgres::Row;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use uuid::Uuid;

use crate::owners;

/// Reads a session. The queries leave out rows without an id, because such a row cannot be addressed.
pub(super) fn session_row(row: &Row) -> Result<SessionRow, ReadError> {
    Ok(SessionRow {
        session_id: get_id(row, 0)?,
        user_id: get_user(row, 1, 17)?,
        external_id: get(row, 2)?,
        status: get_word(row, 3, |word| word.parse().ok())?,
        end_reason: get(row, 4)?,
        started_at: get_time(row, 5)?,
        ended_at: get_time_or_null(row, 6)?,
        duration_seconds: get(row, 7)?,
        last_event_at: get_time_or_null(row, 8)?,
        message_count: get_or_default(row, 9)?,
        metadata: get_json_or_null(row, 10)?,
        dimensions: dimensions(row, 11)?,
    })
}

/// Reads the dimensions of a session, of which the first is in this column.
fn dimensions(row: &Row, first: usize) -> Result<Dimensions, ReadError> {
    let mut dimensions = Dimensions::new()
        .with_agent(get::<Option<String>>(row, first)?)
        .with_agent_version(get::<Option<String>>(row, first + 1)?)
        .with_channel(get::<Option<String>>(row, first + 2)?)
        .with_environment(get::<Option<String>>(row, first + 3)?)
        .with_parent_session_id(get_id_or_null(row, first + 4)?);
    dimensions.tags = get_json_or_null(row, first + 5)?;
    Ok(dimensions)
}

pub(super) fn session_preview(row: &Row) -> Result<SessionPreview, ReadError> {
    Ok(SessionPreview {
        session_id: get_id(row, 0)?,
        last_role: get_word(row, 1, |word| word.parse().ok())?,
        last_words: get_or_default(row, 2)?,
        interruptions: get::<i64>(row, 3)?.unsigned_abs(),
    })
}

/// Reads a row with the columns of a message.
pub(super) fn message_row(row: &Row) -> Result<MessageRow, ReadError> {
    Ok(MessageRow {
        id: get_id(row, 0)?,
        session_id: get_id(row, 1)?,
        user_id: get_user(row, 2, 19)?,
        role: get_word(row, 3, |word| word.parse().ok())?,
        content: get_or_default(row, 4)?,
        audio_url: get(row, 5)?,
        metadata: get_json_or_null(row, 6)?,
        created_at: get_time(row, 7)?,
        seq: get::<Option<i64>>(row, 8)?.map(Seq::new),
        external_id: get(row, 9)?,
        name: get(row, 17)?,
        status: get_word(row, 18, |word| word.parse().ok())?,
        kind: get_word(row, 10, |word| word.parse().ok())?,
        revision: get_or_default::<i32>(row, 11)?.into(),
        interrupted: get_or_default(row, 12)?,
        content_generated: get(row, 13)?,
        parts: get_json_or_null(row, 14)?,
        metrics: get_json_or_null(row, 15)?,
        extra: get_json_or_null(row, 16)?,
    })
}

/// Number of columns of a session before the column with the number of rows found.
pub(super) const SESSION_COLUMNS: usize = 18;
const MESSAGE_COLUMNS: usize = 20;

/// Reads a page of sessions.
pub(super) fn session_page(rows: &[Row], limit: usize) -> Result<Page<SessionRow>, ReadError> {
    let more = is_full(rows, Some(limit), SESSION_COLUMNS)?;
    Ok(Page { rows: rows.iter().map(session_row).collect::<Result<_, _>>()?, more })
}

/// Reads a page of messages. Without a limit, only the bound in bytes ends the page.
pub(super) fn message_page(rows: &[Row], limit: Option<usize>) -> Result<Page<MessageRow>, ReadError> {
    let more = is_full(rows, limit, MESSAGE_COLUMNS)?;
    Ok(Page { rows: rows.iter().map(message_row).collect::<Result<_, _>>()?, more })
}

/// True if the page is full, in rows or in bytes. The column after all others holds the number of rows
/// found before the bound in bytes applied.
pub(super) fn is_full(rows: &[Row], limit: Option<usize>, column: usize) -> Result<bool, ReadError> {
    let found = rows.first().map_or(Ok(0), |row| get::<i64>(row, column))?;
    let reaches_limit = limit.is_some_and(|limit| rows.len() >= limit);
    Ok(reaches_limit || usize::try_from(found).is_ok_and(|found| found > rows.len()))
}

pub(super) fn get<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Result<T, ReadError> {
    row.try_get(column).map_err(ReadError::damaged)
}

pub(super) fn get_id<T: From<Uuid>>(row: &Row, column: usize) -> Result<T, ReadError> {
    get::<Uuid>(row, column).map(T::from)
}

pub(super) fn get_id_or_null<T: From<Uuid>>(row: &Row, column: usize) -> Result<Option<T>, ReadError> {
    get::<Option<Uuid>>(row, column).map(|id| id.map(T::from))
}

/// Returns the user in these columns, a UUID and a text. `None` if the row names no possible user.
pub(super) fn get_user(row: &Row, uuid: usize, text: usize) -> Result<Option<UserId>, ReadError> {
    owners::read_user(row, uuid, text).map_err(ReadError::damaged)
}

/// Returns the value of a column that talktrack never leaves null, or the default if it is null.
pub(super) fn get_or_default<'r, T: FromSql<'r> + Default>(
    row: &'r Row,
    column: usize,
) -> Result<T, ReadError> {
    get::<Option<T>>(row, column).map(Option::unwrap_or_default)
}

/// Returns the word in a column, known or not.
pub(super) fn get_word<T>(
    row: &Row,
    column: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Stored<T>, ReadError> {
    Ok(Stored::parse_word(get(row, column)?, parse))
}

fn get_json_or_null<T: FromJson>(row: &Row, column: usize) -> Result<Option<Stored<T>>, ReadError> {
    Ok(get::<Option<&str>>(row, column)?.map(Stored::parse_json))
}

/// Returns the time in a column that talktrack never leaves null.
pub(super) fn get_time(row: &Row, column: usize) -> Result<StoredTime, ReadError> {
    get_time_or_null(row, column).map(|time| time.unwrap_or(StoredTime::Null))
}

fn get_time_or_null(row: &Row, column: usize) -> Result<Option<StoredTime>, ReadError> {
    let time: Option<Micros> = get(row, column)?;
    Ok(time.map(|Micros(micros)| StoredTime::from_micros_since_2000(micros)))
}

/// A `timestamptz` of any year, including `-infinity` and `infinity`, in PostgreSQL's binary form:
/// microseconds since 2000.
#[derive(Debug, Clone, Copy)]
pub(super) struct Micros(i64);

/// Returns the time of a cursor as a parameter, or NULL if the cursor cannot carry the time of its row.
pub(super) fn time_param(key: TimeKey) -> Option<Micros> {
    match key {
        TimeKey::At(micros) => Some(Micros(micros)),
        TimeKey::OfRow => None,
    }
}

impl FromSql<'_> for Micros {
    fn from_sql(of: &Type, bytes: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        i64::from_sql(of, bytes).map(Self)
    }

    accepts!(TIMESTAMPTZ);
}

impl ToSql for Micros {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql(of, out)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}
