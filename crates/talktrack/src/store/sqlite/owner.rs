//! Whose a record is that is kept as JSON: a row of the journal, or a dead letter.

/// The user that the record in a column `body` was accepted for, if the record names one.
macro_rules! owner {
    () => {
        "CASE WHEN json_valid(body) THEN coalesce(body ->> '$.body.message.owner', body ->> '$.body.start.user_id', \
         body ->> '$.body.update.owner', body ->> '$.body.end.owner', body ->> '$.body.alive.owner') END"
    };
}

pub(crate) use owner;
