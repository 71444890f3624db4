//! The tables of the file. The statements about a table stand in the module of that table, and everything else calls them.

pub(crate) mod sessions;
pub(crate) mod messages;
pub(crate) mod message_deletions;
pub(crate) mod deleted_sessions;
pub(crate) mod deleted_claims;
pub(crate) mod changes;
pub(crate) mod directory;
pub(crate) mod dead_letters;
pub(crate) mod journal;
pub(crate) mod resend_window;
pub(crate) mod lanes;
pub(crate) mod open_sessions;
pub(crate) mod books;
pub(crate) mod unerased;
mod owner;
