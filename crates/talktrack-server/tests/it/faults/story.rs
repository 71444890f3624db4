//! The traced history of a server until the power fails, and the check of what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use fastrand::Rng;
use uuid::Uuid;

use super::disk::{Disk, Image, Loss};
use super::saying::{Row, Saying};
use super::stand::Stand;
use super::told::{self, Told};
use super::trace::{self, Event, Op};
use super::{cut, image};
use crate::harness::{Client, Home};

/// The lives of a server as their traces show them.
pub(crate) struct Story {
    stand: Stand,
    events: Vec<Event>,
    told: Vec<Told>,
    /// For each message, the place in the trace from which on PostgreSQL has it.
    stored: BTreeMap<Saying, usize>,
    said: BTreeMap<Uuid, Saying>,
}

/// Returns the lines of the traces that contain this id, to show whether the trace was read wrongly.
fn mentions(traces: &[PathBuf], id: &Uuid) -> String {
    let id = id.to_string();
    let mut found = String::new();
    for (life, trace) in traces.iter().enumerate() {
        let text = std::fs::read_to_string(trace).unwrap();
        let lines = text.lines().enumerate().filter(|(_, line)| line.contains(&id));
        let short = |line: &str| line.chars().take(300).collect::<String>();
        lines.for_each(|(at, line)| found += &format!("life {life}, line {at}: {}\n", short(line)));
    }
    found
}

/// A power cut.
#[derive(Clone, Copy)]
struct PowerCut {
    /// The place in the trace before which the power fails.
    before: usize,
    loss: Loss,
}

impl Story {
    /// Reads the lives of the server on this stand from these traces.
    pub(crate) fn of(stand: Stand, traces: &[PathBuf]) -> Self {
        let data_dir = stand.home.data_dir();
        let events: Vec<_> = traces.iter().flat_map(|file| trace::read(file, &data_dir)).collect();
        let (told, stored) = (told::acknowledged(&events), told::stored(&events));
        let (said, heard) = {
            let notes = stand.oracle.notes();
            (notes.said.clone(), notes.acknowledged.clone())
        };
        let ids: BTreeSet<_> = told.iter().map(|told| told.id).collect();
        let not_shown: Vec<_> = heard.iter().filter(|(id, _)| !ids.contains(id)).collect();
        assert!(
            not_shown.is_empty(),
            "talkers heard acknowledgements that the trace does not show: {not_shown:?}\n{}",
            not_shown.iter().map(|(id, _)| mentions(traces, id)).collect::<String>()
        );
        assert!(stand.remote().is_none() || !stored.is_empty(), "the trace shows nothing of PostgreSQL");
        eprintln!("{} events, {} acknowledged, {} seen stored", events.len(), ids.len(), stored.len());
        Self { stand, events, told, stored, said }
    }

    /// Cuts the power at some places, and judges the images that some kinds of loss leave.
    pub(crate) fn judge(&self, random: &mut Rng) {
        let begun = Instant::now();
        let mut images = 0;
        let places = self.places(random, cut::rounds(10, 80) as usize);
        self.visit(&places, |disk, before| {
            for loss in random.choose_multiple(Loss::ALL, cut::rounds(3, 4) as usize) {
                let cut = PowerCut { before, loss };
                let data_dir = self.stand.home.path("image");
                image::lay_down(&disk.image(loss, random), &data_dir, &self.stand.home.data_dir());
                self.is_all_there(&image::messages(&data_dir), cut);
                images += 1;
            }
        });
        eprintln!("{images} images at {} places, {:?}", places.len(), begun.elapsed());
    }

    /// Starts the real binary on the images of a few power cuts. The local file becomes its store: messages that waited
    /// in the outbox for another store move into its tables.
    pub(crate) async fn goes_on(&self, random: &mut Rng) {
        let places = self.places(random, cut::rounds(1, 6) as usize);
        let mut images = Vec::new();
        self.visit(&random.choose_multiple(places, cut::rounds(1, 6) as usize), |disk, before| {
            let loss = random.choice(Loss::ALL).unwrap();
            images.push((PowerCut { before, loss }, disk.image(loss, random)));
        });
        for (cut, image) in images {
            self.goes_on_from(&image, cut).await;
        }
    }

    async fn goes_on_from(&self, image: &Image, cut: PowerCut) {
        let home = Home::new();
        image::lay_down(image, &home.data_dir(), &self.stand.home.data_dir());
        if home.data_dir().join("talktrack.db").is_file() {
            // The image does not contain the PostgreSQL database, so messages that wait for it are moved to the local
            // file.
            home.look(&["outbox", "redirect", "--local", "--yes"]).await.succeeded();
        }
        let server = home.serve(&["--log-level", "warn"]).await;
        Client::new(&server).await.say("fresh").await;
        home.verify().await;
        server.stop().await;
        self.is_all_there(&image::messages(&home.data_dir()), cut);
    }

    /// Returns random places just before a sync, and the end of the trace: up to `most` syncs of the WAL, which are the
    /// majority, and up to `most` others.
    fn places(&self, random: &mut Rng, most: usize) -> Vec<usize> {
        let mut of_log = Vec::new();
        let mut others = Vec::new();
        for (at, event) in self.events.iter().enumerate() {
            if let Event::Disk(Op::Sync { path, .. }) = event {
                let is_log = path.extension().is_some_and(|extension| extension == "db-wal");
                if is_log { of_log.push(at) } else { others.push(at) }
            }
        }
        let chosen = [of_log, others].map(|places| random.choose_multiple(places, most));
        chosen.into_iter().flatten().chain([self.events.len()]).collect()
    }

    /// Replays the trace and calls `stop` at these places in order.
    fn visit(&self, places: &[usize], mut stop: impl FnMut(&Disk, usize)) {
        let mut places = places.to_vec();
        places.sort_unstable();
        let mut disk = Disk::default();
        let mut at = 0;
        for place in places {
            for event in &self.events[at..place] {
                if let Event::Disk(op) = event {
                    disk.take(op);
                }
            }
            stop(&disk, place);
            at = place;
        }
    }

    fn is_all_there(&self, found: &BTreeMap<Uuid, Row>, cut: PowerCut) {
        let PowerCut { before, loss } = cut;
        for told in self.told.iter().take_while(|told| told.at < before) {
            let saying = Saying { revision: told.revision, ..self.said[&told.id] };
            match found.get(&told.id) {
                Some(row) if row.revision >= saying.revision => {
                    let expected = Saying { revision: row.revision, ..saying }.row(self.stand.user);
                    assert_eq!(*row, expected, "a power cut before {before}, losing {loss:?}");
                }
                _ => {
                    let is_stored = self.stored.get(&saying).is_some_and(|stored| *stored < before);
                    assert!(
                        is_stored,
                        "acknowledged, and lost: {saying:?}, before {before}, losing {loss:?}"
                    );
                }
            }
        }
    }
}
