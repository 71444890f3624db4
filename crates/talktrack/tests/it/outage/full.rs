//! A database whose disk is full: a small one, mounted for the test, with the table of the messages on it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use talktrack_testbed::Postgres;
use tempfile::TempDir;

use super::Talk;
use crate::postgres::migrate;
use crate::support::dir;

/// A file system in memory of 16 MiB. Unmounted when it is dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// Owned by the account that the server runs as. `None` where this process may not mount anything.
    fn for_owner_of(files: &Path) -> Option<Self> {
        let (place, owner) = (dir(), fs::metadata(files).unwrap());
        let options = format!("size=16m,mode=700,uid={},gid={}", owner.uid(), owner.gid());
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(place.path()).output();
        mount.is_ok_and(|done| done.status.success()).then_some(Self(place))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{:?} is still mounted", self.0);
    }
}

#[tokio::test]
async fn a_database_whose_disk_is_full_gets_everything_once_there_is_room() {
    let postgres = Postgres::start();
    let data = postgres.psql("postgres", "SHOW data_directory");
    let Some(disk) = SmallDisk::for_owner_of(Path::new(&data)) else {
        println!("SKIPPED: a full disk needs the right to mount one (root)");
        return;
    };
    let database = postgres.database();
    migrate(&database).await;
    database.psql(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.0.path().display()));
    database.psql("ALTER TABLE conversation_messages SET TABLESPACE small");
    let mut talk = Talk::over(&database.url()).await;
    talk.goes_on(5).await;
    talk.is_stored().await;

    database.psql("CREATE TABLE filler (text text) TABLESPACE small");
    let fill = |rows: u32| {
        let text = "SELECT repeat('x', 1000)";
        database.try_psql(&format!("INSERT INTO filler {text} FROM generate_series(1, {rows})"))
    };
    // First in large steps, then to the last page.
    while fill(1_000).is_ok() {}
    while fill(1).is_ok() {}
    // Some of these still fit on a page that the table has.
    talk.goes_on(30).await;
    talk.goes_on_despite("No space left on device (SQLSTATE 53100); the database's disk is full").await;
    database.psql("DROP TABLE filler");
    talk.arrives().await;
}
