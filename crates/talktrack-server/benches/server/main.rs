//! The performance of the server seen from outside: the real binary, real sockets, and a client on the same machine.
//! Each figure is printed next to its limit. `cargo bench --bench server -- http` runs one group alone.

mod bed;
mod socket;
mod http;
mod flood;
mod fairness;
mod listeners;
mod lists;
mod lookups;
mod tokens;

#[expect(clippy::unwrap_used, reason = "shared with the tests, where that is how a test ends")]
#[path = "../../tests/it/auth/signing.rs"]
mod signing;

use bed::Outcome;

/// Measures a group and prints the figures.
type Group = fn() -> Outcome<()>;

fn main() -> Outcome<()> {
    let groups: [(&str, Group); 8] = [
        ("socket", socket::run),
        ("http", http::run),
        ("flood", flood::run),
        ("fairness", fairness::run),
        ("listeners", listeners::run),
        ("tokens", tokens::run),
        ("lists", lists::run),
        ("lookups", lookups::run),
    ];
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|word| word == name);
    groups.into_iter().filter(|(name, _)| is_chosen(name)).try_for_each(|(_, run)| run())
}
