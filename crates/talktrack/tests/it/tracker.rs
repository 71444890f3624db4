//! The entry of the tracker: what it stamps on a message, and that it never waits.

use std::sync::Arc;
use std::time::Duration;
use talktrack::clock::Seq;

use talktrack::{Timestamp, Tracker};
use talktrack_testkit::ManualClock;
use talktrack_testkit::Setup;

use crate::support::{SESSION, StuckDisk, accept, dir, message, new_session, remote, within};

#[tokio::test]
async fn flushing_a_tracker_that_was_handed_nothing_returns_at_once() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    within(tracker.flush()).await.unwrap();
    within(tracker.flush_to_store()).await.unwrap();
    drop(accept(&tracker, message("something")));
    within(tracker.shutdown(Duration::from_secs(120))).await.unwrap();
    drop(tracker);

    let tracker = setup.open(setup.options()).unwrap();
    within(tracker.flush()).await.unwrap();
    within(tracker.flush_to_store()).await.unwrap();
}

#[tokio::test]
async fn flushing_waits_for_everything_accepted_before() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    drop(tracker.start_session(new_session()).unwrap());
    for number in 0..2_500 {
        drop(accept(&tracker, message(format!("message {number}"))));
    }
    within(tracker.flush()).await.unwrap();
    assert_eq!(tracker.health().books.stored, 2_500);
    assert_eq!(within(tracker.reader().session(SESSION)).await.unwrap().unwrap().message_count, 2_500);
}

/// Tracks `count` messages without waiting, and returns their seqs.
fn seqs(tracker: &Tracker, count: usize) -> Vec<Seq> {
    (0..count).map(|number| accept(tracker, message(format!("message {number}"))).seq()).collect()
}

fn assert_increasing(seqs: &[Seq]) {
    let falls = seqs.windows(2).find(|pair| pair[0] >= pair[1]);
    assert_eq!(falls, None, "seq must increase");
}

#[tokio::test]
async fn seq_increases_when_the_clock_stands_still_or_steps_back_and_across_a_restart() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let noon: Timestamp = "2026-03-04T12:00:00Z".parse().unwrap();
    let back = |hours: i64| Timestamp::from_micros(noon.as_micros() - hours * 3_600_000_000).unwrap();
    setup.clock().set(noon);
    let tracker = setup.open(setup.options()).unwrap();
    within(tracker.start_session(new_session()).unwrap().durable()).await.unwrap();
    let mut all = seqs(&tracker, 5);
    assert!(all[0] >= Seq::from(noon), "seq is the moment of acceptance: {}", all[0]);
    setup.clock().set(back(3));
    all.extend(seqs(&tracker, 5));
    setup.clock().set(noon);
    setup.clock().advance(Duration::from_secs(60));
    all.extend(seqs(&tracker, 5));
    assert!(all[10] >= Seq::new(noon.as_micros() + 60_000_000), "seq follows the clock again: {}", all[10]);
    within(tracker.shutdown(Duration::from_secs(120))).await.unwrap();
    drop(tracker);

    setup.clock().set(back(24));
    let tracker = setup.open(setup.options()).unwrap();
    all.extend(seqs(&tracker, 5));
    assert_increasing(&all);
}

#[tokio::test]
async fn seq_increases_across_a_restart_with_a_remote_store_that_holds_everything() {
    let dir = dir();
    let (setup, _) = remote(&dir);
    let tracker = setup.open(setup.options()).unwrap();
    drop(tracker.start_session(new_session()).unwrap());
    let mut all = seqs(&tracker, 3);
    within(tracker.flush_to_store()).await.unwrap();
    drop(tracker);
    setup.clock().set(Timestamp::from_micros(0).unwrap());
    let tracker = setup.open(setup.options()).unwrap();
    all.extend(seqs(&tracker, 3));
    assert_increasing(&all);
    // The ends of sessions that were left open take their `seq` before any message does. If two records
    // had the same `seq`, this shutdown could not write them.
    within(tracker.shutdown(Duration::from_secs(120))).await.expect("everything accepted can be written");
}

#[tokio::test]
async fn many_threads_share_a_tracker_and_no_seq_or_message_is_shared() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    within(tracker.start_session(new_session()).unwrap().durable()).await.unwrap();
    let threads = (0..4).map(|_| {
        let tracker = tracker.clone();
        std::thread::spawn(move || seqs(&tracker, 500))
    });
    let of_threads: Vec<_> =
        threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect();
    of_threads.iter().for_each(|seqs| assert_increasing(seqs));
    within(tracker.flush()).await.unwrap();
    let stored = within(tracker.reader().messages(SESSION, None, 10_000)).await.unwrap();
    let mut handed_over: Vec<_> = of_threads.concat();
    handed_over.sort_unstable();
    assert_increasing(&handed_over);
    assert_eq!(stored.iter().map(|row| row.seq.unwrap()).collect::<Vec<_>>(), handed_over);
}

#[tokio::test]
async fn tracking_never_waits_for_the_disk() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    within(tracker.start_session(new_session()).unwrap().durable()).await.unwrap();
    let stuck = StuckDisk::of(dir.path());
    // On a thread without a runtime, so that nothing can help the calls to return while the disk does not answer.
    let writer = tracker.clone();
    let tracked = std::thread::spawn(move || {
        let receipts: Vec<_> = (0..1_000).map(|n| accept(&writer, message(format!("{n}")))).collect();
        drop(writer.end_session(SESSION, "completed").unwrap());
        drop(writer.start_session(new_session()).unwrap());
        receipts
    });
    talktrack_testkit::eventually("the thread has handed everything over", || tracked.is_finished()).await;
    let receipts = tracked.join().unwrap();
    let durability = tracker.durability();
    assert!(receipts.iter().all(|receipt| durability.outcome(receipt.seq()).is_none()), "nothing is durable");
    drop(stuck);
    for receipt in receipts {
        within(receipt).await.unwrap();
    }
}

#[tokio::test]
async fn the_clock_of_the_options_stamps_everything() {
    let dir = dir();
    let clock = ManualClock::at("2001-02-03T04:05:06.789012Z".parse().unwrap());
    let options = talktrack::Options::new(dir.path()).with_clock(Arc::new(clock));
    let tracker = Tracker::open(options).unwrap();
    drop(tracker.start_session(new_session()).unwrap());
    within(accept(&tracker, message("hello"))).await.unwrap();
    let session = within(tracker.reader().session(SESSION)).await.unwrap().unwrap();
    assert_eq!(session.started_at.to_string(), "2001-02-03T04:05:06.789012Z");
    let said: Timestamp = "1999-12-31T23:59:59Z".parse().unwrap();
    within(accept(&tracker, message("earlier").with_created_at(said))).await.unwrap();
    let rows = within(tracker.reader().messages(SESSION, None, 10)).await.unwrap();
    let times: Vec<_> = rows.iter().map(|row| row.created_at.to_string()).collect();
    assert_eq!(times, ["1999-12-31T23:59:59.000000Z", "2001-02-03T04:05:06.789012Z"]);
}

#[tokio::test]
async fn minted_ids_sort_by_the_microsecond_in_which_they_were_minted() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    let mut ids = Vec::new();
    for micros in [0, 1, 2, 255, 256, 511, 512, 513, 998, 999, 1_000, 1_001, 999_999, 1_000_000] {
        setup.clock().set(Timestamp::from_micros(1_800_000_000_000_000 + micros).unwrap());
        ids.push(accept(&tracker, message("hello")).id());
    }
    assert!(ids.is_sorted(), "{ids:#?}");
    let seventh = ids.iter().filter(|id| {
        id.as_uuid().get_version_num() == 7 && id.as_uuid().get_variant() == uuid::Variant::RFC4122
    });
    assert_eq!(seventh.count(), ids.len(), "{ids:#?}");
}
