//! Case 8: the power fails. What a process under load asked of the disk is traced, and every image that a power cut could
//! leave is opened: each message whose acknowledgement the trace shows before the cut must be there, whole and once.
//!
//! The model of the disk is in [`disk`](super::disk). A cut just before a sync is the worst there is: everything since the
//! last one is uncertain, and everything that was told since is promised.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;
use uuid::Uuid;

use super::disk::{Disk, Loss};
use super::saying::{Row, Saying};
use super::stand::Stand;
use super::strace::{Strace, is_whole};
use super::talkers::Manner;
use super::told::{self, Told};
use super::trace::{self, Event, Op};
use super::{cut, image};
use crate::harness::Server;

/// What was said and done until the power failed.
static T: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
struct Story {
    stand: Stand,
    events: Vec<Event>,
    told: Vec<Told>,
    /// Where the trace shows that PostgreSQL has them.
    stored: HashMap<Uuid, usize>,
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
        let stored = told::stored(&events, &said.keys().copied().collect());
        let ids: std::collections::BTreeSet<_> = told.iter().map(|told| told.id).collect();
        assert!(ids.len() >= heard, "the talkers heard {heard} acknowledgements, the trace shows {}", ids.len());
        eprintln!("{} events, {} acknowledged, {} seen stored", events.len(), ids.len(), stored.len());
        Self { stand, events, told, stored, said }
    }

    /// The places of the trace just before a sync, and its end.
    fn cuts(&self) -> Vec<usize> {
        let is_sync = |event: &Event| matches!(event, Event::Disk(Op::Sync { .. }));
        let syncs = self.events.iter().enumerate().filter(|(_, event)| is_sync(event)).map(|(at, _)| at);
        syncs.chain([self.events.len()]).collect()
    }

    /// Cuts the power at `chosen` of these places and opens what each kind of loss leaves, until the time is over.
    fn judge(&self, mut places: Vec<usize>, mut losses: impl FnMut(&mut Rng) -> Vec<Loss>, random: &mut Rng, time: Duration) {
        let begun = Instant::now();
        places.sort_unstable();
        let (mut disk, mut at, mut images) = (Disk::default(), 0, 0);
        for place in &places {
            for event in &self.events[at..*place] {
                if let Event::Disk(op) = event {
                    disk.take(op);
                }
            }
            at = *place;
            for loss in losses(random) {
                self.judge_image(&disk, loss, at, random);
                images += 1;
            }
            if begun.elapsed() > time {
                break;
            }
        }
        eprintln!("{images} images at {} places, {:?}", places.len(), begun.elapsed());
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
        let id = saying.id();
        match found {
            Some(row) => {
                assert!(row.revision >= saying.revision, "{saying:?} at {at} {loss:?}: {row:?}");
                let expected = Saying { revision: row.revision, ..saying }.row(self.stand.user);
                assert_eq!(*row, expected, "at {at} {loss:?}");
            }
            None => {
                let is_stored = self.stored.get(&id).is_some_and(|stored| *stored < at);
                assert!(is_stored, "{saying:?} was acknowledged, and is lost by a power cut at {at}, {loss:?}");
            }
        }
    }
}

/// A life of the server, traced.
async fn begin(stand: &Stand, strace: &Strace, life: u32) -> (Server, PathBuf) {
    let file = stand.home.path(&format!("trace.{life}"));
    let server = stand.serve_as(strace.traced(&stand.command(&[]), &file)).await;
    (server, file)
}

/// Two lives: the first is killed, the second goes on, and stops in order.
async fn two_lives(stand: Stand, strace: &Strace, messages: usize) -> Story {
    let talkers = stand.talk(Manner { talkers: 3, ahead: 3, per_session: 100, ..Manner::default() });
    let (server, first) = begin(&stand, strace, 1).await;
    eprintln!("up {:?}",T.elapsed());stand.oracle.hears(messages / 4).await;eprintln!("heard {:?}",T.elapsed());
    let pid = server.pid();
    stand.kill(server).await;
    is_whole(&first, pid).await;
    let (server, second) = begin(&stand, strace, 2).await;
    stand.oracle.hears(messages).await;
    talkers.fall_silent().await;
    let pid = server.pid();
    stand.stop(server).await;
    is_whole(&second, pid).await;
    for f in [&first,&second] {eprintln!("{} bytes {:?}", std::fs::metadata(f).unwrap().len(), T.elapsed());}
    Story::of(stand, &[first, second])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_power_cut_leaves_holds_everything_acknowledged() {
    let case = "power cuts, SQLite";
    let Some(strace) = Strace::here(case).await else { return };
    let mut random = cut::random(case);
    let t = Instant::now();
    let story = two_lives(Stand::on_sqlite(), &strace, 1500).await;
    eprintln!("story {:?}", t.elapsed());
    let places = story.cuts();
    eprintln!("{} cuts", places.len());
    story.judge(places, |_| Loss::ALL.to_vec(), &mut random, Duration::from_secs(100));
}
