//! The cost of the search: for writers, while the index follows them, and for readers, among
//! `TALKTRACK_BENCH_MESSAGES` messages (1,000,000 if not set). `cargo bench --bench search -- postgres`
//! runs only one part; the others are `ingestion`, `sqlite` and `postgres-ingestion`.

#[path = "../common/load.rs"]
mod load;
#[path = "../common/projections.rs"]
mod projections;
mod postgres;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use load::{start_session, track_message};
use projections::{Timed, compare_rates, message_count, runtime};
use talktrack::search::{Query, SearchFilter};
use talktrack::store::{Read, SessionFilter};
use talktrack::{Message, NewSession, Options, Role, SessionId, Tracker, UserId};
use talktrack_testbed::bench::{Outcome, rate, run_parts};
use tokio::runtime::Runtime;

/// The number of messages in a session, and of sessions of a user.
const OF_A_SESSION: usize = 50;
const OF_A_USER: usize = 20;
/// The number of distinct words. The second is half as frequent as the first, and so on.
const WORDS: usize = 30_000;
const WORDS_OF_A_MESSAGE: usize = 33;

/// The number of messages that are searched, if the environment names no other.
const SEARCHED: usize = 1_000_000;

fn main() -> Outcome<()> {
    run_parts(&[
        ("ingestion", || ingestion(&runtime()?)),
        ("postgres-ingestion", || postgres::ingestion(&runtime()?)),
        ("sqlite", || sqlite(&runtime()?, tempfile::tempdir()?.path(), message_count(SEARCHED))),
        ("postgres", || postgres::search(&runtime()?, message_count(SEARCHED))),
    ])
}

/// Returns a user, a session and a text for the message with this number.
fn said(n: usize) -> (UserId, SessionId, String) {
    let session = n / (OF_A_SESSION * 10) * 10 + n % 10;
    let mut random = fastrand::Rng::with_seed(n as u64);
    let mut text = String::with_capacity(220);
    for _ in 0..WORDS_OF_A_MESSAGE {
        text.push_str(&word(rank(&mut random)));
        text.push(' ');
    }
    if n.is_multiple_of(100_000) {
        text.push_str("needle");
    }
    (UserId::from_u128((session / OF_A_USER) as u128 + 1), SessionId::from_u128(session as u128 + 1), text)
}

/// Draws a rank. Its probability is proportional to 1 / rank.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to WORDS")]
fn rank(random: &mut fastrand::Rng) -> usize {
    (WORDS as f64).powf(random.f64()) as usize
}

/// Returns the word with this rank by frequency.
fn word(rank: usize) -> String {
    let number = rank.wrapping_mul(2_654_435_761) % 1_000_003;
    format!("{}{number}", ["ba", "co", "di", "fu", "le", "mi", "no", "ra", "su", "ti"][rank % 10])
}

fn open(dir: &Path, search: bool) -> Outcome<Tracker> {
    Ok(Tracker::open(Options::new(dir).with_search(search))?)
}

fn write(runtime: &Runtime, tracker: &Tracker, numbers: std::ops::Range<usize>) -> Outcome<()> {
    let mut started = std::collections::HashSet::new();
    for n in numbers {
        let (user, session, text) = said(n);
        if started.insert(session) {
            start_session(tracker, NewSession::new(session, user));
        }
        track_message(tracker, Message::new(session, Role::User, text));
    }
    Ok(runtime.block_on(tracker.flush())?)
}

/// Measures how many messages per second become durable, alternately with and without the index.
fn ingestion(runtime: &Runtime) -> Outcome<()> {
    const MESSAGES: usize = 200_000;
    compare_rates("durable with an index behind it", |search| {
        let dir = tempfile::tempdir()?;
        let tracker = open(dir.path(), search)?;
        let began = Instant::now();
        write(runtime, &tracker, 0..MESSAGES)?;
        Ok(rate(MESSAGES, began))
    })
}

fn sqlite(runtime: &Runtime, dir: &Path, messages: usize) -> Outcome<()> {
    let began = Instant::now();
    let tracker = open(dir, false)?;
    write(runtime, &tracker, 0..messages)?;
    runtime.block_on(tracker.shutdown(Duration::from_secs(60)))?;
    println!("SQLite: {messages} messages written in {:.0} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let tracker = open(dir, true)?;
    let last = wanted(&first_words(&said(messages - 1).2)).with_session_id(said(messages - 1).1);
    let reader = tracker.reader();
    while runtime.block_on(reader.search(last.clone(), None, 1)).map_or(true, |hits| hits.is_empty()) {
        std::thread::sleep(Duration::from_millis(200));
    }
    let size = |name: &str| std::fs::metadata(dir.join(name)).map_or(0, |file| file.len() >> 20);
    println!(
        "  index built in {:.0} s: {} MiB beside {} MiB",
        began.elapsed().as_secs_f64(),
        size("talktrack-search.db"),
        size("talktrack.db")
    );
    latencies(runtime, &tracker.reader(), messages)
}

fn first_words(text: &str) -> String {
    text.split(' ').take(10).collect::<Vec<_>>().join(" ")
}

fn wanted(query: &str) -> SearchFilter {
    SearchFilter::new(query.parse().unwrap_or_else(|_| std::process::abort()))
}

/// Measures a search for 50 hits, after everything that it needs has been read once.
fn latencies(runtime: &Runtime, reader: &Arc<dyn Read>, messages: usize) -> Outcome<()> {
    let (user, session, _) = said(messages / 2);
    let of_user = |query: &str| wanted(query).with_user_id(user.clone());
    let common = word(1);
    let viewer = talktrack::store::Viewer::new(user.clone(), talktrack::JsonObject::default());
    let theirs = reader.as_user(viewer);
    for (what, filter) in [
        ("a rare word", wanted("needle")),
        ("a common word", wanted(&common)),
        ("a word of one in 10,000", wanted(&word(300))),
        ("no message at all", wanted("haystack")),
        ("two common words", wanted(&format!("{common} {}", word(2)))),
        ("a common and a rare word", wanted(&format!("{common} needle"))),
        ("a phrase", wanted(&format!("\"{common} {}\"", word(2)))),
        ("a beginning", wanted(&format!("{}*", &word(300)[..5]))),
        ("a common word of one user", of_user(&common)),
        ("a rare word of one user", of_user(&word(3_000))),
        ("a common word of one session", wanted(&common).with_session_id(session)),
    ] {
        print(what, runtime, async || Ok(reader.search(filter.clone(), None, 50).await?.len()))?;
    }
    print("a common word, by its user", runtime, async || {
        Ok(theirs.search(wanted(&common), None, 50).await?.len())
    })?;
    for query in ["needle", common.as_str()] {
        let filter = SessionFilter::default().with_matching(query.parse::<Query>().ok());
        let what =
            if query == "needle" { "sessions with a rare word" } else { "sessions with a common word" };
        print(what, runtime, async || Ok(reader.sessions(filter.clone(), None, 50).await?.len()))?;
    }
    Ok(())
}

fn print(what: &str, runtime: &Runtime, ask: impl AsyncFn() -> Outcome<usize>) -> Outcome<()> {
    let timed = Timed::new(runtime, ask)?;
    println!(
        "  {what:<32} {:>3} hits   median {:>8.2} ms   worst of 20 {:>8.2} ms   (limit 100)",
        timed.answer,
        timed.median(),
        timed.worst()
    );
    Ok(())
}
