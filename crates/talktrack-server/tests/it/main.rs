//! All these tests run the real binary over real sockets, each on its own data directory.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so by panicking")]

mod harness;

mod auth;
mod isolation;
mod api;
mod clients;
mod dashboard;
mod browser;
mod examples;
mod protocol;
mod messages;
mod acknowledged;
mod edits;
mod understood;
mod users;
mod starts;
mod feed;
mod compressed;
mod after_the_call;
mod events;
mod audio;
mod bad_input;
mod bad_peers;
mod pressure;
mod limits;
mod settings;
mod connection_strings;
mod schema;
mod shutdown;
mod ops;
mod backup;
mod losses;
mod ground;
mod which_store;
mod logs;
mod audit_log;
mod replay;
mod commands;
mod commands_by_url;
mod import_through_server;
mod tail;
mod demo;
mod dead_letters;
mod deletion;
mod control;
mod postgres;
mod postgres_outage;
mod postgres_commands;
mod node_order;

mod faults;
