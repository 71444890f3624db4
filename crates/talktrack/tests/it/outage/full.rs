//! A database whose disk is full: the table of messages lies on a small disk that is mounted for the test.

use std::path::Path;

use talktrack_testbed::{Postgres, SmallDisk, skip};

use super::Talk;
use crate::postgres::migrate;

#[tokio::test]
async fn a_database_whose_disk_is_full_gets_everything_once_there_is_room() {
    let postgres = Postgres::start();
    let data = postgres.psql("postgres", "SHOW data_directory");
    let Some(disk) = SmallDisk::for_owner_of(Path::new(&data), 16) else {
        skip::missing("PostgreSQL on a full disk", "this process may not mount one (run as root)");
        return;
    };
    let database = postgres.database();
    migrate(&database).await;
    database.psql(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.path().display()));
    database.psql("ALTER TABLE conversation_messages SET TABLESPACE small");
    let mut talk = Talk::over(&database.url()).await;
    talk.goes_on(5).await;
    talk.is_stored().await;

    database.psql("CREATE TABLE filler (text text) TABLESPACE small");
    let fill = |rows: u32| {
        let text = "SELECT repeat('x', 1000)";
        database.try_psql(&format!("INSERT INTO filler {text} FROM generate_series(1, {rows})"))
    };
    // Fills the disk in large steps, then to the last page.
    while fill(1_000).is_ok() {}
    while fill(1).is_ok() {}
    // Some of these messages still fit on a page that the table already has.
    talk.goes_on(30).await;
    talk.goes_on_despite("No space left on device (SQLSTATE 53100); the database's disk is full").await;
    database.psql("DROP TABLE filler");
    talk.arrives().await;
}
