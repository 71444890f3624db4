//! Damage that occurs while a tracker runs: no message is called durable if it is not, health names the
//! damage and the remedy, and the next start repairs the file.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use talktrack::{DATABASE_FILE, NotDurable, quarantines};
use talktrack_testkit::{Setup, eventually};

use crate::support::{SESSION, accept, assert_pending, dir, message, new_session, sqlite, within};

/// Overwrites every index page while other connections have the file open.
fn break_indexes(data_dir: &Path) {
    let connection = sqlite(data_dir);
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let path = data_dir.join(DATABASE_FILE);
    let pages = std::fs::read(&path).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for (number, page) in (0u64..).zip(pages.chunks(4096)).filter(|(_, page)| matches!(page[0], 0x0a | 0x02))
    {
        file.write_all_at(&vec![0xff; page.len()], number * 4096).unwrap();
    }
    // A write by another connection invalidates the tracker's page cache, so that it reads the damaged pages.
    connection.execute_batch("PRAGMA application_id = 7").unwrap();
}

#[tokio::test]
async fn damage_met_by_a_write_is_named_acknowledges_nothing_and_is_mended_by_a_restart() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    drop(tracker.start_session(new_session()).unwrap());
    let mut durable = BTreeSet::new();
    for number in 0..200 {
        let receipt = accept(&tracker, message(format!("before {number}")));
        durable.insert(receipt.id());
        within(receipt).await.unwrap();
    }
    break_indexes(dir.path());
    let receipt = accept(&tracker, message("after"));
    eventually("the damage is named", || tracker.health().journal.is_some()).await;
    let cause = tracker.health().journal.unwrap();
    assert!(cause.contains("the database file is damaged") && cause.contains("restart talktrack"), "{cause}");
    assert_pending(&mut std::pin::pin!(receipt.into_future()), "it is not on the disk").await;
    assert_eq!(within(tracker.shutdown(Duration::from_millis(200))).await, Err(NotDurable::Stopped));
    drop(tracker);

    let tracker = setup.open(setup.options()).unwrap();
    assert_eq!(quarantines(&dir.path().join(DATABASE_FILE)).len(), 1);
    let rows = within(tracker.reader().messages(SESSION, None, 1_000)).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.id).collect::<BTreeSet<_>>(), durable, "no row lay on those pages");
    within(accept(&tracker, message("after"))).await.unwrap();
    let audit = within(tracker.reader().audit()).await.unwrap();
    assert_eq!((audit.messages, audit.problems), (201, vec![]));
}
