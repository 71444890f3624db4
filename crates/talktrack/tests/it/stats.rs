//! The statistics rollup of the SQLite file. If it is lost, damaged or does not match the database, it
//! is rebuilt. After any change of the rows, its figures equal a count of the rows.

mod postgres;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use talktrack::stats::{Lag, MessageStats, Resolution, Stats, StatsBucket, StatsError, TimeRange};
use talktrack::{Message, MessageId, NewSession, Options, Role, SessionId, Timestamp, Tracker, TurnMetrics};
use talktrack_testkit::PATIENCE;
use tempfile::TempDir;

use crate::support::{SESSION, USER, dir, image_of, new_session, within};

fn tallies_of(data_dir: &Path) -> PathBuf {
    data_dir.join("talktrack-stats.db")
}

fn open(dir: &TempDir) -> Tracker {
    Tracker::open(Options::new(dir.path()).with_search(false)).expect("the tracker opens")
}

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The day in which all messages of these tests lie.
fn day() -> TimeRange {
    let since = moment("2026-01-01T00:00:00Z");
    let until = moment("2026-01-02T00:00:00Z");
    TimeRange::new(Some(since), Some(until), Some(Resolution::FiveMinutes), until).unwrap()
}

fn new(session: SessionId) -> NewSession {
    NewSession::new(session, USER).with_started_at(moment("2026-01-01T00:00:00Z"))
}

/// Builds a message at this many minutes after midnight, with this latency in milliseconds.
fn said(session: SessionId, minute: u32, e2e_ms: u32) -> Message {
    let metrics = format!(r#"{{"e2e_ms":{e2e_ms}}}"#).parse().ok();
    let metrics: Option<TurnMetrics> =
        metrics.map(|json: serde_json::Value| serde_json::from_value(json).unwrap());
    let created_at = moment(&format!("2026-01-01T{:02}:{:02}:00Z", minute / 60, minute % 60));
    Message::new(session, Role::Assistant, "said").with_metrics(metrics).with_created_at(created_at)
}

async fn say(tracker: &Tracker, messages: impl IntoIterator<Item = Message>) {
    for message in messages {
        drop(tracker.track_message(message).map_err(|refused| refused.reason).expect("accepted"));
    }
    within(tracker.flush()).await.expect("durable");
}

/// Returns all figures that must match exactly. The sum of the durations is left out: the rollup adds
/// them in another order, which can change the last digit.
fn figures(stats: &Stats) -> Vec<(u64, u64, u64, u64, &MessageStats)> {
    let figures = stats.buckets.iter().map(|StatsBucket { sessions, messages, .. }| {
        (sessions.begun, sessions.ended, sessions.abandoned, sessions.duration_seconds.len(), messages)
    });
    figures.collect()
}

/// Waits until everything is counted and this many messages are, and checks the figures against a count of the rows.
async fn counts(tracker: &Tracker, messages: u64) -> StatsBucket {
    let deadline = Instant::now() + PATIENCE;
    let range = day();
    let reader = tracker.reader();
    loop {
        let answer = reader.stats(&range).await;
        match &answer {
            Ok(stats) if stats.lag == Lag::default() && stats.total().messages.total() == messages => {
                let counted = reader.user_stats(&USER, &range).await.expect("the rows can be counted");
                let day = TimeRange::new(
                    Some(range.since()),
                    Some(range.until()),
                    Some(Resolution::Day),
                    range.until(),
                );
                // The rollup may be reset between two reads.
                let coarse = reader.stats(&day.unwrap()).await.map(|stats| stats.total());
                let is_sum = coarse.is_ok_and(|coarse| coarse.messages == stats.total().messages);
                if is_sum && figures(&counted) == figures(stats) {
                    return stats.total();
                }
            }
            Ok(_) | Err(StatsError::NotCounted(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline, "{messages} messages, counted: {answer:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn close(tracker: Tracker) {
    tracker.shutdown(PATIENCE).await.expect("everything is durable");
}

#[tokio::test]
async fn tallies_that_are_missing_or_damaged_are_made_anew() {
    let dir = dir();
    let tracker = open(&dir);
    drop(tracker.start_session(new(SESSION)).expect("accepted"));
    say(&tracker, (0..20).map(|number| said(SESSION, number * 7, number))).await;
    counts(&tracker, 20).await;
    close(tracker).await;

    std::fs::remove_file(tallies_of(dir.path())).unwrap();
    let tracker = open(&dir);
    counts(&tracker, 20).await;
    close(tracker).await;

    for damage in [&b"this is no database, whatever its name says"[..], &[0; 8_192]] {
        std::fs::write(tallies_of(dir.path()), damage).unwrap();
        let tracker = open(&dir);
        counts(&tracker, 20).await;
        close(tracker).await;
    }
    for spoiled in ["PRAGMA user_version = 0", "UPDATE tallies SET bytes = x'01ffffffffffffffffffff'"] {
        let file = Connection::open(tallies_of(dir.path())).unwrap();
        file.execute_batch(&format!("{spoiled}; PRAGMA wal_checkpoint(TRUNCATE)")).unwrap();
        drop(file);
        let tracker = open(&dir);
        // A read that finds damage leaves a note, from which the rollup is rebuilt.
        let _ = tracker.reader().stats(&day()).await;
        counts(&tracker, 20).await;
        close(tracker).await;
    }
}

#[tokio::test]
async fn messages_in_slices_without_end_are_counted_with_all_others() {
    const FLOOD: usize = 3_000;
    let dir = dir();
    let tracker = open(&dir);
    drop(tracker.start_session(new(SESSION)).expect("accepted"));
    // One bucket for each message, from as far in the future as a message may be dated, back over several days.
    let until =
        talktrack::clock::Clock::now(&talktrack::clock::SystemClock).plus(Duration::from_secs(23 * 3_600));
    let step = Duration::from_secs(300);
    let flood = |number: usize| {
        Message::new(SESSION, Role::User, "flood")
            .with_created_at(until.minus(step * u32::try_from(number).unwrap()))
    };
    say(&tracker, (0..FLOOD).map(flood).chain([said(SESSION, 1, 10), said(SESSION, 2, 20)])).await;
    counts(&tracker, 2).await;
    let deadline = Instant::now() + PATIENCE;
    let all = TimeRange::new(
        Some(until.minus(step * 4_000)),
        Some(until.plus(step)),
        Some(Resolution::Hour),
        until,
    )
    .unwrap();
    loop {
        let stats = tracker.reader().stats(&all).await.unwrap();
        if stats.lag == Lag::default() {
            assert_eq!(stats.total().messages.total(), FLOOD as u64);
            break;
        }
        assert!(Instant::now() < deadline, "{:?}", stats.lag);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    close(tracker).await;
}

#[tokio::test]
async fn tallies_of_another_time_are_made_anew() {
    let (dir, earlier) = (dir(), dir());
    let tracker = open(&dir);
    drop(tracker.start_session(new(SESSION)).expect("accepted"));
    say(&tracker, [said(SESSION, 1, 10)]).await;
    counts(&tracker, 1).await;
    close(tracker).await;
    std::fs::copy(dir.path().join("talktrack.db"), earlier.path().join("talktrack.db")).unwrap();
    let tracker = open(&dir);
    say(&tracker, [said(SESSION, 2, 20), said(SESSION, 500, 30)]).await;
    counts(&tracker, 3).await;
    close(tracker).await;
    // An older database next to a newer rollup, as after restoring a backup of the database alone.
    std::fs::copy(earlier.path().join("talktrack.db"), dir.path().join("talktrack.db")).unwrap();
    let tracker = open(&dir);
    counts(&tracker, 1).await;
    say(&tracker, [said(SESSION, 3, 40)]).await;
    counts(&tracker, 2).await;
    close(tracker).await;
}

#[tokio::test]
async fn whenever_the_process_dies_the_tallies_come_to_what_the_rows_say() {
    let dir = dir();
    let tracker = open(&dir);
    let mut images = Vec::new();
    for round in 0..6_u32 {
        let session = SessionId::from_u128(u128::from(round) + 1);
        drop(tracker.start_session(new(session)).expect("accepted"));
        say(&tracker, (0..40).map(|number| said(session, (round * 211 + number * 31) % 1_400, number))).await;
        drop(tracker.end_session(session, "completed").expect("accepted"));
        if round == 3 {
            let deletion = tracker.delete_session(SessionId::from_u128(1), None).expect("accepted");
            within(deletion.here.durable()).await.expect("durable");
        }
        // Copies the files at this moment, at any progress of the rollup. The rollup comes first,
        // because a rollup that is ahead of the rows counts as that of another database.
        let image = crate::support::dir();
        for ending in ["", "-wal"] {
            let name = format!("talktrack-stats.db{ending}");
            let _ = std::fs::copy(dir.path().join(&name), image.path().join(&name));
        }
        image_of(dir.path(), image.path());
        images.push((image, if round < 3 { (round + 1) * 40 } else { round * 40 }));
    }
    counts(&tracker, 200).await;
    close(tracker).await;
    for (image, messages) in images {
        let tracker = open(&image);
        counts(&tracker, messages.into()).await;
        drop(tracker);
    }
}

#[tokio::test]
async fn rows_that_get_the_numbers_of_deleted_ones_are_counted_in_their_place() {
    let dir = dir();
    let stays = SessionId::from_u128(1);
    let goes = SessionId::from_u128(2);
    let tracker = open(&dir);
    for session in [stays, goes] {
        drop(tracker.start_session(new(session)).expect("accepted"));
    }
    say(
        &tracker,
        [said(stays, 1, 1), said(stays, 2, 2), said(goes, 3, 3), said(goes, 700, 4), said(goes, 701, 5)],
    )
    .await;
    counts(&tracker, 5).await;
    // While the rollup is off, the last rows are deleted and new rows get their rowids: fewer, as many, and more.
    close(tracker).await;
    for more in [1, 3, 5_u32] {
        let quiet = Options::new(dir.path()).with_search(false).with_stats(false);
        let tracker = Tracker::open(quiet).unwrap();
        let last = if more == 1 { goes } else { SessionId::from_u128(u128::from(more)) };
        let deletion = tracker.delete_session(last, None).expect("accepted");
        within(deletion.here.durable()).await.expect("durable");
        let next = SessionId::from_u128(u128::from(more) + 2);
        drop(tracker.start_session(new(next)).expect("accepted"));
        say(&tracker, (0..more).map(|number| said(next, 900 + number * 11, 90 + number))).await;
        close(tracker).await;
        let tracker = open(&dir);
        let bucket = counts(&tracker, 2 + u64::from(more)).await;
        assert_eq!(bucket.sessions.begun, 2, "one stays, one has come");
        close(tracker).await;
    }
}

#[tokio::test]
async fn a_slice_of_many_rows_is_counted_anew_in_steps_while_more_arrive() {
    let dir = dir();
    let tracker = open(&dir);
    drop(tracker.start_session(new(SESSION)).expect("accepted"));
    let first = said(SESSION, 10, 5).with_id(MessageId::from_u128(7));
    say(&tracker, [first.clone()]).await;
    say(&tracker, (0..9_000).map(|number| said(SESSION, 10 + number % 4, number))).await;
    counts(&tracker, 9_001).await;
    let revised = |revision| first.clone().with_revision(revision).with_interrupted(true);
    for round in 1..=5 {
        say(&tracker, [revised(round)]).await;
        say(&tracker, (0..500).map(|number| said(SESSION, 9 + number % 6, number))).await;
    }
    let bucket = counts(&tracker, 11_501).await;
    assert_eq!(bucket.messages.interruptions, 1);
    close(tracker).await;
}

#[tokio::test]
async fn a_row_that_moved_is_counted_where_it_is_once_its_slice_is_looked_at() {
    let dir = dir();
    let tracker = open(&dir);
    drop(tracker.start_session(new(SESSION)).expect("accepted"));
    let id = Some(MessageId::from_u128(7));
    let neighbour = Some(MessageId::from_u128(8));
    let later = said(SESSION, 20, 2).with_id(id).with_revision(1);
    say(&tracker, [said(SESSION, 20, 1), later, said(SESSION, 21, 3).with_id(neighbour)]).await;
    counts(&tracker, 3).await;
    // The earlier revision comes late, and moves the stored message to its place. The rollup does not
    // notice this until a message next to the old place is revised.
    say(&tracker, [said(SESSION, 10, 9).with_id(id)]).await;
    say(&tracker, [said(SESSION, 21, 4).with_id(neighbour).with_revision(1)]).await;
    counts(&tracker, 3).await;
    close(tracker).await;
}

#[tokio::test]
async fn without_counting_everything_is_written_and_nothing_is_told() {
    let dir = dir();
    let tracker = Tracker::open(Options::new(dir.path()).with_stats(false)).unwrap();
    drop(tracker.start_session(new_session()).expect("accepted"));
    say(&tracker, [said(SESSION, 1, 1)]).await;
    let refused = tracker.reader().stats(&day()).await.unwrap_err().to_string();
    assert!(refused.contains("nothing is counted yet"), "{refused}");
    assert!(!tallies_of(dir.path()).exists());
    let own = tracker.reader().user_stats(&USER, &day()).await.expect("counted from the rows");
    assert_eq!(own.total().messages.total(), 1);
    close(tracker).await;
}
