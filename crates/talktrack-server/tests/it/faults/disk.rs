//! A model of a disk that loses its power, driven by the system calls of a traced process.
//!
//! - A write is durable once a sync of the file has succeeded. Until then, each write may survive or not, independently of
//!   earlier and later writes, and so may each of its sectors of 512 bytes.
//! - The same holds for a change of the file's length. Bytes of a grown file that were never written are zeros.
//! - A name (a file created or removed; a rename is both) is durable once a sync of its directory has succeeded. A sync of
//!   the file itself is not enough: most file systems do more, but POSIX does not promise it.
//! - A failed sync makes nothing durable, and the writes before it may never become durable: the system may have dropped
//!   them, so that a later sync succeeds without them. Only another write to the same place helps.
//! - A sector is written completely or not at all, and a write never damages durable data next to it.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::trace::Op;

const SECTOR: usize = 512;

/// The files after a power cut.
pub(crate) type Image = BTreeMap<PathBuf, Vec<u8>>;

/// A disk with its durable and its uncertain content.
#[derive(Default)]
pub(crate) struct Disk {
    files: Vec<File>,
    /// The files by name, as processes see them.
    seen: BTreeMap<PathBuf, usize>,
    /// The durable names.
    certain: BTreeMap<PathBuf, usize>,
    /// Names that have changed since. `None` if a name was removed.
    names: Vec<Uncertain<(PathBuf, Option<usize>)>>,
    /// The number of operations so far.
    moment: usize,
}

#[derive(Default)]
struct File {
    certain: Vec<u8>,
    changes: Vec<Uncertain<Change>>,
}

/// A change that may or may not survive a power cut.
struct Uncertain<T> {
    what: T,
    /// The operation that made the change.
    moment: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The next successful sync makes it durable.
    Waiting,
    /// A sync failed, so this change may never become durable.
    Forsaken,
    /// Durable, but behind a change that may be missing.
    Certain,
}

enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize { to: usize },
}

/// Which uncertain changes a power cut destroys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// A random selection.
    Some,
    /// A random selection of sectors.
    Sectors,
    /// Everything after a random operation, and random sectors of the last one before it.
    Rest,
    /// Everything except changes of the database file itself: a checkpoint has overtaken the WAL.
    AllButDatabase,
    /// Only changes of the database file itself.
    Database,
}

impl Loss {
    /// All kinds of loss.
    pub(crate) const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Everything,
        Self::Some,
        Self::Sectors,
        Self::Rest,
        Self::AllButDatabase,
        Self::Database,
    ];
}

impl Disk {
    /// Applies an operation of the traced process.
    pub(crate) fn take(&mut self, op: &Op) {
        self.moment += 1;
        match op {
            Op::Create(path) if self.seen.contains_key(path) => {}
            Op::Create(path) => {
                self.files.push(File::default());
                self.name(path, Some(self.files.len() - 1));
            }
            Op::Remove(path) => self.name(path, None),
            Op::Rename(from, to) => {
                let file = self.seen[from];
                self.name(to, Some(file));
                self.name(from, None);
            }
            Op::Write { path, at, bytes } => {
                self.change(path, Change::Write { at: *at, bytes: bytes.clone() });
            }
            Op::Resize { path, to } => self.change(path, Change::Resize { to: *to }),
            Op::Sync { path, held } => self.sync(path, *held),
        }
    }

    fn name(&mut self, path: &Path, file: Option<usize>) {
        match file {
            Some(file) => self.seen.insert(path.to_owned(), file),
            None => self.seen.remove(path),
        };
        let what = (path.to_owned(), file);
        self.names.push(Uncertain { what, moment: self.moment, state: State::Waiting });
    }

    fn change(&mut self, path: &Path, what: Change) {
        let file = self.seen[path];
        let change = Uncertain { what, moment: self.moment, state: State::Waiting };
        self.files[file].changes.push(change);
    }

    fn sync(&mut self, path: &Path, held: bool) {
        let is_in = |name: &Uncertain<(PathBuf, _)>| name.what.0.parent() == Some(path);
        self.names.iter_mut().filter(|name| is_in(name)).for_each(|name| name.settle(held));
        let certain = &mut self.certain;
        let names = &mut self.names;
        drain_certain(names, |(path, file)| rename(certain, &path, file));
        if let Some(file) = self.seen.get(path) {
            let File { certain, changes } = &mut self.files[*file];
            changes.iter_mut().for_each(|change| change.settle(held));
            drop_overwritten(changes);
            drain_certain(changes, |change| change.apply(certain));
        }
    }

    /// Returns a possible image of the disk if the power fails now.
    pub(crate) fn image(&self, loss: Loss, random: &mut Rng) -> Image {
        let mut cut = Cut { loss, last: self.some_moment(random), random };
        let mut names = self.certain.clone();
        for name in &self.names {
            let (path, file) = &name.what;
            if name.state == State::Certain || cut.spares_name(name.moment, path) {
                rename(&mut names, path, *file);
            }
        }
        let is_there = |path: &Path| {
            path.parent().is_none_or(|dir| !self.seen.contains_key(dir) || names.contains_key(dir))
        };
        let there = names.iter().filter(|(path, _)| is_there(path));
        there.map(|(path, file)| (path.clone(), self.files[*file].after(&mut cut, path))).collect()
    }

    /// Returns the moment of a random uncertain change.
    fn some_moment(&self, random: &mut Rng) -> usize {
        let changes = self.files.iter().flat_map(|file| file.changes.iter().map(|change| change.moment));
        let moments: Vec<_> = changes.chain(self.names.iter().map(|name| name.moment)).collect();
        random.choice(moments).unwrap_or(0)
    }
}

impl File {
    fn after(&self, cut: &mut Cut<'_>, path: &Path) -> Vec<u8> {
        let mut content = self.certain.clone();
        for change in &self.changes {
            if change.state == State::Certain {
                change.what.apply(&mut content);
            } else {
                cut.spare(change, path, &mut content);
            }
        }
        content
    }
}

/// A power cut.
struct Cut<'a> {
    loss: Loss,
    /// The last operation that survives, if the kind of loss needs it.
    last: usize,
    random: &'a mut Rng,
}

/// How much of a change survives.
enum Part {
    All,
    Some,
    None,
}

impl Cut<'_> {
    fn spares(&mut self, moment: usize, path: &Path) -> Part {
        let is_database = path.extension().is_some_and(|extension| extension == "db");
        let all_if = |spared: bool| if spared { Part::All } else { Part::None };
        match self.loss {
            Loss::Nothing => Part::All,
            Loss::Everything => Part::None,
            Loss::Some => all_if(self.random.bool()),
            Loss::Sectors => Part::Some,
            Loss::Rest if moment == self.last => Part::Some,
            Loss::Rest => all_if(moment < self.last),
            Loss::AllButDatabase => all_if(is_database),
            Loss::Database => all_if(!is_database),
        }
    }

    fn spares_name(&mut self, moment: usize, path: &Path) -> bool {
        match self.spares(moment, path) {
            Part::All => true,
            Part::Some => self.random.bool(),
            Part::None => false,
        }
    }

    fn spare(&mut self, change: &Uncertain<Change>, path: &Path, content: &mut Vec<u8>) {
        match (self.spares(change.moment, path), &change.what) {
            (Part::None, _) => {}
            (Part::Some, Change::Write { at, bytes }) => {
                for sector in sectors(*at, bytes.len()).filter(|_| self.random.bool()) {
                    write(content, at + sector.start, &bytes[sector]);
                }
            }
            (Part::Some, Change::Resize { .. }) if self.random.bool() => {}
            (_, what) => what.apply(content),
        }
    }
}

impl<T> Uncertain<T> {
    fn settle(&mut self, held: bool) {
        if self.state == State::Waiting {
            self.state = if held { State::Certain } else { State::Forsaken };
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => write(content, *at, bytes),
            Self::Resize { to } => content.resize(*to, 0),
        }
    }
}

fn write(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}

/// Splits a write into ranges that lie in one sector each, as offsets into the write.
fn sectors(at: usize, length: usize) -> impl Iterator<Item = Range<usize>> {
    let first = SECTOR - at % SECTOR;
    let starts = std::iter::once(0).chain((first..length).step_by(SECTOR));
    starts.map(move |start| start..length.min(start + SECTOR - (at + start) % SECTOR))
}

fn rename(names: &mut BTreeMap<PathBuf, usize>, path: &Path, file: Option<usize>) {
    match file {
        Some(file) => names.insert(path.to_owned(), file),
        None => names.remove(path),
    };
}

/// Removes changes that may never become durable but no longer matter, because a durable write has replaced them.
fn drop_overwritten(changes: &mut Vec<Uncertain<Change>>) {
    let mut overwritten = HashSet::new();
    let mut stays: Vec<_> = changes.iter().rev().map(|change| stays(change, &mut overwritten)).collect();
    changes.retain(|_| stays.pop().unwrap_or(true));
}

fn stays(change: &Uncertain<Change>, overwritten: &mut HashSet<Range<usize>>) -> bool {
    let Change::Write { at, bytes } = &change.what else { return true };
    let place = *at..at + bytes.len();
    if change.state == State::Certain {
        overwritten.insert(place);
        return true;
    }
    change.state == State::Waiting || !overwritten.contains(&place)
}

/// Removes and applies the durable changes that come before all uncertain ones.
fn drain_certain<T>(changes: &mut Vec<Uncertain<T>>, apply: impl FnMut(T)) {
    let certain = changes.iter().take_while(|change| change.state == State::Certain).count();
    changes.drain(..certain).map(|change| change.what).for_each(apply);
}
