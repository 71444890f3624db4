//! Statistics over time. The rollup is updated in the background, so every check waits for what it expects.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use std::time::{Duration, Instant};

use talktrack::NewSession;
use talktrack::store::Viewer;
use talktrack_core::clock::Timestamp;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::json::JsonObject;
use talktrack_core::message::{Message, MessageStatus, Role, TurnMetrics};
use talktrack_core::stats::{DdSketch, Lag, Resolution, Stats, StatsBucket, StatsError, TimeRange};

use crate::setup::{PATIENCE, Setup};
use crate::trial::Trial;

const SESSION: SessionId = SessionId::from_u128(0xae);
const USER: UserId = UserId::from_u128(0xbe);
const OTHER_SESSION: SessionId = SessionId::from_u128(0xaf);
const OTHER_USER: UserId = UserId::from_u128(0xbf);
const BUCKET: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The day before the trial's present moment and the day after it.
fn two_days(trial: &Trial, resolution: Resolution) -> TimeRange {
    let now = trial.now();
    TimeRange::new(Some(now.minus(DAY)), Some(now.plus(DAY)), Some(resolution), now).expect("a range")
}

fn measured(text: &str, metrics: &str) -> Message {
    let metrics = JsonObject::parse(metrics).expect("an object");
    let metrics = Some(TurnMetrics::try_from(metrics).expect("metrics"));
    Message::new(SESSION, Role::Assistant, text).with_metrics(metrics)
}

fn metric<'t>(bucket: &'t StatsBucket, key: &str) -> &'t DdSketch {
    let found = bucket.messages.metrics().find(|(name, _)| *name == key);
    found.unwrap_or_else(|| panic!("{key} is no measure")).1
}

/// Waits until the figures satisfy `is_so`.
async fn counted(
    trial: &Trial,
    range: &TimeRange,
    what: &str,
    is_so: impl Fn(&StatsBucket) -> bool,
) -> Stats {
    trial.settled().await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = trial.tracker().reader().stats(range).await;
        match &answer {
            Ok(stats) if stats.lag == Lag::default() && is_so(&stats.total()) => {
                return answer.expect("as seen");
            }
            // Not counted yet.
            Ok(_) | Err(StatsError::NotCounted(_)) if Instant::now() < deadline => {}
            other => panic!("{what}: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns the buckets with a non-zero figure, by their beginning.
fn places(stats: &Stats, figure: impl Fn(&StatsBucket) -> u64) -> Vec<(Timestamp, u64)> {
    stats.buckets().map(|(at, bucket)| (at, figure(bucket))).filter(|(_, count)| *count > 0).collect()
}

async fn two_users_talk(setup: Setup) -> Trial {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    trial.say(SESSION, Role::User, "hello").await;
    trial.say(SESSION, Role::System, "be kind").await;
    trial.wait(BUCKET);
    trial.start(NewSession::new(OTHER_SESSION, OTHER_USER)).await;
    trial.say(OTHER_SESSION, Role::User, "hello").await;
    let reply = measured("hi", r#"{"e2e_ms":120,"input_tokens":7}"#);
    trial.track(reply.with_interrupted(true)).await.expect("durable");
    trial.wait(Duration::from_secs(30));
    trial.end(OTHER_SESSION, "completed").await;
    trial
}

pub async fn sessions_and_messages_are_counted_where_they_happened(setup: Setup) {
    let began = setup.clock().clone();
    let began = talktrack_core::clock::Clock::now(&began);
    let trial = two_users_talk(setup).await;
    let is_all =
        |all: &StatsBucket| all.messages.total() == 4 && all.sessions.begun == 2 && all.sessions.ended == 1;
    for resolution in [Resolution::FiveMinutes, Resolution::Hour, Resolution::Day] {
        let stats = counted(&trial, &two_days(&trial, resolution), "four messages", is_all).await;
        let total = stats.total();
        assert_eq!((total.sessions.active(), total.sessions.abandoned), (1, 0));
        let of = |role| total.messages.count_of(role);
        assert_eq!(
            [Role::User, Role::Assistant, Role::System, Role::Developer, Role::Tool].map(of),
            [2, 1, 1, 0, 0]
        );
        assert_eq!(total.messages.interruptions, 1);
        assert_eq!(
            (metric(&total, "e2e_ms").sum(), metric(&total, "input_tokens").max()),
            (120.0, Some(7.0))
        );
        let seconds = &total.sessions.duration_seconds;
        assert_eq!((seconds.len(), seconds.sum(), seconds.quantile(0.5)), (1, 30.0, Some(30.0)));
        assert_eq!(stats.buckets.len(), stats.range.len());
        let expected = if resolution == Resolution::FiveMinutes {
            vec![(began, 2), (began.plus(BUCKET), 2)]
        } else {
            vec![(began, 4)]
        };
        assert_eq!(places(&stats, |bucket| bucket.messages.total()), expected, "{resolution:?}");
    }
}

pub async fn percentiles_are_within_one_percent(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    let numbers: Vec<u32> = (1..=300).map(|number| number * number).collect();
    let message =
        |number: &u32| measured("hi", &format!(r#"{{"llm_ttft_ms":{number},"audio_start_ms":{number}}}"#));
    for outcome in trial.track_all(numbers.iter().rev().map(message).collect()).await {
        outcome.expect("durable");
    }
    let range = two_days(&trial, Resolution::Day);
    let stats = counted(&trial, &range, "300", |all| all.messages.total() == 300).await;
    let total = stats.total();
    let found = metric(&total, "llm_ttft_ms");
    assert_eq!((found.len(), found.min(), found.max()), (300, Some(1.0), Some(90_000.0)));
    assert_eq!(found.sum(), numbers.iter().copied().map(f64::from).sum::<f64>());
    for (part, exact) in [(0.5, 150.0 * 150.0), (0.95, 285.0 * 285.0), (0.99, 297.0 * 297.0)] {
        let quantile = found.quantile(part).expect("there are numbers");
        assert!((quantile - exact).abs() <= exact * 0.01, "{part}: {quantile}, not {exact}");
    }
}

pub async fn what_was_measured_and_cut_short_by_a_revision_is_counted_once(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    let id = trial.say(SESSION, Role::Assistant, "I will now").await;
    let range = two_days(&trial, Resolution::FiveMinutes);
    counted(&trial, &range, "one", |all| all.messages.total() == 1).await;
    trial.wait(BUCKET);
    for (revision, e2e) in [(1, 900), (2, 800)] {
        let revised = measured("I will", &format!(r#"{{"e2e_ms":{e2e}}}"#));
        let revised = revised.with_id(id).with_revision(revision).with_interrupted(true);
        trial.track(revised).await.expect("durable");
    }
    let is_so = |all: &StatsBucket| metric(all, "e2e_ms").sum() == 800.0 && all.messages.interruptions == 1;
    let stats = counted(&trial, &range, "the last revision", is_so).await;
    assert_eq!(stats.total().messages.total(), 1);
    assert_eq!(metric(&stats.total(), "e2e_ms").len(), 1);
}

pub async fn only_final_messages_are_counted(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    let range = two_days(&trial, Resolution::FiveMinutes);
    let id = MessageId::from_u128(0xd8);
    let part = |revision, status| {
        measured("hi", r#"{"e2e_ms":5}"#).with_id(id).with_revision(revision).with_status(status)
    };
    trial.track(part(0, MessageStatus::InProgress)).await.expect("durable");
    trial.say(SESSION, Role::User, "hello").await;
    let stats = counted(&trial, &range, "the user", |all| all.messages.total() == 1).await;
    assert_eq!(stats.total().messages.count_of(Role::Assistant), 0);
    trial.end(SESSION, "hangup").await;
    let is_so = |all: &StatsBucket| all.messages.total() == 2 && all.messages.interruptions == 1;
    counted(&trial, &range, "what the end made final", is_so).await;
    trial.track(part(1, MessageStatus::Discarded)).await.expect("durable");
    counted(&trial, &range, "what is left", |all| all.messages.total() == 1).await;
}

pub async fn an_end_that_comes_later_counts_where_the_session_began(setup: Setup) {
    let trial = Trial::open(setup);
    let began = trial.now();
    trial.start(NewSession::new(SESSION, USER)).await;
    trial.start(NewSession::new(OTHER_SESSION, USER)).await;
    let range = two_days(&trial, Resolution::FiveMinutes);
    counted(&trial, &range, "two", |all| all.sessions.active() == 2).await;
    trial.wait(BUCKET);
    trial.end(SESSION, "completed").await;
    let stats = counted(&trial, &range, "one that ended", |all| all.sessions.ended == 1).await;
    assert_eq!(places(&stats, |bucket| bucket.sessions.ended), [(began, 1)]);
    assert_eq!(stats.total().sessions.duration_seconds.max(), Some(300.0));
    // The session continues, so it no longer counts as ended.
    trial.start(NewSession::new(SESSION, USER)).await;
    let stats = counted(&trial, &range, "none that ended", |all| all.sessions.ended == 0).await;
    assert!(stats.total().sessions.duration_seconds.is_empty());
}

pub async fn a_late_arrival_is_counted_when_it_was_said(setup: Setup) {
    let mut trial = Trial::open(setup);
    let began = trial.now();
    trial.start(NewSession::new(SESSION, USER)).await;
    trial.say(SESSION, Role::User, "now").await;
    let range = two_days(&trial, Resolution::FiveMinutes);
    counted(&trial, &range, "one", |all| all.messages.total() == 1).await;
    let then = began.minus(BUCKET * 12 * 3);
    let late = measured("three hours ago", r#"{"stt_ms":5}"#).with_created_at(then);
    trial.track(late).await.expect("durable");
    let stats = counted(&trial, &range, "two", |all| all.messages.total() == 2).await;
    assert_eq!(places(&stats, |bucket| bucket.messages.total()), [(then, 1), (began, 1)]);
    assert_eq!(places(&stats, |bucket| metric(bucket, "stt_ms").len()), [(then, 1)]);
}

pub async fn what_is_deleted_is_counted_no_more(setup: Setup) {
    let mut trial = two_users_talk(setup).await;
    let range = two_days(&trial, Resolution::Hour);
    counted(&trial, &range, "four", |all| all.messages.total() == 4 && all.sessions.ended == 1).await;
    trial.delete(SESSION).await;
    let is_so = |all: &StatsBucket| all.messages.total() == 1 && all.sessions.begun == 1;
    let stats = counted(&trial, &range, "what is left", is_so).await;
    assert!(metric(&stats.total(), "e2e_ms").is_empty());
    // A new message may reuse the row number of a deleted one.
    trial.say(OTHER_SESSION, Role::Developer, "later").await;
    counted(&trial, &range, "two", |all| {
        all.messages.total() == 2 && all.messages.count_of(Role::Developer) == 1
    })
    .await;
    trial.delete(OTHER_SESSION).await;
    counted(&trial, &range, "nothing", StatsBucket::is_empty).await;
}

pub async fn what_was_counted_before_a_restart_stays_counted(setup: Setup) {
    let trial = two_users_talk(setup).await;
    let range = two_days(&trial, Resolution::Day);
    counted(&trial, &range, "four", |all| all.messages.total() == 4).await;
    let mut trial = trial.restart().await;
    trial.say(OTHER_SESSION, Role::Tool, "one more").await;
    // A stop ends the open sessions.
    let is_so = |all: &StatsBucket| all.messages.total() == 5 && all.sessions.active() == 0;
    let stats = counted(&trial, &range, "five", is_so).await;
    assert_eq!(stats.total().sessions.begun, 2);
}

pub async fn a_users_own_figures_tell_of_no_other_user(setup: Setup) {
    let trial = two_users_talk(setup).await;
    trial.settled().await;
    let range = two_days(&trial, Resolution::FiveMinutes);
    let reader = trial.tracker().reader();
    let claims = JsonObject::parse("{}").expect("an object");
    let mine = reader.as_user(Viewer::new(USER, claims));
    for rows in [mine.user_stats(&USER, &range).await, reader.user_stats(&USER, &range).await] {
        let stats = rows.expect("an answer");
        let total = stats.total();
        assert_eq!((total.messages.total(), total.sessions.begun, total.sessions.ended), (3, 1, 0));
        assert_eq!(metric(&total, "e2e_ms").max(), Some(120.0));
        assert_eq!(places(&stats, |bucket| bucket.messages.total()).len(), 2);
    }
    let others = mine.user_stats(&OTHER_USER, &range).await.expect("an answer");
    assert!(others.total().is_empty(), "{others:?}");
    let others = reader.user_stats(&OTHER_USER, &range).await.expect("an answer").total();
    assert_eq!((others.messages.total(), others.sessions.ended), (1, 1));
}

pub async fn a_range_is_made_of_whole_stretches(setup: Setup) {
    let mut trial = Trial::open(setup);
    let began = trial.now();
    trial.start(NewSession::new(SESSION, USER)).await;
    for _ in 0..3 {
        trial.say(SESSION, Role::User, "hello").await;
        trial.wait(BUCKET);
    }
    let all = two_days(&trial, Resolution::FiveMinutes);
    counted(&trial, &all, "three", |all| all.messages.total() == 3).await;
    let second = Duration::from_secs(1);
    let of = |since, until| {
        TimeRange::new(Some(since), Some(until), Some(Resolution::FiveMinutes), began).expect("a range")
    };
    for (range, buckets, messages) in [
        (of(began, began.plus(BUCKET)), 1, 1),
        (of(began, began.plus(BUCKET + second)), 2, 2),
        (of(began.plus(second), began.plus(BUCKET)), 1, 1),
        (of(began.plus(BUCKET), began.plus(BUCKET * 3)), 2, 2),
        (of(began.minus(BUCKET), began), 1, 0),
        (of(began.plus(BUCKET * 3), began.plus(BUCKET * 9)), 6, 0),
    ] {
        let stats = trial.tracker().reader().stats(&range).await.expect("an answer");
        assert_eq!((stats.buckets.len(), stats.total().messages.total()), (buckets, messages), "{range:?}");
        let own = trial.tracker().reader().user_stats(&USER, &range).await.expect("an answer");
        assert_eq!(own.buckets, stats.buckets);
    }
}
