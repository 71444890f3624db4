//! Reads columns whose values another program may have written: they are returned unchanged.

use rusqlite::Row;
use rusqlite::types::ValueRef;
use talktrack_core::stored::{FromJson, Stored, StoredTime};

use crate::local::database::text_or_null;

/// A condition: the column holds an id in talktrack's spelling. A row without one cannot be addressed;
/// `verify` reports it. Without `likely`, SQLite expects the condition to hold for few rows, and then sorts all
/// rows instead of reading the first ones in the order of an index.
macro_rules! has_id {
    ($column:literal) => {
        concat!(
            "typeof(", $column, ") = 'text' AND length(", $column, ") = 36 AND likely(", $column, " GLOB \
             '[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]-[0-9a-f][0-9a-f][0-9a-f][0-9a-f]-\
             [0-9a-f][0-9a-f][0-9a-f][0-9a-f]-[0-9a-f][0-9a-f][0-9a-f][0-9a-f]-[0-9a-f][0-9a-f][0-9a-f][0-9a-f]\
             [0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]')"
        )
    };
}
pub(crate) use has_id;

/// Returns the word in a column, known or not.
pub(crate) fn read_word<T>(
    row: &Row<'_>,
    index: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<Stored<T>> {
    Ok(Stored::parse_word(text_or_null(row, index)?.as_deref(), parse))
}

/// Returns the time in a column that talktrack never leaves null.
pub(crate) fn read_time(row: &Row<'_>, index: usize) -> rusqlite::Result<StoredTime> {
    read_time_or_null(row, index).map(|time| time.unwrap_or(StoredTime::Null))
}

/// Returns the time in a nullable column.
pub(crate) fn read_time_or_null(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<StoredTime>> {
    Ok(match row.get_ref(index)? {
        ValueRef::Text(bytes) => Some(StoredTime::from_text(&String::from_utf8_lossy(bytes))),
        // Bytes and numbers sort differently from text, so a cursor finds such a row again by its id.
        _ => text_or_null(row, index)?.map(|text| StoredTime::Text(text.into())),
    })
}

/// Returns the JSON in a nullable column, valid or not.
pub(crate) fn read_json_or_null<T: FromJson>(
    row: &Row<'_>,
    index: usize,
) -> rusqlite::Result<Option<Stored<T>>> {
    Ok(text_or_null(row, index)?.as_deref().map(Stored::parse_json))
}
