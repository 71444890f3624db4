//! Everything that can go wrong, on purpose. Nothing that was acknowledged may be lost by it, or be there twice.
//!
//! A case sets up a [`stand::Stand`], lets [`talkers`] talk to it, does its harm, mends it, and calls the [`judge`], who holds
//! what is stored against what the [`oracle`] was told. [`cut`] says how much of a case is run.

use std::time::Duration;

mod kill;
mod damage;
mod neighbours;
mod soak;

// What the cases are made of, in the order in which one uses the next.
mod judge;
mod rows;
mod stand;
mod talkers;
mod oracle;
mod saying;
mod cut;

/// How long a store may take to receive everything, once it is mended: the longest pause between two tries is 30 s.
const PATIENCE: Duration = Duration::from_secs(90);
