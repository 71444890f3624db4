//! A database of a test's own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::psql::Psql;

/// A fresh database in a [`Postgres`](crate::Postgres), dropped with this value, whoever is still connected.
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

    /// Unlike any other in its cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where a client finds it, as the superuser `talktrack`.
    pub fn url(&self) -> String {
        self.url_at(self.psql.port())
    }

    /// The same through another port of this machine: a proxy's.
    pub fn url_at(&self, port: u16) -> String {
        self.url_of("talktrack", (Ipv4Addr::LOCALHOST, port).into())
    }

    /// The same for another user, `"name"` or `"name:password"` as they stand in a URL, who comes in there.
    pub fn url_of(&self, user: &str, address: SocketAddr) -> String {
        format!("postgres://{user}@{address}/{}", self.name)
    }

    /// The same for another user who comes in by the front door.
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
    /// What psql complained of.
    pub fn try_psql(&self, sql: &str) -> Result<String, String> {
        self.psql.try_run(&self.name, sql)
    }

    /// Runs statements about the cluster as a whole, which are kept apart from each other in another database.
    pub(crate) fn psql_cluster(&self, sql: &str) {
        self.psql.run("postgres", sql);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A test may have stopped the cluster, and with the cluster the database goes anyway.
        let _ = self.psql.try_run("postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}
