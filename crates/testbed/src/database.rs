//! A database that belongs to one test.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::psql::Psql;

/// A fresh database in a [`Postgres`](crate::Postgres). It is dropped with this value, even if clients are
/// still connected.
pub struct Database {
    name: String,
    psql: Psql,
}

impl Database {
    pub(crate) fn create(psql: &Psql, template: &str) -> Self {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", CREATED.fetch_add(1, Ordering::Relaxed));
        psql.run("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}"));
        Self { name, psql: psql.clone() }
    }

    /// Returns its name, which is unique in its cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the URL for clients, as the superuser `talktrack`.
    pub fn url(&self) -> String {
        self.url_at(self.psql.port())
    }

    /// Returns the URL through another port of this machine, such as a proxy's.
    pub fn url_at(&self, port: u16) -> String {
        self.url_of("talktrack", (Ipv4Addr::LOCALHOST, port).into())
    }

    /// Returns the URL for another user at this address. `user` is `"name"` or `"name:password"`, as in a
    /// URL.
    pub fn url_of(&self, user: &str, address: SocketAddr) -> String {
        format!("postgres://{user}@{address}/{}", self.name)
    }

    /// Returns the URL for another user who connects directly.
    pub fn url_as(&self, user: &str) -> String {
        self.url_of(user, (Ipv4Addr::LOCALHOST, self.psql.port()).into())
    }

    /// Runs statements as [`Postgres::psql`](crate::Postgres::psql) does.
    pub fn psql(&self, sql: &str) -> String {
        self.psql.run(&self.name, sql)
    }

    /// Runs statements as [`Postgres::try_psql`](crate::Postgres::try_psql) does.
    ///
    /// # Errors
    /// The error message of psql.
    pub fn try_psql(&self, sql: &str) -> Result<String, String> {
        self.psql.try_run(&self.name, sql)
    }

    /// Runs statements that concern the whole cluster, in a database of their own.
    pub(crate) fn psql_cluster(&self, sql: &str) {
        self.psql.run("postgres", sql);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A test may have stopped the cluster; then the database disappears with the cluster.
        let _ = self.psql.try_run("postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}
