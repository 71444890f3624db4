//! The user of a record that is kept as JSON, in a row of the journal or in a dead letter.

use rusqlite::Connection;
use talktrack_core::clock::Seq;
use talktrack_core::ids::UserId;
use talktrack_core::record::Record;

use crate::local::database::users::UserText;

/// Expands to the SQL for the user for whom the record in a column `body` was accepted, if the record names
/// one.
macro_rules! owner {
    () => {
        "CASE WHEN json_valid(body) THEN coalesce(body ->> '$.body.message.owner', body ->> '$.body.start.user_id', \
         body ->> '$.body.update.owner', body ->> '$.body.end.owner', body ->> '$.body.alive.owner', \
         body ->> '$.body.edit_messages.owner') END"
    };
}

/// The SQL condition for the records of session `?1` that were accepted for user `?2`, or for all of its records if
/// `?2` is null.
macro_rules! of_session {
    () => {
        concat!("session_id = ?1 AND (?2 IS NULL OR ", owner!(), " = ?2)")
    };
}

/// Expands to the SQL condition for messages in a column `body` that a user wrote with a token.
macro_rules! is_by_user {
    () => {
        "coalesce(CASE WHEN json_valid(body) THEN body ->> '$.body.message.by_user' END, 0)"
    };
}

pub(super) use {is_by_user, of_session, owner};

/// Returns the records that were accepted for this user, each with its `seq`. `sql` selects the `seq` and the `body` of
/// rows whose body, a JSON text, contains the text `?1`.
pub(super) fn read_records_of(
    connection: &Connection,
    sql: &str,
    user_id: &UserId,
) -> rusqlite::Result<Vec<(Seq, Record)>> {
    let mut statement = connection.prepare(sql)?;
    let quoted = serde_json::Value::from(UserText::new(user_id).as_str()).to_string();
    let rows = statement.query_map([quoted.trim_matches('"')], |row| {
        Ok((row.get(0)?, serde_json::from_slice::<Record>(row.get_ref(1)?.as_bytes()?).ok()))
    })?;
    // The text of a message may contain the user's id too: only the owner of the record counts.
    let is_theirs = |(seq, record): (Seq, Option<Record>)| {
        record.filter(|record| record.owner() == Some(user_id)).map(|record| (seq, record))
    };
    rows.filter_map(|row| row.map(is_theirs).transpose()).collect()
}
