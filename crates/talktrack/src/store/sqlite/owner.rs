//! The user of a record that is kept as JSON, in a row of the journal or in a dead letter.

/// Expands to the SQL for the user for whom the record in a column `body` was accepted, if the record names
/// one.
macro_rules! owner {
    () => {
        "CASE WHEN json_valid(body) THEN coalesce(body ->> '$.body.message.owner', body ->> '$.body.start.user_id', \
         body ->> '$.body.update.owner', body ->> '$.body.end.owner', body ->> '$.body.alive.owner') END"
    };
}

pub(crate) use owner;
