//! Which table a record found on a page belongs to. Trees and roots may be broken, so a record is known by its shape, and is
//! believed only where what must be an id, a time or a word is one.

use crate::database::{parse_time, parse_uuid};
use crate::message::{Kind, Role};
use crate::record::Status;
use crate::salvage::cells::{Found, Value};

/// What is carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Sessions,
    Messages,
    Journal,
    DeadLetters,
    OpenSessions,
    DeletedSessions,
    Books,
    /// The index `conversation_sessions_of_user`: a second place that knows whose a session is.
    SessionIndex,
}

impl Table {
    /// `None` for what needs no carrying (entries of the other indexes, the schema) and what can't be true.
    pub(super) fn of(found: &Found) -> Option<Self> {
        use Value::{Integer, Null, Text};
        let table = match (found.rowid, found.values.as_slice()) {
            (Some(_), [_, _, _, _, _, _, _, _, _, _, _, _, _]) => Self::Sessions,
            (Some(_), [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _]) => Self::Messages,
            // Earlier versions did not name the session of a record.
            (
                Some(_),
                [Null, _, _, Text(_), Integer(_)] | [Null, _, _, Text(_), Integer(_), Null | Text(_)],
            ) => Self::Journal,
            (Some(_), [Null, _, _, Text(_), _, Text(_), Text(_)]) => Self::DeadLetters,
            (Some(1), [Null, totals @ ..]) if matches!(totals.len(), 6..=8) => Self::Books,
            (None, [Text(_)]) => Self::OpenSessions,
            (None, [Text(_), Text(_)]) => Self::DeletedSessions,
            (None, [Text(_), Text(_), Text(_), Integer(_)]) => Self::SessionIndex,
            _ => return None,
        };
        table.believes(&found.values).then_some(table)
    }

    /// The columns that hold ids.
    pub(super) fn ids(self) -> &'static [usize] {
        match self {
            Self::Sessions | Self::Messages => &[0, 1, 2],
            Self::SessionIndex => &[0, 2],
            Self::OpenSessions | Self::DeletedSessions => &[0],
            Self::Journal | Self::DeadLetters | Self::Books => &[],
        }
    }

    fn believes(self, values: &[Value]) -> bool {
        match self {
            Self::Sessions => {
                ids(values, &[0, 1, 2])
                    && times(values, &[3])
                    && times_or_null(values, &[4, 7, 12])
                    && values[9].text().and_then(Status::parse).is_some()
                    && matches!(values[11], Value::Integer(0..))
            }
            Self::Messages => {
                ids(values, &[0, 1])
                    && (values[2] == Value::Null || ids(values, &[2]))
                    && values[3].text().is_some_and(|word| word.parse::<Role>().is_ok())
                    && matches!(values[4], Value::Text(_))
                    && times(values, &[7])
                    && matches!(values[8], Value::Null | Value::Integer(_))
                    && values[10].text().is_some_and(|word| word.parse::<Kind>().is_ok())
                    && matches!(values[11..13], [Value::Integer(0..=0xffff_ffff), Value::Integer(0 | 1)])
            }
            Self::Journal => true,
            Self::DeadLetters => times(values, &[6]),
            Self::OpenSessions => ids(values, &[0]),
            Self::DeletedSessions => ids(values, &[0]) && times(values, &[1]),
            Self::SessionIndex => ids(values, &[0, 2]) && times(values, &[1]),
            Self::Books => values[1..].iter().all(|total| matches!(total, Value::Integer(0..))),
        }
    }
}

impl Value {
    /// The text, where it is one and readable.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }
}

fn ids(values: &[Value], columns: &[usize]) -> bool {
    columns.iter().all(|column| values[*column].text().and_then(parse_uuid).is_some())
}

fn times(values: &[Value], columns: &[usize]) -> bool {
    columns.iter().all(|column| values[*column].text().and_then(parse_time).is_some())
}

fn times_or_null(values: &[Value], columns: &[usize]) -> bool {
    columns.iter().all(|column| values[*column] == Value::Null || times(values, &[*column]))
}
