//! Decides which table a record on a page belongs to. Trees and roots may be broken, so a record is
//! recognised by its shape, and is accepted only if its ids, times and texts are valid. Unknown words were
//! written by other programs and are accepted.
//!
//! A migration that adds a column changes the shape of a table's records: [`SalvagedTable::recognise`] has to know both
//! shapes.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use sqlite_salvage::{Record as FoundRecord, Value};
use talktrack_core::ids::SessionId;

use crate::local::database::users::parse_user;
use crate::local::database::{parse_id, parse_time};

/// The tables whose records are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SalvagedTable {
    Sessions,
    Messages,
    Journal,
    DeadLetters,
    OpenSessions,
    DeletedSessions,
    /// Sessions that users deleted without owning them, according to the store.
    DeletedClaims,
    /// Messages that were deleted one by one; the session comes first in the row.
    DeletedMessages,
    /// Ranges of the journal that the store has confirmed.
    ResendWindow,
    /// The last delivery of each lane.
    Lanes,
    Books,
    /// The directory's notes about itself. Its node id is not copied: the new file is another node.
    Directory,
    /// The index `conversation_sessions_of_user`: a second place that knows the user of a session.
    SessionIndex,
}

impl SalvagedTable {
    /// Returns the table, or `None` for records that need no copying (entries of other indexes, the schema)
    /// and for invalid ones.
    pub(super) fn recognise(found: &FoundRecord) -> Option<Self> {
        use Value::{Integer, Null, Text};
        let table = match (found.rowid, found.values.as_slice()) {
            // In earlier versions a session did not name the last record that changed it, or had no column
            // `extra`, or none for its dimensions or for the user's text.
            (Some(_), values)
                if matches!(values.len(), 13 | 16 | 17 | 23 | 24) && Self::Sessions.is_valid_row(values) =>
            {
                Self::Sessions
            }
            (Some(_), values) if matches!(values.len(), 16 | 17 | 20) => Self::Messages,
            // In earlier versions a record did not name its session, or not its lane.
            (
                Some(_),
                [Null, _, _, Text(_), Integer(_)]
                | [Null, _, _, Text(_), Integer(_), Null | Text(_)]
                | [Null, _, _, Text(_), Integer(_), Null | Text(_), Null | Integer(_)],
            ) => Self::Journal,
            (Some(_), [Null, _, _, Text(_), _, Text(_), Text(_)]) => Self::DeadLetters,
            (Some(1), [Null, totals @ ..]) if matches!(totals.len(), 6..=8) => Self::Books,
            (None, [Integer(_), Integer(_), Integer(_), Integer(_), Integer(_), Integer(_), Integer(_)]) => {
                Self::ResendWindow
            }
            (Some(_), [Null, Integer(_)]) => Self::Lanes,
            // The column for the path of the file was added last.
            (
                Some(1),
                [Null, Text(_), Null | Text(_), Null | Text(_)]
                | [Null, Text(_), Null | Text(_), Null | Text(_), Null | Text(_)],
            ) => Self::Directory,
            (None, [Text(_)]) => Self::OpenSessions,
            // In earlier versions a deleted session did not name its user.
            (None, [Text(_), Text(_)] | [Text(_), Text(_), Null]) => Self::DeletedSessions,
            (None, values @ [Text(_), Text(_), Text(_)]) if Self::DeletedSessions.is_valid_row(values) => {
                Self::DeletedSessions
            }
            (None, [Text(_), Text(_), Integer(_)]) => Self::DeletedClaims,
            (None, [Text(_), Text(_), Text(_)]) => Self::DeletedMessages,
            // In earlier versions the index did not have the user's text.
            (
                None,
                [Text(_), Text(_), Text(_), Integer(_)]
                | [Text(_), Text(_), Text(_), Null | Text(_), Integer(_)],
            ) => Self::SessionIndex,
            _ => return None,
        };
        table.is_valid_row(&found.values).then_some(table)
    }

    /// Returns the columns that contain ids.
    pub(super) fn id_columns(self) -> &'static [usize] {
        match self {
            Self::Sessions | Self::Messages => &[0, 1, 2],
            Self::SessionIndex => &[0, 2],
            Self::OpenSessions | Self::DeletedSessions => &[0],
            Self::DeletedClaims => &[0],
            Self::DeletedMessages => &[0, 1],
            Self::Journal
            | Self::DeadLetters
            | Self::ResendWindow
            | Self::Lanes
            | Self::Books
            | Self::Directory => &[],
        }
    }

    fn is_valid_row(self, values: &[Value]) -> bool {
        match self {
            Self::Sessions => {
                are_ids(values, &[0, 1, 2])
                    && are_times(values, &[3])
                    && are_times_or_null(values, &[4, 7, 12])
                    && values[9].text().is_some()
                    && matches!(values[11], Value::Integer(0..))
                    && matches!(values.get(13), None | Some(Value::Integer(0 | 1)))
                    && matches!(values.get(15), None | Some(Value::Null | Value::Integer(_)))
                    && matches!(values.get(23), None | Some(Value::Null | Value::Text(_)))
            }
            Self::Messages => {
                are_ids(values, &[0, 1])
                    && (values[2] == Value::Null || are_ids(values, &[2]))
                    && values[3].text().is_some()
                    && matches!(values[4], Value::Text(_))
                    && are_times(values, &[7])
                    && matches!(values[8], Value::Null | Value::Integer(_))
                    && values[10].text().is_some()
                    && matches!(values[11..13], [Value::Integer(0..=0xffff_ffff), Value::Integer(0 | 1)])
            }
            Self::Journal => true,
            Self::DeadLetters => are_times(values, &[6]),
            Self::ResendWindow => {
                let number =
                    |column: usize| if let Value::Integer(number) = values[column] { number } else { -1 };
                (0..7).all(|column| number(column) >= 0) && number(1) <= number(2) && number(6) <= 1
            }
            Self::Lanes => matches!(values[1], Value::Integer(0..)),
            Self::OpenSessions => are_ids(values, &[0]),
            Self::DeletedSessions => {
                let user_is_valid = matches!(values.get(2), None | Some(Value::Null)) || is_user(values, 2);
                are_ids(values, &[0]) && are_times(values, &[1]) && user_is_valid
            }
            Self::DeletedClaims => {
                are_ids(values, &[0]) && is_user(values, 1) && matches!(values[2], Value::Integer(0..))
            }
            Self::DeletedMessages => are_ids(values, &[0, 1]) && are_times(values, &[2]),
            Self::SessionIndex => are_ids(values, &[0, 2]) && are_times(values, &[1]),
            Self::Directory => are_ids(values, &[1]) && (values[2] == Value::Null || are_ids(values, &[2])),
            Self::Books => values[1..].iter().all(|total| matches!(total, Value::Integer(0..))),
        }
    }
}

/// A value that is written as it was read. Text that is no longer valid UTF-8 is passed on unchanged.
pub(super) struct SqlValue<'v>(pub(super) &'v Value);

impl ToSql for SqlValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(*number),
            Value::Real(number) => ValueRef::Real(*number),
            Value::Text(text) => ValueRef::Text(text),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn are_ids(values: &[Value], columns: &[usize]) -> bool {
    columns.iter().all(|column| values[*column].text().and_then(parse_id::<SessionId>).is_some())
}

fn is_user(values: &[Value], column: usize) -> bool {
    values[column].text().and_then(parse_user).is_some()
}

fn are_times(values: &[Value], columns: &[usize]) -> bool {
    columns.iter().all(|column| values[*column].text().and_then(parse_time).is_some())
}

fn are_times_or_null(values: &[Value], columns: &[usize]) -> bool {
    columns.iter().all(|column| values[*column] == Value::Null || are_times(values, &[*column]))
}
