//! Everything that can go wrong, on purpose. Nothing that was acknowledged may be lost by it, or be there twice.
//!
//! A case sets up a [`stand::Stand`], lets [`talkers`] talk to it, does its harm, mends it, and calls the [`judge`], who holds
//! what is stored against what the [`oracle`] was told. [`cut`] says how much of a case is run.

use std::time::Duration;

mod kill;
mod nodes;
mod away;
mod poison;
mod drift;
mod full_disk;
mod syscalls;
mod answers;
mod power;
mod damage;
mod flood;
mod greed;
mod stop;
mod neighbours;
mod silence;
pub(crate) mod clock;
mod ground;
mod odd_values;
mod triggers;
mod forgetting;
mod unknown;
mod bad_rows;
mod soak;

// The disk that loses its power.
mod story;
mod image;
mod disk;
mod told;
mod trace;
mod syntax;
mod strace;

// What the cases are made of, in the order in which one uses the next.
mod ordeal;
mod namespace;
mod judge;
mod rows;
mod stand;
mod talkers;
mod oracle;
mod saying;
mod cut;

/// How long a store may take to receive everything, once it is mended: the longest pause between two tries is 30 s.
const PATIENCE: Duration = Duration::from_secs(90);
