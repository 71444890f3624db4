//! Damaged data directories: the tracker opens or refuses a damaged directory, and never panics, hangs or
//! gives an unclear error.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use talktrack::store::sqlite::SqliteReader;
use talktrack::store::{ErrorClass, Read, SessionFilter, StoreError};
use talktrack::{DATABASE_FILE, NewSession, OpenError, Options, Tracker};
use talktrack_core::error::ReadError;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::message::{Message, Role};

use crate::memory::MemoryStore;
use crate::trial::within;

const SESSION: SessionId = SessionId::from_u128(0xa9);
const USER: UserId = UserId::from_u128(0xb9);

/// Number of messages that wait in the pristine directory; as many again are in its tables.
const MESSAGES: u128 = 20;

/// More rows than the directory contains.
const ALL: usize = 10_000;

/// The deadline of a shutdown, so that it does not wait longer for a bad disk.
const DEADLINE: Duration = Duration::from_millis(200);

/// The longest time that opening, reading or stopping may take, regardless of the damage.
const LONGEST: Duration = Duration::from_secs(20);

/// The files of a data directory that no process has open.
#[derive(Clone)]
struct Files {
    database: Vec<u8>,
    log: Vec<u8>,
}

/// Builds a small data directory in this empty directory, damages it as these bytes say, and then opens,
/// reads, uses and closes it.
///
/// The first byte selects the files and the store. Then follow changes of six bytes or more: the file (and
/// whether it is cut short), the offset (three bytes), the number of bytes, and the bytes.
///
/// # Panics
/// If the directory is neither opened nor refused with a reason, or if that takes too long.
pub fn open_damaged(damage: &[u8], data_dir: &Path) {
    let (kind, changes) = damage.split_first().map_or((0, damage), |(kind, changes)| (*kind, changes));
    let pristine = pristine();
    let mut files = pristine[usize::from(kind & 1)].clone();
    if kind & 2 > 0 {
        files.log.clear();
    }
    files.damage(changes);
    files.write(data_dir);
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime can be made").block_on(async {
        match open(data_dir, kind & 1 > 0) {
            Err(refused) => {
                let why = refused.to_string();
                assert!(!why.is_empty() && !why.contains('\n'), "not a line: {why:?}");
            }
            Ok(tracker) => use_it(tracker, data_dir).await,
        }
    });
    assert!(began.elapsed() < LONGEST, "took {:?}", began.elapsed());
}

impl Files {
    fn damage(&mut self, mut changes: &[u8]) {
        while let [what, one, two, three, count, rest @ ..] = changes {
            let file = if what & 1 == 0 { &mut self.database } else { &mut self.log };
            let place = u32::from_le_bytes([*one, *two, *three, 0]) as usize % file.len().max(1);
            let (bytes, rest) = rest.split_at(rest.len().min(usize::from(*count)));
            changes = rest;
            if what & 2 > 0 {
                file.truncate(place);
            } else {
                file.iter_mut().skip(place).zip(bytes).for_each(|(old, new)| *old = *new);
            }
        }
    }

    fn write(&self, data_dir: &Path) {
        let write = |name: String, bytes: &[u8]| std::fs::write(data_dir.join(name), bytes);
        write(DATABASE_FILE.to_owned(), &self.database).expect("the directory is ours");
        if !self.log.is_empty() {
            write(format!("{DATABASE_FILE}-wal"), &self.log).expect("the directory is ours");
        }
    }

    fn read(data_dir: &Path) -> Self {
        let read = |name: String| std::fs::read(data_dir.join(name)).expect("the files of a live tracker");
        Self { database: read(DATABASE_FILE.to_owned()), log: read(format!("{DATABASE_FILE}-wal")) }
    }
}

/// Two directories with a session, messages and dead letters, half of them in the file and half in its log:
/// one is the store itself, one the outbox of an unavailable store.
fn pristine() -> &'static [Files; 2] {
    static PRISTINE: OnceLock<[Files; 2]> = OnceLock::new();
    PRISTINE.get_or_init(|| {
        let make = || [false, true].map(|remote| made(&scratch(), remote));
        // A separate thread, because the caller may already run inside a runtime.
        std::thread::spawn(make).join().expect("a data directory can be made")
    })
}

fn scratch() -> std::path::PathBuf {
    let name = format!("talktrack-pristine-{}-{}", std::process::id(), fastrand::u64(..));
    std::env::temp_dir().join(name)
}

fn made(data_dir: &Path, remote: bool) -> Files {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let files = runtime.expect("a runtime can be made").block_on(async {
        let tracker = open(data_dir, remote).expect("an empty directory can be opened");
        fill(&tracker, 0).await;
        within("the shutdown", tracker.shutdown(LONGEST)).await.expect("all is durable");
        drop(tracker);
        let tracker = open(data_dir, remote).expect("the directory can be opened again");
        fill(&tracker, MESSAGES).await;
        Files::read(data_dir)
    });
    std::fs::remove_dir_all(data_dir).expect("the directory is ours");
    files
}

async fn fill(tracker: &Tracker, first: u128) {
    drop(tracker.start_session(NewSession::new(SESSION, USER)).expect("accepted"));
    for number in first..first + MESSAGES {
        let session = if number % 5 == 0 { SessionId::nil() } else { SESSION };
        let id = Some(MessageId::from_u128(0x1000 + number));
        let message = Message::new(session, Role::User, format!("message {number}")).with_id(id);
        drop(tracker.track_message(message).expect("accepted"));
    }
    within("all of it", tracker.flush()).await.expect("durable");
}

fn open(data_dir: &Path, remote: bool) -> Result<Tracker, OpenError> {
    let options = Options::new(data_dir);
    if !remote {
        return Tracker::open(options);
    }
    let store = MemoryStore::new();
    store.fail_when(|_| Some(StoreError::new(ErrorClass::Transient, "away")));
    Tracker::open_with_store(options, Arc::new(store))
}

/// Reads everything and tracks a message; each call must answer or refuse. Then stops, cleanly or not.
async fn use_it(tracker: Tracker, data_dir: &Path) {
    // Errors are as good as rows: it is enough that there is an answer.
    drop(within("reading", read_all(&*tracker.reader())).await);
    if let Ok(reader) = SqliteReader::open(&data_dir.join(DATABASE_FILE)) {
        drop(within("reading the file", read_all(&reader)).await);
        drop(within("reading the letters", reader.dead_letters().list(None, ALL)).await);
    }
    drop(tracker.start_session(NewSession::new(SESSION, USER)));
    if let Ok(receipt) = tracker.track_message(Message::new(SESSION, Role::User, "still there?")) {
        // If the journal cannot be written, the message waits for a better disk.
        drop(tokio::time::timeout(DEADLINE, receipt.durable()).await);
    }
    let _ = within("the shutdown", tracker.shutdown(DEADLINE)).await;
}

async fn read_all(reader: &dyn Read) -> Result<(), ReadError> {
    for session in reader.sessions(SessionFilter::default(), None, ALL).await? {
        reader.messages(session.session_id, None, ALL).await?;
    }
    reader.messages(SESSION, None, ALL).await?;
    reader.audit().await.map(drop)
}
