//! The tables of the file. A statement stands in the module of the table that it changes or whose rows it returns;
//! it may join others. Everything else calls these modules.

pub(crate) mod sessions;
pub(crate) mod messages;
pub(crate) mod message_deletions;
pub(crate) mod deleted_sessions;
pub(crate) mod deleted_claims;
pub(crate) mod changes;
pub(crate) mod moved_starts;
pub(crate) mod closed_messages;
pub(crate) mod removed_messages;
pub(crate) mod directory;
pub(crate) mod dead_letters;
pub(crate) mod journal;
pub(crate) mod resend_window;
pub(crate) mod lanes;
pub(crate) mod open_sessions;
pub(crate) mod books;
pub(crate) mod unerased;
mod owner;
mod distinct_sessions;
