//! The policies of row-level security, as data.

use super::tables::{
    DELETIONS, MESSAGE_DELETIONS, MESSAGES, NODES, SEARCH, SESSIONS, STALE, STATS, STORE, USER_DELETIONS,
};
use super::users::UserAccess;

/// A policy.
pub(super) struct Policy {
    pub(super) name: &'static str,
    /// What it is for, for the reader of the script.
    pub(super) purpose: &'static str,
    pub(super) table: &'static str,
    pub(super) role: &'static str,
    pub(super) command: Command,
    /// True if the policy restricts what other policies allow.
    pub(super) restrictive: bool,
    pub(super) using: Option<&'static str>,
    pub(super) check: Option<&'static str>,
    /// The narrowest access of users with which the policy exists.
    pub(super) access: UserAccess,
}

/// The command that a policy applies to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    All,
    Select,
    Insert,
    Update,
    Delete,
}

impl Command {
    pub(super) fn as_sql(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }

    /// The letter for the command in `pg_policy`.
    pub(super) fn letter(self) -> &'static str {
        match self {
            Self::All => "*",
            Self::Select => "r",
            Self::Insert => "a",
            Self::Update => "w",
            Self::Delete => "d",
        }
    }
}

impl Policy {
    const fn of_users(
        (name, purpose): (&'static str, &'static str),
        table: &'static str,
        command: Command,
        condition: &'static str,
        access: UserAccess,
    ) -> Self {
        let (using, check) = match command {
            Command::Insert => (None, Some(condition)),
            Command::Select | Command::Delete => (Some(condition), None),
            Command::All | Command::Update => (Some(condition), Some(condition)),
        };
        Self {
            name,
            purpose,
            table,
            role: "authenticated",
            command,
            restrictive: false,
            using,
            check,
            access,
        }
    }

    const fn restrictive(self) -> Self {
        Self { restrictive: true, ..self }
    }

    const fn of_service(name: &'static str, table: &'static str) -> Self {
        let role = "service_role";
        let command = Command::All;
        let access = UserAccess::Read;
        Self {
            name,
            purpose: "talktrack and every other holder of the service key may read and write all rows.",
            table,
            role,
            command,
            restrictive: false,
            using: Some("true"),
            check: Some("true"),
            access,
        }
    }
}

/// Selects sessions of the caller: of the user with the subject of the token, if that is a UUID, and otherwise of the user
/// with this text. The `SELECT` makes PostgreSQL evaluate the caller once per query instead of once per row. The cast is
/// reached for a UUID only, so that no subject causes an error. The left side is that of an index.
macro_rules! own_session {
    () => {
        "coalesce('text:' || user_external_id, user_id::text) = (SELECT CASE WHEN (auth.jwt() ->> 'sub') \
         ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN ((auth.jwt() ->> 'sub')::uuid)::text ELSE 'text:' || (auth.jwt() ->> 'sub') END)"
    };
}

/// Selects what the caller may start. A user whose id is not a UUID starts sessions through the server alone: users cannot
/// write the column for the text.
macro_rules! own_start {
    () => {
        concat!("user_external_id IS NULL AND ", own_session!())
    };
}

/// Selects messages of the caller's own sessions. The array is built once, so that the index on
/// `session_id` can be used.
macro_rules! own_message {
    () => {
        concat!(
            "session_id = ANY (ARRAY(SELECT session_id FROM public.conversation_sessions WHERE ",
            own_session!(),
            "))"
        )
    };
}

/// Excludes ids of version 5, which are derived from a name. Only the server derives ids.
const CHOSEN_ID: &str = "substr(session_id::text, 15, 1) <> '5'";

/// Holds even if a policy of the project's own lets users add messages: the session must be visible to the
/// caller, and the user must be the session's user.
const OF_ITS_SESSION: &str = "EXISTS (SELECT FROM public.conversation_sessions owned
    WHERE owned.session_id = conversation_messages.session_id
      AND (owned.user_id = conversation_messages.user_id
        OR conversation_messages.user_id IS NULL AND conversation_messages.role = 'system'))";

/// All policies. Each access includes the narrower ones. PostgreSQL also applies the project's own
/// policies.
pub(super) const POLICIES: [Policy; 19] = [
    Policy::of_users(
        ("talktrack_own_sessions", "Users read their own sessions only."),
        SESSIONS,
        Command::Select,
        own_session!(),
        UserAccess::Read,
    ),
    Policy::of_users(
        ("talktrack_insert_sessions", "Users start sessions of their own, if their id is a UUID."),
        SESSIONS,
        Command::Insert,
        own_start!(),
        UserAccess::Write,
    ),
    Policy::of_users(
        (
            "talktrack_chosen_session_ids",
            "Users choose no id of version 5: only the server derives such ids.",
        ),
        SESSIONS,
        Command::Insert,
        CHOSEN_ID,
        UserAccess::Read,
    )
    .restrictive(),
    Policy::of_users(
        ("talktrack_update_sessions", "Users change their own sessions."),
        SESSIONS,
        Command::Update,
        own_session!(),
        UserAccess::Write,
    ),
    Policy::of_users(
        ("talktrack_delete_sessions", "Users delete their own sessions."),
        SESSIONS,
        Command::Delete,
        own_session!(),
        UserAccess::Delete,
    ),
    Policy::of_users(
        ("talktrack_own_messages", "Users read the messages of their own sessions only."),
        MESSAGES,
        Command::Select,
        own_message!(),
        UserAccess::Read,
    ),
    Policy::of_users(
        ("talktrack_insert_messages", "Users add messages to their own sessions."),
        MESSAGES,
        Command::Insert,
        own_message!(),
        UserAccess::Write,
    ),
    Policy::of_users(
        (
            "talktrack_messages_of_session",
            "A message belongs to the user of its session, even if your own policies say otherwise.",
        ),
        MESSAGES,
        Command::Insert,
        OF_ITS_SESSION,
        UserAccess::Read,
    )
    .restrictive(),
    Policy::of_users(
        ("talktrack_delete_messages", "Users delete messages of their own sessions."),
        MESSAGES,
        Command::Delete,
        own_message!(),
        UserAccess::Delete,
    ),
    Policy::of_service("talktrack_service_sessions", SESSIONS),
    Policy::of_service("talktrack_service_messages", MESSAGES),
    // Only the service needs the tables that follow.
    Policy::of_service("talktrack_service_search", SEARCH),
    Policy::of_service("talktrack_service_deletions", DELETIONS),
    Policy::of_service("talktrack_service_user_deletions", USER_DELETIONS),
    Policy::of_service("talktrack_service_message_deletions", MESSAGE_DELETIONS),
    Policy::of_service("talktrack_service_nodes", NODES),
    Policy::of_service("talktrack_service_stats", STATS),
    Policy::of_service("talktrack_service_stats_stale", STALE),
    Policy::of_service("talktrack_service_store", STORE),
];

/// Policies of earlier schemas, by name and table.
pub(super) const FORMER_POLICIES: [(&str, &str); 1] = [("talktrack_own_search", SEARCH)];
