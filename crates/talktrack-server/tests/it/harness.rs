//! What most tests need: a home directory, a server that runs in it, clients, and access to its database.

mod client;
mod database;
mod home;
mod http;
mod listener;
pub(crate) mod remote;
mod server;
mod tail;
mod talkers;
mod wait;

pub(crate) use client::{Client, acks_in, text, user};
pub(crate) use database::{Database, MessageRow};
pub(crate) use home::{Home, Output};
pub(crate) use http::{HttpAnswer, Request, request, upgrade};
pub(crate) use listener::{Listener, Told};
pub(crate) use server::Server;
pub(crate) use tail::Tail;
pub(crate) use talkers::{Oracle, gapless};
pub(crate) use wait::{DEADLINE, until, until_told, until_within, within};
