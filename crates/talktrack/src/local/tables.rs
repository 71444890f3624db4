//! The tables of the file. The statements about a table stand in the module of that table, and everything else calls them.

pub(crate) mod sessions;
pub(crate) mod messages;
pub(crate) mod message_deletions;
pub(crate) mod deleted_sessions;
pub(crate) mod deleted_claims;
pub(crate) mod changes;
pub(crate) mod directory;
