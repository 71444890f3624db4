//! Case 8: the power fails. What a process under load asked of the disk is traced, and every image that a power cut could
//! leave is opened: each message whose acknowledgement the trace shows before the cut must be there, whole and once.
//!
//! The model of the disk is in [`disk`](super::disk). A cut just before a sync is the worst there is: everything since the
//! last one is uncertain, and everything that was told since is promised.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use fastrand::Rng;
use tokio::process::Command;
use uuid::Uuid;

use super::disk::{Disk, Loss};
use super::saying::{Row, Saying};
use super::stand::Stand;
use super::strace::{Strace, is_whole};
use super::talkers::Manner;
use super::told::{self, Told};
use super::trace::{self, Event, Op};
use super::{cut, image};

/// What was said and done until the power failed.
struct Story {
    stand: Stand,
    events: Vec<Event>,
    told: Vec<Told>,
    /// Where the trace shows that PostgreSQL has them.
    stored: BTreeMap<Saying, usize>,
    said: BTreeMap<Uuid, Saying>,
}

impl Story {
    /// The server's lives on this stand, traced into these files.
    fn of(stand: Stand, traces: &[PathBuf]) -> Self {
        let data_dir = stand.home.data_dir();
        let events: Vec<_> = traces.iter().flat_map(|file| trace::read(file, &data_dir)).collect();
        let told = told::acknowledged(&events);
        let notes = stand.oracle.notes();
        let (said, heard) = (notes.said.clone(), notes.acknowledged.len());
        drop(notes);
        let stored = told::stored(&events);
        let ids: BTreeSet<_> = told.iter().map(|told| told.id).collect();
        assert!(ids.len() >= heard, "the talkers heard {heard} acknowledgements, the trace shows {}", ids.len());
        eprintln!("{} events, {} acknowledged, {} seen stored", events.len(), ids.len(), stored.len());
        Self { stand, events, told, stored, said }
    }

    /// Cuts the power at these places and opens what each kind of loss leaves.
    fn judge(&self, random: &mut Rng, losses: usize) {
        let begun = Instant::now();
        let places = self.places(random);
        let (mut disk, mut at) = (Disk::default(), 0);
        for place in &places {
            for event in &self.events[at..*place] {
                if let Event::Disk(op) = event {
                    disk.take(op);
                }
            }
            at = *place;
            for loss in random.choose_multiple(Loss::ALL, losses) {
                self.judge_image(&disk, loss, at, random);
            }
        }
        eprintln!("{} places, {losses} images at each, in {:?}", places.len(), begun.elapsed());
    }

    /// The places of the trace just before a sync, and its end: some of the many in which the log is synced, all others.
    fn places(&self, random: &mut Rng) -> Vec<usize> {
        let (mut places, mut of_log) = (vec![self.events.len()], Vec::new());
        for (at, event) in self.events.iter().enumerate() {
            if let Event::Disk(Op::Sync { path, .. }) = event {
                let is_log = path.extension().is_some_and(|extension| extension == "db-wal");
                if is_log { of_log.push(at) } else { places.push(at) }
            }
        }
        places.extend(random.choose_multiple(of_log, cut::rounds(12, 250) as usize));
        places.sort_unstable();
        places
    }

    fn judge_image(&self, disk: &Disk, loss: Loss, at: usize, random: &mut Rng) {
        let traced_dir = self.stand.home.data_dir();
        let data_dir = self.stand.home.path("image");
        image::lay_down(&disk.image(loss, random), &data_dir, &traced_dir);
        let found = image::messages(&data_dir);
        for told in self.told.iter().take_while(|told| told.at < at) {
            let saying = Saying { revision: told.revision, ..self.said[&told.id] };
            self.is_there(saying, found.get(&told.id), at, loss);
        }
    }

    fn is_there(&self, saying: Saying, found: Option<&Row>, at: usize, loss: Loss) {
        match found {
            Some(row) if row.revision >= saying.revision => {
                let expected = Saying { revision: row.revision, ..saying }.row(self.stand.user);
                assert_eq!(*row, expected, "at {at} {loss:?}");
            }
            _ => {
                let is_stored = self.stored.get(&saying).is_some_and(|stored| *stored < at);
                if !is_stored { std::fs::create_dir_all("/tmp/pw/traces").unwrap(); for i in 0..3 {let _=std::fs::copy(self.stand.home.path(&format!("trace.{i}")), format!("/tmp/pw/traces/{i}"));} eprintln!("stored at {:?}", self.stored.get(&saying)); }
                assert!(is_stored, "{saying:?} was acknowledged, and is lost by a power cut at {at}, {loss:?}");
            }
        }
    }
}

/// Three lives: the first is killed, the second stops in order, the third is killed again.
async fn lives(stand: Stand, strace: &Strace, faults: &[&str]) -> Story {
    let talkers = stand.talk(Manner { talkers: 3, ahead: 3, per_session: 100, ..Manner::default() });
    let messages = cut::rounds(150, 1_500) as usize;
    let mut traces = Vec::new();
    let away = false;
    for life in 0..3 {
        let file = stand.home.path(&format!("trace.{life}"));
        let server = stand.serve_as(strace.traced(&command(&stand), &file, faults)).await;
        let pid = server.pid();
        // What PostgreSQL is kept from is in the file alone.
        for part in 0..6 {
            if let Some(remote) = stand.remote().filter(|_| !away) {
                if part % 2 == 0 { remote.proxy.mend() } else { remote.proxy.cut() }
            }
            stand.oracle.hears(messages / 6).await;
        }
        if life == 1 {
            stand.stop(server).await;
        } else {
            stand.kill(server).await;
        }
        is_whole(&file, pid).await;
        traces.push(file);
    }
    drop(talkers);
    Story::of(stand, &traces)
}

/// Nothing is encrypted on the way to PostgreSQL: the trace shows what it is given and what it answers.
fn command(stand: &Stand) -> Command {
    let Some(remote) = stand.remote() else { return stand.command(&[]) };
    let url = format!("{}?sslmode=disable", remote.url());
    stand.home.server_command(&["--log-level", "warn", "--database-url", &url])
}

async fn power_fails(case: &str, stand: Stand, strace: &Strace, faults: &[&str]) {
    let mut random = cut::random(case);
    let t = Instant::now();
    let story = lives(stand, strace, faults).await;
    eprintln!("story {:?}", t.elapsed());
    story.judge(&mut random, cut::rounds(3, 7) as usize);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_power_cut_leaves_holds_everything_acknowledged() {
    let case = "power cuts, SQLite";
    let Some(strace) = Strace::here(case).await else { return };
    power_fails(case, Stand::on_sqlite(), &strace, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_power_cut_leaves_holds_everything_that_waits_for_postgresql() {
    let case = "power cuts, PostgreSQL away";
    let Some(strace) = Strace::here(case).await else { return };
    let stand = Stand::on_postgres().await;
    stand.remote().unwrap().proxy.cut();
    power_fails(case, stand, &strace, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_takes_nothing_out_of_the_journal_that_postgresql_does_not_have() {
    let case = "power cuts, PostgreSQL there";
    let Some(strace) = Strace::here(case).await else { return };
    let stand = Stand::on_postgres().await;
    power_fails(case, stand, &strace, &[]).await;
}

/// Every so often a sync fails, and what should have been synced may never reach the disk. The commit is tried again.
const BAD_SYNCS: &[&str] = &["fdatasync:error=EIO:when=20+3"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_failed_is_not_taken_for_done_by_the_next_one() {
    let case = "failed syncs and power cuts, SQLite";
    let Some(strace) = Strace::here(case).await else { return };
    power_fails(case, Stand::on_sqlite(), &strace, BAD_SYNCS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cleared_away_before_a_sync_that_failed_takes_nothing_with_it() {
    let case = "failed syncs and power cuts, PostgreSQL there";
    let Some(strace) = Strace::here(case).await else { return };
    power_fails(case, Stand::on_postgres().await, &strace, BAD_SYNCS).await;
}
