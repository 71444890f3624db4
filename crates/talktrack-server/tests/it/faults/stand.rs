//! What stands the faults: a home with a server's data, the store that is written, and those who talk.

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

/// A server's surroundings, which outlive every one of its processes.
pub(crate) struct Stand {
    pub(crate) home: Home,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) user: Uuid,
    remote: Option<Remote>,
    /// Its number among the nodes of one store, counted from 0.
    node: usize,
    door: Arc<watch::Sender<Vec<Place>>>,
}

/// A node that takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its number among the nodes of one store.
    pub(crate) node: usize,
    pub(crate) address: SocketAddr,
}

/// A PostgreSQL as the store, with a network that can be broken.
pub(crate) struct Remote {
    pub(crate) database: Arc<Database>,
    pub(crate) proxy: Proxy,
    /// As whom the server comes in.
    role: String,
}

impl Remote {
    /// A fresh database on this cluster, with the schema.
    pub(crate) async fn on(cluster: &Postgres) -> Self {
        Self::behind(Proxy::to(cluster.port()), cluster).await
    }

    /// The same behind a network of the case's own.
    pub(crate) async fn behind(proxy: Proxy, cluster: &Postgres) -> Self {
        Self { database: Arc::new(migrated(cluster).await), proxy, role: "talktrack".to_owned() }
    }

    /// The server comes in as this role.
    pub(crate) fn with_role(self, role: String) -> Self {
        Self { role, ..self }
    }

    /// Its address, through the network that can be broken.
    pub(crate) fn url(&self) -> String {
        self.database.url_of(&self.role, self.proxy.address())
    }
}

impl Stand {
    /// The store is the file of the data directory.
    pub(crate) fn on_sqlite() -> Self {
        Self::with(None)
    }

    /// The store is a database of its own on the cluster that all tests share.
    pub(crate) async fn on_postgres() -> Self {
        Self::on_remote(Remote::on(Postgres::shared()).await)
    }

    /// The store is this.
    pub(crate) fn on_remote(remote: Remote) -> Self {
        Self::with(Some(remote))
    }

    fn with(remote: Option<Remote>) -> Self {
        let (home, oracle) = (Home::new(), Arc::new(Oracle::default()));
        Self { home, oracle, user: Uuid::new_v4(), remote, node: 0, door: Arc::default() }
    }

    /// So many nodes over one database on the cluster that all tests share. Each has a home and a network of its own; talkers
    /// come to any of them.
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

    /// The remote store, where there is one.
    pub(crate) fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// Its number among the nodes of one store.
    pub(crate) fn node(&self) -> usize {
        self.node
    }

    /// Starts a server with these flags on top, and tells the talkers where it is.
    pub(crate) async fn serve(&self, flags: &[&str]) -> Server {
        self.serve_as(self.command(flags)).await
    }

    /// `talktrack serve` with these flags on top.
    pub(crate) fn command(&self, flags: &[&str]) -> Command {
        let mut command = self.home.server_command(flags);
        command.args(["--log-level", "warn"]);
        if let Some(remote) = &self.remote {
            command.args(["--database-url", &remote.url()]);
        }
        command
    }

    /// The same by a command of the test's own.
    pub(crate) async fn serve_as(&self, command: Command) -> Server {
        let server = Server::start(&self.home, command).await;
        let place = Place { node: self.node, address: server.address };
        self.door.send_modify(|places| places.push(place));
        server
    }

    /// Talkers begin; they wait where no server is there yet, and return to each that comes.
    pub(crate) fn talk(&self, manner: Manner) -> Talkers {
        Talkers::begin(manner, self.user, &self.door.subscribe(), &self.oracle)
    }

    /// The server is gone at once, as by SIGKILL.
    pub(crate) async fn kill(&self, mut server: Server) {
        assert_eq!(self.ends(&mut server, Signal::SIGKILL).await, None);
    }

    /// The server stops in order.
    pub(crate) async fn stop(&self, mut server: Server) {
        assert_eq!(self.ends(&mut server, Signal::SIGTERM).await, Some(0));
    }

    /// The signal ends the server, with this exit code.
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
