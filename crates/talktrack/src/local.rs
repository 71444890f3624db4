//! The SQLite file of a data directory: how it is opened, who may open it, and its tables.

pub(crate) mod tables;
pub(crate) mod reader_pool;
pub(crate) mod disk_reserve;
pub(crate) mod database;
pub(crate) mod lock;
pub(crate) mod watched_files;
