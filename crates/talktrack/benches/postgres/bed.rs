//! The common basis of all measurements: a separate PostgreSQL, the same messages, the same tables.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use talktrack::store::Store;
use talktrack::store::postgres::{Address, PostgresStore, schema};
use talktrack::{Options, Tracker};
use talktrack_testbed::bench::Outcome;
use talktrack_testbed::{Database, Postgres, Proxy};
use tokio::runtime::Runtime;

pub(crate) struct Bed {
    pub(crate) runtime: Runtime,
    pub(crate) postgres: Postgres,
}

/// A fresh database with the schema and the sessions, at the requested network distance.
pub(crate) struct Place {
    pub(crate) proxy: Proxy,
    database: Database,
}

impl Bed {
    pub(crate) fn new() -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Self { runtime, postgres: Postgres::start() })
    }

    pub(crate) fn place(&self, away: Duration) -> Outcome<Place> {
        let database = self.postgres.database();
        let address: Address = database.url().parse()?;
        self.runtime
            .block_on(async { schema::migrate(&address.connect().await?).await.map_err(Into::into) })
            .map_err(|error: Box<dyn std::error::Error + Send + Sync>| error)?;
        let proxy = Proxy::to(self.postgres.port());
        proxy.delay(away);
        // Writes what the last measurement left behind before the next one begins.
        database.psql("CHECKPOINT");
        Ok(Place { proxy, database })
    }
}

impl Place {
    /// Returns the URL through the proxy if asked to, otherwise the direct URL.
    pub(crate) fn url(&self, through_proxy: bool) -> String {
        let url = if through_proxy { self.database.url_at(self.proxy.port()) } else { self.database.url() };
        // Encryption costs both sides the same, and is not measured here.
        format!("{url}?sslmode=disable")
    }

    pub(crate) fn psql(&self, sql: &str) -> String {
        self.database.psql(sql)
    }

    pub(crate) fn count(&self) -> Outcome<usize> {
        Ok(self.psql("SELECT count(*) FROM conversation_messages").trim().parse()?)
    }
}

pub(crate) fn store(url: &str) -> Outcome<Arc<dyn Store>> {
    Ok(Arc::new(PostgresStore::new(&url.parse()?)?))
}

/// Returns a store at an address where no server listens.
pub(crate) fn nowhere() -> Outcome<Arc<dyn Store>> {
    store("postgres://nobody@127.0.0.1:1/nowhere?connect_timeout=1")
}

pub(crate) fn open(dir: &Path, store: &Arc<dyn Store>) -> Outcome<Tracker> {
    Ok(Tracker::open_with_store(Options::new(dir), Arc::clone(store))?)
}
