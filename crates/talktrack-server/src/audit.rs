//! The audit log: who did what, when, from which address, and with what outcome, in one append-only file of the data
//! directory. It contains no message text, metadata, keys, tokens or search terms. It never delays a caller: entries
//! wait in a bounded queue for a separate thread, and an entry that finds the queue full is only counted.

mod entry;
mod file;
mod recent;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use metrics::counter;
use parking_lot::Mutex;

pub(crate) use entry::{Actor, Entry};
pub(crate) use file::audit_files;

use file::AuditFile;
use recent::Recent;

use crate::config::AuditFiles;
use crate::limits::neighbourhood;

/// The maximum number of entries that wait for the disk.
const WAITING: usize = 10_000;

/// How often the file is synced if something was written.
const SYNC: Duration = Duration::from_secs(1);

/// A repeated read, export or refusal by the same caller from the same address is logged once in this time.
const REPEATS: Duration = Duration::from_secs(10 * 60);

/// The use of a key is logged once in this time for each address.
const KEY_USE: Duration = Duration::from_secs(60 * 60);

/// How many entries are remembered to detect repetitions. Fewer refusals are remembered, because anyone can cause them.
const REMEMBERED: usize = 20_000;
const REMEMBERED_REFUSALS: usize = 1_000;

/// How long the shutdown waits for the last entries.
const FAREWELL: Duration = Duration::from_secs(2);

/// The counter of entries that could not be written.
const LOST: &str = "talktrack_audit_entries_lost_total";

/// The audit log of a server. Cheap to clone; all clones write to the same log.
#[derive(Clone)]
pub(crate) struct Audit(Arc<AuditInner>);

struct AuditInner {
    entries: SyncSender<AuditCommand>,
    /// The number of entries that found the queue full.
    lost: Arc<AtomicU64>,
    recent: Mutex<Recent>,
    refusals: Mutex<Recent>,
}

enum AuditCommand {
    Write(Box<Entry>),
    /// Sync the file and send a message when that is done.
    Finish(SyncSender<()>),
}

impl Audit {
    /// Opens the audit log in this data directory, and starts the thread that writes it.
    pub(crate) fn open(data_dir: &Path, kept: AuditFiles) -> Self {
        let (entries, waiting) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        counter!(LOST).absolute(0);
        let file = AuditFile::new(data_dir, kept);
        let also_lost = Arc::clone(&lost);
        let started = thread::Builder::new()
            .name("audit".into())
            .spawn(move || AuditWriter { file, lost: also_lost, unsynced: None }.run(&waiting));
        if let Err(error) = started {
            tracing::error!("there is no audit log, because its thread cannot be started: {error}");
        }
        let recent = |most| Mutex::new(Recent::new(most));
        let (recent, refusals) = (recent(REMEMBERED), recent(REMEMBERED_REFUSALS));
        Self(Arc::new(AuditInner { entries, lost, recent, refusals }))
    }

    /// Queues an entry. If the queue is full, the entry is lost and counted.
    pub(crate) fn record(&self, entry: Entry) {
        if self.0.entries.try_send(AuditCommand::Write(Box::new(entry))).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            counter!(LOST).increment(1);
        }
    }

    /// Queues an entry unless the same one was logged within [`REPEATS`]. For frequent actions, such as a page that
    /// reloads itself.
    pub(crate) fn record_once(&self, entry: Entry) {
        if self.0.recent.lock().is_new(&entry.sameness(), REPEATS) {
            self.record(entry);
        }
    }

    /// Logs that a key is used from this address, once within [`KEY_USE`].
    pub(crate) fn record_key_use(&self, name: &Arc<str>, from: Option<IpAddr>) {
        let from = from.map(neighbourhood);
        if self.0.recent.lock().is_new(&("key.used", name, from), KEY_USE) {
            self.record(Entry::new(Actor::Key(Arc::clone(name)), "key.used", from));
        }
    }

    /// Logs that authentication was refused, once within [`REPEATS`] for each reason and address. If there are too many
    /// to remember, further ones are only counted, and the next entry contains the count.
    pub(crate) fn record_refusal(&self, why: &str, from: Option<IpAddr>) {
        let from = from.map(neighbourhood);
        let (is_new, others) = {
            let mut refusals = self.0.refusals.lock();
            let is_new = refusals.is_new(&(why, from), REPEATS);
            (is_new, if is_new { refusals.take_overflow() } else { 0 })
        };
        if is_new {
            let entry = Entry::new(Actor::Unknown, "refused", from).outcome("refused").reason(why);
            self.record(if others > 0 { entry.count(others) } else { entry });
        }
    }

    /// Waits up to [`FAREWELL`] until all entries logged so far are on the disk.
    pub(crate) async fn finish(&self) {
        let entries = self.0.entries.clone();
        let waited = tokio::task::spawn_blocking(move || {
            let (done, finished) = sync_channel(1);
            if entries.try_send(AuditCommand::Finish(done)).is_ok() {
                // On a timeout, the server ends without waiting any longer.
                let _ = finished.recv_timeout(FAREWELL);
            }
        });
        let _ = waited.await;
    }
}

/// The thread that writes the log.
struct AuditWriter {
    file: AuditFile,
    lost: Arc<AtomicU64>,
    /// Since when the file has had unsynced entries.
    unsynced: Option<Instant>,
}

impl AuditWriter {
    fn run(mut self, orders: &Receiver<AuditCommand>) {
        loop {
            match orders.recv_timeout(SYNC) {
                Ok(AuditCommand::Write(entry)) => self.write(&entry),
                Ok(AuditCommand::Finish(done)) => {
                    self.sync();
                    // The waiting task may have given up, so an error is ignored.
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => self.sync(),
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            }
            if self.unsynced.is_some_and(|since| since.elapsed() >= SYNC) {
                self.sync();
            }
        }
    }

    fn write(&mut self, entry: &Entry) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && !self.file.append(&Entry::new(Actor::Server, "audit.lost", None).count(lost)) {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
        if self.file.append(entry) {
            self.unsynced.get_or_insert_with(Instant::now);
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
            counter!(LOST).increment(1);
        }
    }

    fn sync(&mut self) {
        if self.unsynced.take().is_some() {
            self.file.sync();
        }
    }
}

/// Logs what a command does in this data directory, possibly while a server is running. Does nothing if the directory
/// does not exist.
pub(crate) fn record_command(data_dir: &Path, entry: &Entry) {
    if data_dir.is_dir() && !AuditFile::beside_a_server(data_dir).append(entry) {
        eprintln!("talktrack: the audit log in {} could not be written", data_dir.display());
    }
}
