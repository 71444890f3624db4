//! The performance of the server seen from outside: the real binary, real sockets, and a client on the same machine.
//! Each figure is printed next to its limit. `cargo bench --bench server -- http` runs one part alone.

mod bed;
mod socket;
mod http;
mod feed;
mod flood;
mod fairness;
mod listeners;
mod lists;
mod lookups;
mod transcripts;
mod tokens;

#[expect(clippy::unwrap_used, reason = "shared with the tests, where that is how a test ends")]
#[path = "../../tests/it/auth/signing.rs"]
mod signing;

use talktrack_testbed::bench::{Outcome, run_parts};

fn main() -> Outcome<()> {
    run_parts(&[
        ("socket", socket::run),
        ("http", http::run),
        ("feed", feed::run),
        ("flood", flood::run),
        ("fairness", fairness::run),
        ("listeners", listeners::run),
        ("tokens", tokens::run),
        ("lists", lists::run),
        ("lookups", lookups::run),
        ("transcripts", transcripts::run),
    ])
}
