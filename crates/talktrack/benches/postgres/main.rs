//! PostgreSQL behind the journal: how fast a backlog drains, near and far away, what the caller pays
//! meanwhile, and what a million waiting messages cost. Each result is printed with its limit, or with
//! the result of the plain design, from the same run. `cargo bench --bench postgres -- million` runs only one part; the others
//! are `drain`, `far`, `track` and `queries`.

#[path = "../common/load.rs"]
mod load;
#[path = "../common/talkers.rs"]
mod talkers;
mod backlog;
mod bed;
mod plain;
mod queries;
mod raw;

use std::time::Duration;

use bed::Bed;
use talktrack_testbed::bench::{Outcome, TEXT, median, run_parts};

/// The number of messages to drain if each one costs little.
const MANY: usize = 60_000;
/// The number of messages that the plain design writes, one statement each.
const FEW: usize = 4_000;
/// The same at a distance of 20 ms, where each message takes 40 ms.
const FEWER: usize = 50;
const FAR: Duration = Duration::from_millis(20);

fn main() -> Outcome<()> {
    run_parts(&[
        ("drain", || drain(&Bed::new()?, "drain", Duration::ZERO, FEW, None)),
        ("far", || drain(&Bed::new()?, "drain, 20 ms away each way", FAR, FEWER, Some(15_000.0))),
        ("track", || backlog::track(&Bed::new()?)),
        ("million", || backlog::million(&Bed::new()?)),
        ("queries", || queries::queries(&Bed::new()?)),
    ])
}

/// Measures how much talktrack drains per second, and compares this with the limit of the machine
/// and with the plain design.
fn drain(bed: &Bed, title: &str, away: Duration, plain: usize, goal: Option<f64>) -> Outcome<()> {
    println!(
        "{title}: {MANY} messages of {} bytes, {} sessions, 4 connections",
        TEXT.len(),
        talkers::SESSIONS
    );
    let mut ours = Vec::new();
    let mut limit = Vec::new();
    for _ in 0..3 {
        limit.push(raw::unnest(bed, away, MANY)?);
        ours.push(backlog::drain(bed, away, MANY)?);
    }
    let ours = median(ours);
    let limit = median(limit);
    let plain = plain::worker(bed, away, plain)?;
    println!(
        "  talktrack {ours:.0} messages/s   raw unnest, 500 rows {limit:.0}   ratio {:.2} (limit 0.80)",
        ours / limit
    );
    println!("  one INSERT a message {plain:.0} messages/s   ratio {:.0} (limit 20)", ours / plain);
    if let Some(goal) = goal {
        println!("  limit {goal:.0} messages/s   ratio {:.2}", ours / goal);
    }
    Ok(())
}
