//! Everything that can go wrong, caused on purpose. No fault may lose or duplicate an acknowledged message.
//!
//! A case sets up a [`stand::Stand`], lets [`talkers`] send messages to it, causes its fault, repairs it, and calls the
//! [`judge`], which compares what is stored with what the [`oracle`] recorded. [`cut`] decides how much of a case runs.

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

// The model of a disk that loses its power.
mod story;
mod image;
mod disk;
mod told;
mod trace;
mod syntax;
mod strace;

// Helpers of the cases. Each module uses only modules below it.
mod ordeal;
mod namespace;
mod judge;
mod rows;
mod stand;
mod talkers;
mod oracle;
mod saying;
mod cut;

/// How long a store may take to receive everything after a repair. The longest pause between two attempts is 30 s.
const PATIENCE: Duration = Duration::from_secs(90);
