//! Damaged files: the next start keeps them in quarantine, reports the damage, and continues with every
//! row that is not on a damaged page.

mod running;
mod pieces;
mod scene;

use std::path::Path;

use scene::{File, Scene};

use crate::properties;

/// The number of damaged files per kind of damage. The tests of the server try many more.
const ROUNDS: usize = 6;

fn random(case: &str) -> fastrand::Rng {
    let seed = properties::seed();
    eprintln!("{case}: TALKTRACK_SEED={seed} draws the same again");
    fastrand::Rng::with_seed(seed)
}

/// Changes one to five bytes at random offsets, and returns these offsets.
fn flip(random: &mut fastrand::Rng, file: &Path) -> Vec<u64> {
    let mut bytes = std::fs::read(file).unwrap();
    let flips = random.usize(1..6);
    let places: Vec<usize> = (0..flips).map(|_| random.usize(0..bytes.len())).collect();
    for place in &places {
        bytes[*place] ^= random.u8(1..=255);
    }
    std::fs::write(file, bytes).unwrap();
    places.into_iter().map(|place| place as u64).collect()
}

/// Cuts off the end of the file at a random offset, and returns offsets in every page that is gone.
fn truncate(random: &mut fastrand::Rng, file: &Path) -> Vec<u64> {
    let length = std::fs::metadata(file).unwrap().len();
    let left = random.u64(0..length);
    std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(left).unwrap();
    (left..length).step_by(512).chain([length - 1]).collect()
}

async fn after_damages(
    case: &str,
    scene: &Scene,
    file: File,
    harm: fn(&mut fastrand::Rng, &Path) -> Vec<u64>,
) {
    let mut random = random(case);
    for round in 0..ROUNDS {
        let broken = scene.copy();
        let places = harm(&mut random, &file.of(broken.path()));
        eprintln!("{case}, round {round}: {:?}", &places[..places.len().min(6)]);
        scene.judge(&broken, &scene.hit(file, &places)).await;
    }
}

#[tokio::test]
async fn bytes_flipped_in_the_database_cost_only_what_is_on_their_pages() {
    after_damages("flips", &Scene::closed().await, File::Database, flip).await;
}

#[tokio::test]
async fn bytes_flipped_in_the_outbox_cost_only_what_is_on_their_pages() {
    after_damages("flips, outbox", &Scene::outbox().await, File::Database, flip).await;
}

#[tokio::test]
async fn a_database_cut_short_keeps_what_is_before_the_cut() {
    after_damages("cuts", &Scene::closed().await, File::Database, truncate).await;
}

#[tokio::test]
async fn bytes_flipped_in_the_log_of_a_killed_process_cost_only_what_is_on_their_pages() {
    after_damages("flips, log", &Scene::killed().await, File::Log, flip).await;
}

#[tokio::test]
async fn a_log_cut_short_after_a_kill_is_missed() {
    after_damages("cuts, log", &Scene::killed().await, File::Log, truncate).await;
}

#[tokio::test]
async fn a_broken_index_of_the_log_harms_nobody() {
    after_damages("flips, index", &Scene::killed().await, File::Index, flip).await;
}
