//! What users may do through PostgREST: nothing but what stands here, whatever other grants there have been.

use std::fmt;
use std::str::FromStr;

use super::tables::{MESSAGES, SESSIONS};

/// What the database lets users do with their own conversations. `migrate` notes it in `conversation_store`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum UserAccess {
    /// Read them.
    Read,
    /// Read them, start and end sessions, and add messages.
    #[default]
    Write,
    /// The same, and delete sessions and messages.
    Delete,
}

impl UserAccess {
    /// All of them, the narrowest first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Delete];

    /// The word for it.
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

/// A right of `authenticated`.
pub(super) struct UserGrant {
    pub(super) table: &'static str,
    pub(super) privilege: &'static str,
    /// Empty for the whole table.
    pub(super) columns: &'static [&'static str],
    /// The narrowest access that has it.
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

/// All of them. Nobody updates a message: revisions go through the server.
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
