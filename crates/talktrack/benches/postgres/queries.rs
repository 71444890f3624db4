//! The two most frequent queries of a dashboard, on ten million messages with a warm cache, and their plans.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use talktrack::store::postgres::PostgresStore;
use talktrack::store::{Rows as _, SessionFilter};
use talktrack::{SessionId, UserId};
use talktrack_testbed::bench::Outcome;

use crate::bed::{Bed, Place};

const MESSAGES: usize = 10_000_000;
const SESSIONS: usize = 200_000;
const USERS: usize = 1_000;
/// The number of users and sessions that are queried in turn.
const ASKED: usize = 300;
const LIMIT: Duration = Duration::from_millis(10);

pub(crate) fn queries(bed: &Bed) -> Outcome<()> {
    println!("questions to {MESSAGES} messages in {SESSIONS} sessions of {USERS} users, cache warm");
    let place = bed.place(Duration::ZERO)?;
    let began = Instant::now();
    generate(&place);
    println!("  (made in {:.0} s)", began.elapsed().as_secs_f64());
    let store = PostgresStore::new(&place.url(false).parse()?)?;
    for round in ["cold", "warm"] {
        let mut lists = Histogram::<u64>::new(3)?;
        let mut transcripts = Histogram::<u64>::new(3)?;
        for n in 0..ASKED {
            bed.runtime.block_on(ask(&store, n, &mut lists, &mut transcripts))?;
        }
        if round == "warm" {
            report("a user's newest 50 sessions", &lists);
            report("one transcript", &transcripts);
        }
    }
    plans(bed, &place)
}

/// Generates rows as talktrack writes them, spread over a year, so that the messages of a session are
/// far from each other on the disk.
fn generate(place: &Place) {
    let user = format!("lpad(to_hex(n % {USERS} + 1), 32, '0')::uuid");
    let said = "timestamptz '2026-01-01' + n * interval '3 seconds'";
    place.psql(&format!(
        "SET session_replication_role = replica;
         INSERT INTO conversation_sessions (session_id, user_id, started_at, last_event_at, status, ended_at, message_count)
         SELECT lpad(to_hex(n), 32, '0')::uuid, {user}, {said}, {said}, 'ended', {said}, {each}
         FROM generate_series(0, {last_session}) n;
         INSERT INTO conversation_messages (id, session_id, user_id, role, content, created_at, seq)
         SELECT lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(n % {SESSIONS}), 32, '0')::uuid, {user}, 'user',
                repeat('word ', 20) || n, {said}, 1767225600000000 + n::bigint * 3000000
         FROM generate_series(0, {last_message}) n;",
        each = MESSAGES / SESSIONS,
        last_session = SESSIONS - 1,
        last_message = MESSAGES - 1,
    ));
    place.psql("VACUUM ANALYZE conversation_sessions");
    place.psql("VACUUM ANALYZE conversation_messages");
}

async fn ask(
    store: &PostgresStore,
    n: usize,
    lists: &mut Histogram<u64>,
    transcripts: &mut Histogram<u64>,
) -> Outcome<()> {
    let user_id = Some(UserId::from_u128((n * 7 % USERS) as u128 + 1));
    let began = Instant::now();
    let sessions = store.sessions(SessionFilter::default().with_user_id(user_id), None, 50).await?;
    lists.record(u64::try_from(began.elapsed().as_micros())?)?;
    assert_eq!(sessions.len(), 50);
    let began = Instant::now();
    let messages = store.messages(SessionId::from_u128((n * 577 % SESSIONS) as u128), None, 500).await?;
    transcripts.record(u64::try_from(began.elapsed().as_micros())?)?;
    assert_eq!(messages.len(), MESSAGES / SESSIONS);
    Ok(())
}

fn report(what: &str, times: &Histogram<u64>) {
    let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    let ratio = ms(0.99) / (LIMIT.as_secs_f64() * 1e3);
    println!("  {what}: p50 {:.2} ms, p99 {:.2} ms (limit 10, ratio {ratio:.2})", ms(0.5), ms(0.99));
}

/// Prints the plans of exactly the statements that the store sends, from the server's log.
fn plans(bed: &Bed, place: &Place) -> Outcome<()> {
    let explained =
        "options=-c%20session_preload_libraries%3Dauto_explain%20-c%20auto_explain.log_min_duration%3D0";
    let store = PostgresStore::new(&format!("{}&{explained}", place.url(false)).parse()?)?;
    let mut lists = Histogram::<u64>::new(3)?;
    let mut transcripts = Histogram::<u64>::new(3)?;
    bed.runtime.block_on(ask(&store, 1, &mut lists, &mut transcripts))?;
    let log = place.psql("SELECT pg_read_file(current_setting('data_directory') || '/../log')");
    for plan in log.split("plan:\n").skip(1).take(2) {
        let tree = plan.lines().skip_while(|line| !line.contains("(cost="));
        println!("  plan:");
        tree.take_while(|line| line.starts_with(['\t', ' ']))
            .for_each(|line| println!("    {}", line.trim_end()));
    }
    Ok(())
}
