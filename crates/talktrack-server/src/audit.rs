//! The audit log: who did what, when, from where, and how it ended, in one file of the data directory that is only appended to.
//! No message text, no metadata, no key, no token, no words that were searched for. It never holds up a caller: entries wait in
//! a bounded queue for a thread of their own, and one that finds no room is counted instead.

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
pub(crate) use file::files;

use crate::config::AuditFiles;
use crate::limits::neighbourhood;
use file::AuditFile;
use recent::Recent;

/// Entries that may wait for the disk.
const WAITING: usize = 10_000;

/// How often the file is synced, if something was written.
const SYNC: Duration = Duration::from_secs(1);

/// The same read, export or refusal, by the same caller from the same address, is written down once in this time.
const REPEATS: Duration = Duration::from_secs(10 * 60);

/// A key's use is written down once in this time for each address.
const KEY_USE: Duration = Duration::from_secs(60 * 60);

/// What is remembered to tell repetitions; of refusals fewer, since anybody can cause them.
const REMEMBERED: usize = 20_000;
const REMEMBERED_REFUSALS: usize = 1_000;

/// How long a stop waits for the last entries.
const FAREWELL: Duration = Duration::from_secs(2);

/// Counts entries that could not be written.
const LOST: &str = "talktrack_audit_entries_lost_total";

/// The audit log of a server. Clones are one.
#[derive(Clone)]
pub(crate) struct Audit(Arc<Shared>);

struct Shared {
    entries: SyncSender<Order>,
    /// Entries that found no room.
    lost: Arc<AtomicU64>,
    recent: Mutex<Recent>,
    refusals: Mutex<Recent>,
}

enum Order {
    Write(Box<Entry>),
    /// Sync, and say so.
    Finish(SyncSender<()>),
}

impl Audit {
    /// Appends to the file of this data directory.
    pub(crate) fn open(data_dir: &Path, kept: AuditFiles) -> Self {
        let (entries, waiting) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        counter!(LOST).absolute(0);
        let (file, also_lost) = (AuditFile::new(data_dir, kept), Arc::clone(&lost));
        let started = thread::Builder::new()
            .name("audit".into())
            .spawn(move || Writer { file, lost: also_lost, unsynced: None }.run(&waiting));
        if let Err(error) = started {
            tracing::error!("there is no audit log, since its thread cannot be started: {error}");
        }
        let recent = |most| Mutex::new(Recent::new(most));
        let (recent, refusals) = (recent(REMEMBERED), recent(REMEMBERED_REFUSALS));
        Self(Arc::new(Shared { entries, lost, recent, refusals }))
    }

    /// Writes down what was done.
    pub(crate) fn record(&self, entry: Entry) {
        if self.0.entries.try_send(Order::Write(Box::new(entry))).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            counter!(LOST).increment(1);
        }
    }

    /// Writes down what is often repeated, such as a page that loads itself again: once in a while.
    pub(crate) fn record_once(&self, entry: Entry) {
        if self.0.recent.lock().is_new(&entry.sameness(), REPEATS) {
            self.record(entry);
        }
    }

    /// A key is used from this address.
    pub(crate) fn key_used(&self, name: &Arc<str>, from: Option<IpAddr>) {
        let from = from.map(neighbourhood);
        if self.0.recent.lock().is_new(&("key.used", name, from), KEY_USE) {
            self.record(Entry::new(Actor::Key(Arc::clone(name)), "key.used", from));
        }
    }

    /// Somebody was not let in. Refusals that are more than can be told apart are counted, and the count stands in the next.
    pub(crate) fn refused_at_the_door(&self, why: &str, from: Option<IpAddr>) {
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

    /// Waits, for a moment at most, until everything written down so far is on the disk.
    pub(crate) async fn finish(&self) {
        let entries = self.0.entries.clone();
        let waited = tokio::task::spawn_blocking(move || {
            let (done, finished) = sync_channel(1);
            if entries.try_send(Order::Finish(done)).is_ok() {
                // After this time the server ends without.
                let _ = finished.recv_timeout(FAREWELL);
            }
        });
        let _ = waited.await;
    }
}

/// The thread that writes.
struct Writer {
    file: AuditFile,
    lost: Arc<AtomicU64>,
    /// Since when something is written that is not synced.
    unsynced: Option<Instant>,
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            match orders.recv_timeout(SYNC) {
                Ok(Order::Write(entry)) => self.write(&entry),
                Ok(Order::Finish(done)) => {
                    self.sync();
                    // The one who asked may have gone.
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

/// Writes down what a command does in this data directory, next to a server that may be running. Nothing is written if there is
/// no such directory.
pub(crate) fn record_command(data_dir: &Path, entry: &Entry) {
    if data_dir.is_dir() && !AuditFile::beside_a_server(data_dir).append(entry) {
        eprintln!("talktrack: the audit log in {} could not be written", data_dir.display());
    }
}
