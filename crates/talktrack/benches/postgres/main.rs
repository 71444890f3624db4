//! PostgreSQL behind the journal: how fast a backlog drains, near and far away, what the caller pays
//! meanwhile, and what a million waiting messages cost. Each result is printed with its limit, or with
//! the result of the plain design, from the same run.

mod backlog;
mod bed;
mod plain;
mod queries;
mod raw;

use std::time::Duration;

use bed::{Bed, Outcome};

/// The number of messages to drain if each one costs little.
const MANY: usize = 60_000;
/// The number of messages that the plain design writes, one statement each.
const FEW: usize = 4_000;
/// The same at a distance of 20 ms, where each message takes 40 ms.
const FEWER: usize = 50;
const FAR: Duration = Duration::from_millis(20);

fn main() -> Outcome<()> {
    let only = std::env::args().nth(1).filter(|arg| !arg.starts_with('-'));
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let bed = Bed::new()?;
    if wanted("drain") {
        drain(&bed, "drain", Duration::ZERO, FEW, None)?;
    }
    if wanted("far") {
        drain(&bed, "drain, 20 ms away each way", FAR, FEWER, Some(15_000.0))?;
    }
    if wanted("track") {
        backlog::track(&bed)?;
    }
    if wanted("million") {
        backlog::million(&bed)?;
    }
    if wanted("queries") {
        queries::queries(&bed)?;
    }
    Ok(())
}

/// Measures how much talktrack drains per second, and compares this with the limit of the machine
/// and with the plain design.
fn drain(bed: &Bed, title: &str, away: Duration, plain: usize, goal: Option<f64>) -> Outcome<()> {
    println!(
        "{title}: {MANY} messages of {} bytes, {} sessions, 4 connections",
        bed::TEXT.len(),
        bed::SESSIONS
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

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
