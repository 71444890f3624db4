//! PostgreSQL for the tests: each gets a separate database, with the schema in it.

use talktrack::store::postgres::{Address, PostgresStore, schema};
use talktrack_testbed::{Database, Postgres};

/// Creates a store at this URL.
pub(crate) fn store_at(url: &str) -> PostgresStore {
    PostgresStore::new(&address(url)).expect("the store can be made")
}

pub(crate) fn address(url: &str) -> Address {
    url.parse().expect("a valid URL")
}

/// Creates a database on which `talktrack migrate` has run.
pub(crate) async fn migrated() -> Database {
    let database = Postgres::shared().database();
    migrate(&database).await;
    database
}

/// Runs `talktrack migrate` on the database.
pub(crate) async fn migrate(database: &Database) {
    let client = address(&database.url()).connect().await.expect("a connection");
    let left = schema::migrate(&client).await.expect("the migration");
    assert_eq!(left, [], "nothing is left to do");
}
