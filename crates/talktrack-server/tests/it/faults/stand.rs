//! The test stand of the fault cases: a home with a server's data, the store, and the clients.

use std::net::SocketAddr;
use std::sync::Arc;

use nix::sys::signal::Signal;
use talktrack_testbed::{Database, Postgres, Proxy};
use tokio::process::Command;
use tokio::sync::watch;
use uuid::Uuid;

use super::oracle::Oracle;
use super::talkers::{Manner, Talkers};
use crate::harness::remote::migrated;
use crate::harness::{Home, Server, until_within};

/// The environment of a server, which outlives each of its processes.
pub(crate) struct Stand {
    pub(crate) home: Home,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) user: Uuid,
    remote: Option<Remote>,
    /// The number of the node among the nodes of one store, starting at 0.
    node: usize,
    door: Arc<watch::Sender<Vec<Place>>>,
}

/// A node that accepts connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of the node among the nodes of one store.
    pub(crate) node: usize,
    pub(crate) address: SocketAddr,
}

/// A PostgreSQL database as the store, behind a proxy that can break.
pub(crate) struct Remote {
    pub(crate) database: Arc<Database>,
    pub(crate) proxy: Proxy,
    /// The role that the server connects as.
    role: String,
}

impl Remote {
    /// Creates a database with the schema on this cluster.
    pub(crate) async fn on(cluster: &Postgres) -> Self {
        Self::behind(Proxy::to(cluster.port()), cluster).await
    }

    /// Does the same with a proxy of the case's own.
    pub(crate) async fn behind(proxy: Proxy, cluster: &Postgres) -> Self {
        Self { database: Arc::new(migrated(cluster).await), proxy, role: "talktrack".to_owned() }
    }

    /// Makes the server connect as this role.
    pub(crate) fn with_role(self, role: String) -> Self {
        Self { role, ..self }
    }

    /// Returns the URL of the database through the proxy.
    pub(crate) fn url(&self) -> String {
        self.database.url_of(&self.role, self.proxy.address())
    }
}

impl Stand {
    /// Uses SQLite as the store.
    pub(crate) fn on_sqlite() -> Self {
        Self::with(None)
    }

    /// Uses a separate database on the shared cluster as the store.
    pub(crate) async fn on_postgres() -> Self {
        Self::on_remote(Remote::on(Postgres::shared()).await)
    }

    /// Uses this database as the store.
    pub(crate) fn on_remote(remote: Remote) -> Self {
        Self::with(Some(remote))
    }

    fn with(remote: Option<Remote>) -> Self {
        let home = Home::new();
        let oracle = Arc::new(Oracle::default());
        Self { home, oracle, user: Uuid::new_v4(), remote, node: 0, door: Arc::default() }
    }

    /// Makes `count` nodes of one database on the shared cluster, each with its own home and proxy. Talkers connect to
    /// any of them.
    pub(crate) async fn nodes(count: usize) -> Vec<Self> {
        let first = Self::on_postgres().await;
        let node = |node| {
            let database = Arc::clone(&first.remote().expect("it has a remote store").database);
            let proxy = Proxy::to(Postgres::shared().port());
            Self {
                home: Home::new(),
                oracle: Arc::clone(&first.oracle),
                user: first.user,
                remote: Some(Remote { database, proxy, role: "talktrack".to_owned() }),
                node,
                door: Arc::clone(&first.door),
            }
        };
        let others: Vec<_> = (1..count).map(node).collect();
        [first].into_iter().chain(others).collect()
    }

    /// Returns the remote store, if there is one.
    pub(crate) fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// Returns the number of the node among the nodes of one store.
    pub(crate) fn node(&self) -> usize {
        self.node
    }

    /// Starts a server with these additional flags and tells the talkers its address.
    pub(crate) async fn serve(&self, flags: &[&str]) -> Server {
        self.serve_as(self.command(flags)).await
    }

    /// Builds `talktrack serve` with these additional flags.
    pub(crate) fn command(&self, flags: &[&str]) -> Command {
        let mut command = self.home.server_command(flags);
        command.args(["--log-level", "warn"]);
        if let Some(remote) = &self.remote {
            command.args(["--database-url", &remote.url()]);
        }
        command
    }

    /// Starts a server with this command and tells the talkers its address.
    pub(crate) async fn serve_as(&self, command: Command) -> Server {
        let server = Server::start(&self.home, command).await;
        let place = Place { node: self.node, address: server.address };
        self.door.send_modify(|places| places.push(place));
        server
    }

    /// Starts talkers. They wait until a server runs, and connect again to each new one.
    pub(crate) fn talk(&self, manner: Manner) -> Talkers {
        Talkers::begin(manner, self.user, &self.door.subscribe(), &self.oracle)
    }

    /// Kills the server with SIGKILL.
    pub(crate) async fn kill(&self, mut server: Server) {
        assert_eq!(self.ends(&mut server, Signal::SIGKILL).await, None);
    }

    /// Stops the server with SIGTERM and asserts a clean exit.
    pub(crate) async fn stop(&self, mut server: Server) {
        assert_eq!(self.ends(&mut server, Signal::SIGTERM).await, Some(0));
    }

    /// Sends the signal and returns the exit code.
    pub(crate) async fn ends(&self, server: &mut Server, signal: Signal) -> Option<i32> {
        self.door.send_modify(|places| places.retain(|place| place.node != self.node));
        server.signal(signal);
        server.ended().await
    }

    /// Waits until everything durable has reached the store.
    pub(crate) async fn drained(&self, server: &Server) {
        let drained = async || (server.metric("talktrack_journal_bytes").await == 0.0).then_some(());
        until_within(super::PATIENCE, "everything reaches the store", drained).await;
    }
}
