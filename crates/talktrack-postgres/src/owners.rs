//! Whose a session is. A user is the UUID together with the text that the UUID is derived from, if there is one: neither is
//! compared alone.

use std::collections::HashMap;

use talktrack_core::ids::{SessionId, UserId};
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use crate::statement::{Statement, read_id};

/// True if a record that names this owner belongs to the row `session`: the row has the same user, or it was a guest's that a
/// user has claimed since, and the record was accepted for the guest. A record that names no owner belongs to any row.
macro_rules! is_owner {
    ($user:literal, $text:literal) => {
        concat!(
            "(session.user_id = coalesce(",
            $user,
            ", session.user_id) AND (",
            $user,
            " IS NULL OR session.user_external_id IS NOT DISTINCT FROM ",
            $text,
            ") OR ",
            $text,
            " IS NULL AND session.extra->'talktrack'->>'claimed_from' = ",
            $user,
            "::text)"
        )
    };
}

/// True if the mark `gone` of `conversation_user_deletions` is this user's. An empty text stands for none.
macro_rules! is_marked {
    ($user:literal, $text:literal) => {
        concat!("gone.user_id = ", $user, " AND gone.user_external_id = coalesce(", $text, ", '')")
    };
}

pub(super) use {is_marked, is_owner};

/// Returns the user as one text. In a row this is `coalesce('text:' || user_external_id, user_id::text)`: an index and the
/// policies of users have it. The prefix keeps a text that looks like a UUID from being taken for one.
pub(super) fn user_key(user_id: &UserId) -> String {
    user_id.text().map_or_else(|| user_id.as_uuid().to_string(), |text| format!("text:{text}"))
}

/// The users of sessions, and the guests from whom users claimed them.
const OWNERS: &str = "SELECT session_id, user_id, user_external_id, extra->'talktrack'->>'claimed_from' \
     FROM public.conversation_sessions WHERE session_id = ANY($1::uuid[])";

/// The owner of a stored session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionOwner {
    /// The nil user if another program wrote a row without a possible user.
    pub(super) user_id: UserId,
    /// The guest who had the session before its user claimed it.
    claimed_from: Option<UserId>,
}

impl SessionOwner {
    /// True if a record that was accepted for `owner` belongs to another user's session.
    pub(super) fn is_other(&self, owner: Option<&UserId>) -> bool {
        owner.is_some_and(|owner| *owner != self.user_id && Some(owner) != self.claimed_from.as_ref())
    }

    fn read(row: &Row) -> Result<Self, Error> {
        let claimed_from: Option<&str> = row.try_get(3)?;
        let claimed_from = claimed_from.and_then(|text| text.parse().ok()).map(UserId::new);
        Ok(Self { user_id: read_user(row, 1, 2)?.unwrap_or(UserId::nil()), claimed_from })
    }
}

/// Selects the owners of those of these sessions that exist.
pub(super) fn select_owners(sessions: impl Iterator<Item: Into<Uuid>>) -> Statement<'static> {
    Statement::new(OWNERS).uuids(sessions)
}

/// Returns the owners of those of these sessions that exist.
pub(super) async fn find_owners(
    client: &Client,
    sessions: impl Iterator<Item = SessionId>,
) -> Result<HashMap<SessionId, SessionOwner>, Error> {
    read_owners(&select_owners(sessions).query(client).await?)
}

/// Reads the rows of [`select_owners`].
pub(super) fn read_owners(rows: &[Row]) -> Result<HashMap<SessionId, SessionOwner>, Error> {
    rows.iter().map(|row| Ok((read_id(row, 0)?, SessionOwner::read(row)?))).collect()
}

/// Returns the user in these columns, a UUID and a text. `None` if the row names no possible user.
pub(super) fn read_user(row: &Row, uuid: usize, text: usize) -> Result<Option<UserId>, Error> {
    Ok(UserId::from_columns(row.try_get(uuid)?, row.try_get(text)?))
}
