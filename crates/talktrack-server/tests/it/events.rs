//! Live events: what becomes durable is sent at once, with SQLite and with PostgreSQL as the store.

mod order;
mod resuming;
mod slow;

use talktrack_testbed::{Database, Postgres, Proxy};

use crate::harness::remote::migrated;
use crate::harness::{Home, Server};

/// A data directory and, if the store is PostgreSQL, its database and a proxy in front of it.
struct Place {
    home: Home,
    remote: Option<(Database, Proxy)>,
}

impl Place {
    /// Uses SQLite as the store.
    fn file() -> Self {
        Self { home: Home::new(), remote: None }
    }

    async fn postgres() -> Self {
        let database = migrated(Postgres::shared()).await;
        let proxy = Proxy::to(Postgres::shared().port());
        Self { home: Home::new(), remote: Some((database, proxy)) }
    }

    async fn serve(&self, flags: &[&str]) -> Server {
        let url = self.remote.as_ref().map(|(database, proxy)| database.url_at(proxy.port()));
        let store = url.as_deref().map_or(vec![], |url| vec!["--database-url", url]);
        self.home.serve(&[flags, &store].concat()).await
    }

    /// Returns the proxy in front of the database.
    fn proxy(&self) -> &Proxy {
        &self.remote.as_ref().expect("the store is remote").1
    }
}

/// Runs each of these tests with both stores.
macro_rules! over_both_stores {
    ($($test:ident)+) => {
        mod over_a_file {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(&super::super::Place::file()).await;
            })+
        }
        mod over_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(&super::super::Place::postgres().await).await;
            })+
        }
    };
}
use over_both_stores;
