//! The tables of the file. The statements about a table stand in the module of that table, and everything else calls them.

pub(crate) mod directory;
pub(crate) mod dead_letters;
pub(crate) mod journal;
pub(crate) mod resend_window;
pub(crate) mod lanes;
pub(crate) mod open_sessions;
pub(crate) mod books;
mod owner;
