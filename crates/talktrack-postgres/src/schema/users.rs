//! The access of users through PostgREST. Users have exactly the rights listed here, regardless of earlier
//! grants.

use std::fmt;
use std::str::FromStr;

use super::tables::{MESSAGES, SESSIONS};

/// The access that the database gives users to their own conversations. `migrate` notes it in
/// `conversation_store`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum UserAccess {
    /// Users may read them.
    Read,
    /// Users may read them, start and end sessions, and add messages.
    #[default]
    Write,
    /// Users may do all of this, and delete sessions and messages.
    Delete,
}

impl UserAccess {
    /// All kinds of access, the narrowest first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Delete];

    /// Returns the word for the access.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for UserAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for UserAccess {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let access = Self::ALL.into_iter().find(|access| access.as_str() == text);
        access.ok_or_else(|| "must be read, write or delete".to_owned())
    }
}

/// A privilege of the role `authenticated`.
pub(super) struct UserGrant {
    pub(super) table: &'static str,
    pub(super) privilege: &'static str,
    /// The columns; empty for the whole table.
    pub(super) columns: &'static [&'static str],
    /// The narrowest access that includes the privilege.
    pub(super) access: UserAccess,
}

impl UserGrant {
    const fn new(
        table: &'static str,
        privilege: &'static str,
        columns: &'static [&'static str],
        access: UserAccess,
    ) -> Self {
        Self { table, privilege, columns, access }
    }
}

/// All privileges of users. No user may update a message: revisions go through the server.
pub(super) const USER_GRANTS: [UserGrant; 7] = [
    UserGrant::new(SESSIONS, "SELECT", &[], UserAccess::Read),
    UserGrant::new(
        SESSIONS,
        "INSERT",
        &["session_id", "user_id", "started_at", "ended_at", "duration_seconds", "metadata"],
        UserAccess::Write,
    ),
    UserGrant::new(SESSIONS, "UPDATE", &["ended_at", "duration_seconds", "metadata"], UserAccess::Write),
    UserGrant::new(SESSIONS, "DELETE", &[], UserAccess::Delete),
    UserGrant::new(MESSAGES, "SELECT", &[], UserAccess::Read),
    UserGrant::new(
        MESSAGES,
        "INSERT",
        &["session_id", "user_id", "role", "content", "audio_url", "metadata", "created_at"],
        UserAccess::Write,
    ),
    UserGrant::new(MESSAGES, "DELETE", &[], UserAccess::Delete),
];
