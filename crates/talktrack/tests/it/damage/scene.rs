//! A data directory to damage, and a record of the pages on which each of its messages lies.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use talktrack::record::Record;
use talktrack::store::ErrorClass;
use talktrack::{
    DATABASE_FILE, Message, MessageId, NewSession, OpenError, Role, SessionId, Tracker, quarantines,
};
use talktrack_testkit::Setup;
use tempfile::TempDir;

use crate::support::{USER, accept, dir, remote, sqlite, store_error, within};

/// The number of leading characters of an id that distinguish one message from another.
const MARK: usize = 8;
const SESSIONS: usize = 30;
const MESSAGES: usize = 600;
const PAGE: u64 = 4096;
/// The size in bytes of the WAL's header, and of the header of each frame.
const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;
/// The offsets in the database's header that hold the version of the schema.
const VERSION: std::ops::Range<u64> = 60..64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum File {
    Database,
    Log,
    Index,
}

impl File {
    pub(crate) fn of(self, data_dir: &Path) -> PathBuf {
        let ending = match self {
            Self::Database => "",
            Self::Log => "-wal",
            Self::Index => "-shm",
        };
        data_dir.join(format!("{DATABASE_FILE}{ending}"))
    }
}

/// What the damage hit.
#[derive(Debug)]
pub(crate) struct Hit {
    pages: BTreeSet<u64>,
    version: bool,
}

/// The files that a shutdown or a kill left.
pub(crate) struct Scene {
    dir: TempDir,
    /// Every acknowledged message: its text, and the pages on which it lies.
    messages: BTreeMap<MessageId, (String, BTreeSet<u64>)>,
    sessions: BTreeSet<SessionId>,
    is_outbox: bool,
}

impl Scene {
    /// Creates the store of a process that shut down cleanly.
    pub(crate) async fn closed() -> Self {
        let live = dir();
        let setup = Setup::sqlite(live.path());
        let tracker = setup.open(setup.options()).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let said = talk(&tracker, &mut random).await;
        within(tracker.shutdown(Duration::from_secs(120))).await.unwrap();
        Self::of(live, said, false)
    }

    /// Creates the store of a process that was killed. Part of the rows exist only in the WAL.
    pub(crate) async fn killed() -> Self {
        let live = dir();
        let image = dir();
        let setup = Setup::sqlite(live.path());
        let tracker = setup.open(setup.options()).unwrap();
        let mut random = fastrand::Rng::with_seed(2);
        let mut said = talk(&tracker, &mut random).await;
        sqlite(live.path()).query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        said.extend(talk(&tracker, &mut random).await);
        said.extend(talk(&tracker, &mut random).await);
        copy(live.path(), image.path());
        Self::of(image, said, false)
    }

    /// Creates the outbox of a process that never reached its store and shut down cleanly.
    pub(crate) async fn outbox() -> Self {
        let live = dir();
        let (setup, store) = remote(&live);
        store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
        let tracker = setup.open(setup.options()).unwrap();
        let mut random = fastrand::Rng::with_seed(3);
        let said = talk(&tracker, &mut random).await;
        within(tracker.shutdown(Duration::from_secs(120))).await.unwrap();
        Self::of(live, said, true)
    }

    fn of(dir: TempDir, said: Vec<(MessageId, Message)>, is_outbox: bool) -> Self {
        let pages = pages(dir.path());
        let sessions = said.iter().map(|(_, message)| message.session_id).collect();
        let mut lies = on_pages(&pages, &said);
        let mut lies = |id| lies.remove(&id).expect("each message lies somewhere");
        let messages = said.into_iter().map(|(id, message)| (id, (message.content, lies(id)))).collect();
        Self { dir, messages, sessions, is_outbox }
    }

    /// Copies the files to a new directory, where a test can damage them.
    pub(crate) fn copy(&self) -> TempDir {
        let broken = dir();
        copy(self.dir.path(), broken.path());
        broken
    }

    /// Returns what lies at these offsets of the file.
    pub(crate) fn hit(&self, file: File, places: &[u64]) -> Hit {
        let log = std::fs::read(File::Log.of(self.dir.path())).unwrap_or_default();
        let page = |place: &u64| match file {
            File::Database => Some(place / PAGE + 1),
            File::Log => {
                let frame = place.checked_sub(LOG_HEADER)? / (FRAME_HEADER + PAGE);
                let at = usize::try_from(LOG_HEADER + frame * (FRAME_HEADER + PAGE)).unwrap();
                Some(u32::from_be_bytes(log[at..at + 4].try_into().unwrap()).into())
            }
            File::Index => None,
        };
        let version = file == File::Database && places.iter().any(|place| VERSION.contains(place));
        Hit { pages: places.iter().filter_map(page).collect(), version }
    }

    /// Opens the damaged directory. Checks that every message outside the damaged pages is there with its text,
    /// that the damaged files are in quarantine if any message is missing, and that the tracker still works.
    pub(crate) async fn judge(&self, broken: &TempDir, hit: &Hit) {
        let before = bytes(broken.path());
        let (setup, store) = remote(broken);
        let setup = if self.is_outbox { setup } else { Setup::sqlite(broken.path()) };
        let tracker = match setup.open(setup.options()) {
            Err(OpenError::NewerSchema { .. }) if hit.version => return,
            opened => opened.unwrap(),
        };
        let kept = quarantines(&File::Database.of(broken.path()));
        if let [kept] = &kept[..] {
            let kept = bytes(kept);
            assert!(
                before.iter().all(|(name, bytes)| name.ends_with("shm") || kept.get(name) == Some(bytes))
            );
        }
        goes_on(&tracker).await;
        let mut found = laid_aside(broken.path());
        for session in &self.sessions {
            let rows = within(tracker.reader().messages(*session, None, 10_000)).await;
            let rows = rows.unwrap_or_else(|error| panic!("{session}: {error}"));
            found.extend(rows.into_iter().map(|row| (row.id, row.content)));
        }
        self.nothing_else_is_lost(&found, hit, kept.is_empty());
        let audit = within(tracker.reader().audit()).await.unwrap();
        assert!(kept.is_empty() || audit.problems.is_empty(), "{:?}", audit.problems);
        drop(store);
    }

    fn nothing_else_is_lost(&self, found: &BTreeMap<MessageId, String>, hit: &Hit, silent: bool) {
        let mut missing = 0;
        for (id, (content, pages)) in &self.messages {
            let harmed = pages.intersection(&hit.pages).next().is_some();
            match found.get(id) {
                Some(stored) => assert!(
                    harmed || stored == content,
                    "{id} is not what was said: it lies on {pages:?}, and {hit:?}"
                ),
                None => {
                    assert!(harmed, "{id} lies on {pages:?}, and {hit:?} cost it");
                    missing += 1;
                }
            }
        }
        assert!(missing == 0 || !silent, "{missing} messages are missing in silence");
        let invented = found.keys().filter(|id| !self.messages.contains_key(id)).count();
        assert!(invented <= missing, "{invented} messages that nobody said");
    }
}

/// Tracks short and long messages in several sessions, and waits until all of them are durable.
async fn talk(tracker: &Tracker, random: &mut fastrand::Rng) -> Vec<(MessageId, Message)> {
    let sessions: Vec<_> = (0..SESSIONS).map(|_| SessionId::from_u128(random.u128(..))).collect();
    for session in &sessions {
        drop(tracker.start_session(NewSession::new(*session, USER)).unwrap());
    }
    let mut said = Vec::new();
    for number in 0..MESSAGES {
        let id = MessageId::from_u128(random.u128(..));
        let repeated = if number % 23 == 0 { random.usize(200..700) } else { random.usize(1..12) };
        let content = format!("{} ", id.as_uuid().simple()).repeat(repeated);
        let session = sessions[random.usize(0..sessions.len())];
        let message = Message::new(session, Role::User, content).with_id(id);
        drop(accept(tracker, message.clone()));
        said.push((id, message));
        if number % 40 == 0 {
            within(tracker.flush()).await.unwrap();
        }
    }
    within(tracker.flush()).await.unwrap();
    said
}

async fn goes_on(tracker: &Tracker) {
    let session = SessionId::from_u128(7);
    within(tracker.start_session(NewSession::new(session, USER)).unwrap().durable()).await.unwrap();
    within(accept(tracker, Message::new(session, Role::User, "fresh"))).await.unwrap();
    within(tracker.flush_to_store()).await.unwrap();
}

/// Returns the messages among the dead letters. They count as found, though their text may be damaged.
/// (If the start of a session is damaged, its messages reach a store that does not know the session.)
fn laid_aside(data_dir: &Path) -> BTreeMap<MessageId, String> {
    let connection = sqlite(data_dir);
    let mut letters =
        connection.prepare("SELECT message_id, body FROM dead_letters WHERE message_id IS NOT NULL").unwrap();
    let ids = letters.query_map([], |row| {
        let record = serde_json::from_slice::<Record>(row.get_ref(1)?.as_bytes()?).ok();
        let content = record.and_then(|record| Some(record.message()?.message.content.clone()));
        Ok((row.get::<_, String>(0)?, content.unwrap_or_default()))
    });
    ids.unwrap().map(Result::unwrap).filter_map(|(id, content)| Some((id.parse().ok()?, content))).collect()
}

/// Returns the pages of the database after all frames of its WAL have been applied.
fn pages(data_dir: &Path) -> Vec<Vec<u8>> {
    let whole = dir();
    copy(data_dir, whole.path());
    let connection = sqlite(whole.path());
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    let bytes = std::fs::read(File::Database.of(whole.path())).unwrap();
    bytes.chunks(4096).map(<[u8]>::to_vec).collect()
}

/// Returns the pages of each message: a leaf page of a table, and overflow pages, which have no type byte.
fn on_pages(pages: &[Vec<u8>], said: &[(MessageId, Message)]) -> BTreeMap<MessageId, BTreeSet<u64>> {
    let mark = |id: &MessageId| {
        <[u8; MARK]>::try_from(&id.as_uuid().simple().to_string().as_bytes()[..MARK]).unwrap()
    };
    let marks: HashMap<_, _> = said.iter().map(|(id, _)| (mark(id), *id)).collect();
    let mut lies = BTreeMap::<_, BTreeSet<u64>>::new();
    for (number, page) in (1..).zip(pages).filter(|(_, page)| matches!(page[0], 0x0d | 0)) {
        let ids = page.windows(MARK).filter_map(|bytes| marks.get(bytes));
        ids.for_each(|id| _ = lies.entry(*id).or_default().insert(number));
    }
    lies
}

fn copy(from: &Path, to: &Path) {
    for file in [File::Database, File::Log, File::Index] {
        let _ = std::fs::copy(file.of(from), file.of(to));
    }
}

fn bytes(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(DATABASE_FILE));
    files
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect()
}
