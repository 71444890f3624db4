//! Case 9: flipped bytes and truncated files: the database, its WAL, the lock file and the other files of the data
//! directory. The server starts, keeps the damaged files, reports them, and continues with the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value;
use uuid::Uuid;

use super::cut;
use super::rows;
use super::saying::{Row, Saying};
use super::stand::Stand;
use super::talkers::Manner;
use crate::harness::{Client, Server};

const PAGE: usize = 4096;
const LOG_HEADER: usize = 32;
const FRAME: usize = PAGE + 24;
/// This many characters of an id distinguish the messages of the test.
const MARK: usize = 13;
/// The log line of the server about a damaged database.
const ALARM: &str = "❌ The database was damaged";
/// The position of the schema version in the database header. If the version is newer, talktrack does not touch the
/// database, so the damage must not hit this position.
const VERSION: std::ops::Range<usize> = 60..64;

/// A kind of damage and the file that it hits.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Flip(&'static str),
    Blank(&'static str),
    Cut(&'static str),
    Remove(&'static str),
    Garbage(&'static str),
}

const HARMS: [Harm; 14] = [
    Harm::Flip("talktrack.db"),
    Harm::Flip("talktrack.db-wal"),
    Harm::Cut("talktrack.db"),
    Harm::Cut("talktrack.db-wal"),
    Harm::Blank("talktrack.db"),
    Harm::Blank("talktrack.db-wal"),
    Harm::Remove("talktrack.db-wal"),
    Harm::Flip("talktrack.db-shm"),
    Harm::Cut("talktrack.db-shm"),
    Harm::Garbage("talktrack.db-shm"),
    Harm::Garbage("LOCK"),
    Harm::Cut("LOCK"),
    Harm::Garbage("listen"),
    Harm::Garbage("control"),
];

impl Harm {
    fn file(self) -> &'static str {
        match self {
            Self::Flip(file)
            | Self::Blank(file)
            | Self::Cut(file)
            | Self::Remove(file)
            | Self::Garbage(file) => file,
        }
    }

    /// Damages the file and returns the offsets of the bytes that have changed.
    fn befalls(self, data_dir: &Path, random: &mut fastrand::Rng) -> BTreeSet<usize> {
        let path = data_dir.join(self.file());
        let before = std::fs::read(&path).unwrap_or_default();
        let mut after = before.clone();
        let place = random.usize(0..before.len().max(1));
        match self {
            Self::Flip(_) => (0..random.usize(1..5)).for_each(|_| {
                let place = random.usize(0..after.len());
                after[place] ^= random.u8(1..);
            }),
            Self::Blank(_) => after[place / 512 * 512..].iter_mut().take(512).for_each(|byte| *byte = 0),
            Self::Cut(_) => after.truncate(place),
            Self::Remove(_) => after.clear(),
            Self::Garbage(_) => after = (0..random.usize(0..40_000)).map(|_| random.u8(..)).collect(),
        }
        if self.file() == "talktrack.db" && after.len() >= VERSION.end {
            after[VERSION].copy_from_slice(&before[VERSION]);
        }
        let _ = std::fs::remove_file(&path);
        if !matches!(self, Self::Remove(_)) {
            std::fs::write(&path, &after).unwrap();
        }
        (0..before.len()).filter(|place| before.get(*place) != after.get(*place)).collect()
    }
}

/// A data directory after a kill, and the messages that were acknowledged in it.
struct Left {
    stand: Stand,
    files: BTreeMap<String, Vec<u8>>,
    acknowledged: BTreeMap<Uuid, Saying>,
    /// The pages that contain each message.
    pages: HashMap<Uuid, BTreeSet<usize>>,
}

impl Left {
    /// Makes a data directory with some messages in the database file and some in its WAL only.
    async fn behind(stand: Stand) -> Self {
        if let Some(remote) = stand.remote() {
            remote.proxy.cut();
        }
        for orderly in [true, false] {
            let server = stand.serve(&["--unknown-session-wait", "1s"]).await;
            let talkers = stand.talk(Manner { talkers: 3, ahead: 20, per_session: 100, ..Manner::default() });
            stand.oracle.hears(300).await;
            talkers.fall_silent().await;
            if orderly { stand.stop(server).await } else { stand.kill(server).await }
        }
        if let Some(remote) = stand.remote() {
            remote.proxy.fix();
        }
        let files = files(&stand.home.data_dir());
        let acknowledged = stand.oracle.notes().acknowledged.clone();
        let pages = on_pages(&files, &acknowledged);
        Self { stand, files, acknowledged, pages }
    }

    /// Restores all files to the state before the damage.
    fn again(&self) {
        let data_dir = self.stand.home.data_dir();
        std::fs::remove_dir_all(&data_dir).unwrap();
        std::fs::create_dir(&data_dir).unwrap();
        for (name, bytes) in &self.files {
            std::fs::write(data_dir.join(name), bytes).unwrap();
        }
        std::fs::write(self.stand.home.log_path(), "").unwrap();
        if let Some(remote) = self.stand.remote() {
            let tables = "TRUNCATE conversation_messages, conversation_sessions";
            remote.database.psql(tables);
        }
    }

    async fn suffers(&self, harm: Harm, random: &mut fastrand::Rng) {
        self.again();
        let data_dir = self.stand.home.data_dir();
        let places = harm.befalls(&data_dir, random);
        let hit = self.hit(harm.file(), &places);
        let broken = files(&data_dir);
        eprintln!("{harm:?} on pages {hit:?}");
        let server = self.stand.serve(&["--unknown-session-wait", "1s"]).await;
        self.kept(&broken);
        Client::new(&server).await.say("fresh").await;
        self.stand.drained(&server).await;
        self.nothing_else_is_lost(&hit, &server);
        self.books_balance(&hit).await;
        self.stand.kill(server).await;
    }

    /// Returns the pages of the database that these offsets of the file belong to.
    fn hit(&self, file: &str, places: &BTreeSet<usize>) -> BTreeSet<usize> {
        let page = |place: &usize| match file {
            "talktrack.db" => Some(place / PAGE + 1),
            "talktrack.db-wal" => {
                let frame = LOG_HEADER + place.checked_sub(LOG_HEADER)? / FRAME * FRAME;
                let page = self.files[file].get(frame..frame + 4)?;
                usize::try_from(u32::from_be_bytes(page.try_into().unwrap())).ok()
            }
            _ => None,
        };
        places.iter().filter_map(page).collect()
    }

    /// Asserts that a quarantine contains the damaged files unchanged, byte for byte.
    fn kept(&self, broken: &BTreeMap<String, Vec<u8>>) {
        for dir in self.quarantines() {
            let kept = files(&dir);
            for name in ["talktrack.db", "talktrack.db-wal"] {
                assert_eq!(kept.get(name).map(Vec::len), broken.get(name).map(Vec::len), "{name}");
                assert!(kept.get(name) == broken.get(name), "{name} is not what it was");
            }
        }
    }

    fn quarantines(&self) -> Vec<PathBuf> {
        let dirs = std::fs::read_dir(self.stand.home.data_dir().join("quarantine"));
        dirs.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    }

    fn nothing_else_is_lost(&self, hit: &BTreeSet<usize>, server: &Server) {
        let stored = self.stored();
        let dead = self.dead();
        let is_hit = |id: &Uuid| self.pages[id].intersection(hit).next().is_some();
        let mut missing = 0;
        for (id, saying) in &self.acknowledged {
            match stored.get(id) {
                Some(row) => assert!(
                    is_hit(id) || row.as_ref() == Some(&self.said(*saying)),
                    "{row:?} is not {saying:?}"
                ),
                None if dead.contains(id) => {}
                None => {
                    assert!(is_hit(id), "{saying:?} lies on {:?}, and is gone by {hit:?}", self.pages[id]);
                    missing += 1;
                }
            }
        }
        let alarm = server.log().lines().filter(|line| line.contains(ALARM)).count();
        assert_eq!(alarm, self.quarantines().len(), "each quarantine is told of: {}", server.log());
        assert!(missing == 0 || alarm == 1, "{missing} messages are missing in silence");
        assert!(!hit.is_empty() || alarm == 0 || missing == 0);
    }

    /// Returns what is stored under each id; `None` for a row whose columns are damaged.
    fn stored(&self) -> HashMap<Uuid, Option<Row>> {
        let rows = rows::messages_as_they_are(&self.stand).into_iter();
        rows.filter_map(|row| Some((row["id"].as_str()?.parse().ok()?, serde_json::from_value(row).ok())))
            .collect()
    }

    fn said(&self, saying: Saying) -> Row {
        saying.row(self.stand.user)
    }

    /// Asserts that the books balance after a database was replaced. Without a replacement, a damaged byte of a count
    /// may have gone unnoticed. `verify` may report only messages on damaged pages.
    async fn books_balance(&self, hit: &BTreeSet<usize>) {
        let home = &self.stand.home;
        let report = match self.stand.remote() {
            _ if self.quarantines().is_empty() => return,
            Some(remote) => home.look_at(&remote.url(), &["verify"]).await,
            None => home.look(&["verify"]).await,
        };
        assert!(report.stdout.contains("a damaged database is kept in"), "{}", report.stdout);
        let problems = report.stdout.lines().filter_map(|line| line.strip_prefix("✗ "));
        let (verdict, rotten): (Vec<_>, Vec<_>) =
            problems.partition(|line| *line == "the books do not balance");
        for problem in &rotten {
            let id = problem
                .strip_prefix("message ")
                .and_then(|rest| rest.split(' ').next()?.parse::<Uuid>().ok());
            let is_hit = id.is_some_and(|id| self.pages[&id].intersection(hit).next().is_some());
            assert!(is_hit && problem.ends_with("no longer JSON"), "{problem}");
        }
        assert_eq!((report.code, verdict.len()), if rotten.is_empty() { (Some(0), 0) } else { (Some(1), 1) });
    }

    fn dead(&self) -> BTreeSet<Uuid> {
        let letters = "SELECT message_id FROM dead_letters WHERE message_id IS NOT NULL";
        let rows = self.stand.home.database().select(letters).into_iter();
        rows.filter_map(|row: Value| row["message_id"].as_str()?.parse().ok()).collect()
    }
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

/// Returns the leaf pages of tables that contain each message, in the database and its WAL. A message that is too long
/// for a leaf page may also be on any overflow page.
fn on_pages(
    files: &BTreeMap<String, Vec<u8>>,
    said: &BTreeMap<Uuid, Saying>,
) -> HashMap<Uuid, BTreeSet<usize>> {
    let mark = |id: &Uuid| <[u8; MARK]>::try_from(&id.to_string().as_bytes()[..MARK]).unwrap();
    let marks: HashMap<_, _> = said.keys().map(|id| (mark(id), *id)).collect();
    let mut lies = HashMap::<_, BTreeSet<usize>>::new();
    let mut nameless = BTreeSet::new();
    let database = files["talktrack.db"].chunks(PAGE).zip(1..).map(|(page, number)| (number, page));
    let log = files["talktrack.db-wal"][LOG_HEADER..].chunks_exact(FRAME);
    let log = log.map(|frame| (usize::from(frame[2]) << 8 | usize::from(frame[3]), &frame[24..]));
    for (number, page) in database.chain(log) {
        match page[0] {
            0 => drop(nameless.insert(number)),
            0x0d => page
                .windows(MARK)
                .filter_map(|bytes| marks.get(bytes))
                .for_each(|id| _ = lies.entry(*id).or_default().insert(number)),
            _ => {}
        }
    }
    let long = said.iter().filter(|(_, saying)| saying.row(Uuid::nil()).content.len() > 3_000);
    long.for_each(|(id, _)| lies.entry(*id).or_default().extend(&nameless));
    lies
}

async fn damage_after_damage(stand: Stand, case: &str) {
    let mut random = cut::random(case);
    let left = Left::behind(stand).await;
    for round in 0..cut::rounds(1, 12) {
        for harm in HARMS {
            // A short run has time for few kinds of damage, mostly to the files that hold messages.
            if round > 0 || random.usize(0..HARMS.len()) < cut::rounds(5, 14) as usize {
                left.suffers(harm, &mut random).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_are_kept_and_told_of_and_cost_only_what_was_on_the_damaged_pages() {
    damage_after_damage(Stand::on_sqlite(), "damage, SQLite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_outboxes_are_kept_and_told_of_and_cost_only_what_was_on_the_damaged_pages() {
    damage_after_damage(Stand::on_postgres().await, "damage, PostgreSQL").await;
}
