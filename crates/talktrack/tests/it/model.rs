//! A model test of the tracker and its journal: after any operations in any order, the result
//! is what a few maps predict.

mod operation;
mod expected;
mod world;
mod seen;

use std::cell::RefCell;
use std::collections::BTreeMap;

use operation::Operation::{self, Chat, End, Start, StoreDown, StoreUp, Wait};
use operation::Outage::Refuses;
use operation::Return::Stuttering;
use operation::Session::A;
use proptest::strategy::Strategy;
use world::World;

use crate::properties::{draws, hold};

/// With at least this many draws, each kind of event must have occurred.
const MANY: u32 = 500;

/// Runs every sequence of operations that is drawn.
fn every_life(
    name: &str,
    draws: u32,
    lives: &impl Strategy<Value = Vec<Operation>>,
    world: fn() -> World,
    happens: &[&str],
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let happened = RefCell::new(BTreeMap::<&str, u32>::new());
    hold(name, draws, lives, |operations| {
        let model = runtime.block_on(world().live_through(&operations))?;
        for (what, count) in model.happened {
            *happened.borrow_mut().entry(what).or_default() += count;
        }
        Ok(())
    });
    let happened = happened.into_inner();
    eprintln!("{name}: {happened:?}");
    let missing: Vec<_> = happens.iter().filter(|what| !happened.contains_key(*what)).collect();
    assert!(draws < MANY || missing.is_empty(), "never happened: {missing:?}; {happened:?}");
}

#[test]
fn whatever_happens_the_file_holds_what_the_model_says() {
    let happens = [
        "new",
        "late",
        "repeated",
        "revised",
        "outdated",
        "id_conflict",
        "unknown_session",
        "started",
        "resumed",
        "ended",
        "ended again",
        "abandoned",
        "recovered",
    ];
    let lives = operation::with_a_file();
    every_life("file", draws(40, 1_000), &lives, World::with_a_file, &happens);
}

#[test]
fn whatever_happens_the_remote_store_gets_what_the_model_says() {
    // A message that is sent again always meets the first one in the journal, where the re-send window keeps it.
    let happens = [
        "new",
        "late",
        "revised",
        "outdated",
        "unknown_session",
        "refused while the first waits",
        "repeated while the first waits",
        "resumed",
        "abandoned",
        "recovered",
    ];
    let lives = operation::with_a_remote_store();
    every_life("remote store", draws(40, 600), &lives, World::with_a_remote_store, &happens);
}

async fn live_through(world: World, operations: &[Operation]) {
    if let Err(why) = world.live_through(operations).await {
        panic!("{why}");
    }
}

/// Regression test: an end and the records behind it were stored, but the answer was lost. When they
/// came again, the end closed the session again. The start behind it was older than the last message by
/// then and was taken for a late one.
#[tokio::test]
async fn an_end_that_comes_to_the_store_again_does_not_close_the_session_that_went_on() {
    let operations = [
        Start(A),
        StoreDown(Refuses),
        // The first record that is refused is retried alone. The records that are accepted meanwhile go out together.
        Chat(A, 1),
        End(A),
        Wait(1),
        Start(A),
        Wait(1),
        Chat(A, 1),
        StoreUp(Stuttering),
    ];
    live_through(World::with_a_remote_store(), &operations).await;
}
