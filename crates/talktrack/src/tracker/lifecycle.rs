//! The life cycle of a tracker: how it opens, which threads it runs, and how it stops without losing what it accepted.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::{Condvar, Mutex};
use talktrack_core::books::Books;
use talktrack_core::error::NotDurable;
use talktrack_core::record::Status;

use crate::error::OpenError;
use crate::event_log;
use crate::health::HealthState;
use crate::journal::{Journal, Purpose, Shared};
use crate::local::database;
use crate::local::lock::Lock;
use crate::local::watched_files::{self, WatchedFiles};
use crate::metric_handles::MetricHandles;
use crate::options::Options;
use crate::permissions::{self, tighten_data_directory};
use crate::projections::{self, ScheduledProjection};
use crate::queue::Queue;
use crate::receipt::Progress;
use crate::session::Registry;
use crate::store::absent::AbsentStore;
use crate::store::sqlite::SqliteReader;
use crate::store::{Read, Store};
use crate::tracker::outbox::OutboxStore;
use crate::tracker::{Inner, Tracker};

/// The threads of a tracker. They end when the last clone of the tracker is dropped.
pub(super) struct Threads {
    inner: Arc<Inner>,
    /// The thread returns the journal when the queue is closed and empty.
    journal: Mutex<Option<JoinHandle<Journal>>>,
    /// All other threads.
    others: Mutex<Vec<JoinHandle<()>>>,
    sweeper: Arc<Sweeper>,
    /// Held until the threads have ended.
    locks: Mutex<Vec<Lock>>,
}

impl Tracker {
    /// Locks the data directory, migrates its database file and starts the threads. The SQLite file is the store.
    ///
    /// # Errors
    /// An [`OpenError`] if another process has locked the directory or the file cannot be opened.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        Self::open_with_or_without_store(options, None)
    }

    /// Opens a tracker with a remote store. The SQLite file is the outbox of that store. The store need not be
    /// reachable yet.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_store(options: Options, store: Arc<dyn Store>) -> Result<Self, OpenError> {
        Self::open_with_or_without_store(options, Some(store))
    }

    fn open_with_or_without_store(
        options: Options,
        store: Option<Arc<dyn Store>>,
    ) -> Result<Self, OpenError> {
        let locks = lock_data_dir(&options)?;
        let path = options.database_file();
        prepare_data_dir(&options, &path)?;
        let shared = Shared {
            progress: Progress::new(),
            health: HealthState::new(Books::default()),
            metrics: MetricHandles::new(),
            reopened: Arc::default(),
            give_up: Arc::default(),
        };
        let address = store.as_ref().map(|store| store.address());
        let purpose = Purpose { remote: address.as_deref(), redirect: options.redirect };
        let mut journal = Journal::open(&path, shared.clone(), purpose)?;
        let absent = absent_store(store.is_some(), &journal);
        let is_absent = absent.is_some();
        let store = store.or(absent);
        let files = record_files(&options, &path, &locks)?;
        journal.watch_files(&files);
        let accepted = shared.health.snapshot().books.durable;
        let queue = Queue::new(options.queue_capacity, options.queue_bytes, journal.last_seq(), accepted);
        let reader = match &store {
            Some(store) => Arc::clone(store) as Arc<dyn Read>,
            None => Arc::new(open_reader(&path)?),
        };
        let registry = Registry::default();
        let queue = Arc::new(queue);
        let closing = AtomicBool::new(false);
        let outbox = match &store {
            Some(store) => {
                let waiting = open_reader(&path)?.outbox();
                Some(OutboxStore { claim: journal.claim(&options, store), journal: waiting, is_absent })
            }
            None => None,
        };
        let inner = Arc::new(Inner { registry, queue, shared, reader, outbox, options, closing });
        let threads = Arc::new(Threads {
            inner: Arc::clone(&inner),
            journal: Mutex::default(),
            others: Mutex::default(),
            sweeper: Arc::default(),
            locks: Mutex::new(locks),
        });
        if let Some(OutboxStore { claim, .. }) = &inner.outbox {
            let queue = Arc::clone(&inner.queue);
            let fed = journal.start_delivery(claim, &inner.options, move || queue.wake());
            fed.map_err(|source| OpenError::Io { path: path.clone(), source })?;
        }
        let projections = projections::enabled_projections(&path, store.as_ref(), &inner.options);
        threads.start(journal, files, projections).map_err(|source| OpenError::Io { path, source })?;
        Ok(Self { inner, threads })
    }

    /// Waits until everything accepted so far is durable.
    ///
    /// # Errors
    /// [`NotDurable::Stopped`] if the tracker stopped first.
    pub async fn flush(&self) -> Result<(), NotDurable> {
        if self.inner.queue.is_forked() {
            return Err(NotDurable::Stopped);
        }
        match self.inner.shared.progress.watch().wait(self.inner.queue.last_seq()).await {
            Err(NotDurable::Stopped) => Err(NotDurable::Stopped),
            // The last record was refused after acceptance. Like everything before it, it has its answer.
            _ => Ok(()),
        }
    }

    /// Waits until everything accepted so far is stored, or is a dead letter. What is accepted during the wait is not
    /// waited for.
    ///
    /// # Errors
    /// [`NotDurable::Stopped`] if the tracker stopped first.
    pub async fn flush_to_store(&self) -> Result<(), NotDurable> {
        if self.inner.queue.is_forked() {
            return Err(NotDurable::Stopped);
        }
        let accepted = self.inner.queue.last_seq();
        self.flush().await?;
        let health = &self.inner.shared.health;
        // With SQLite as the store, what is durable is stored.
        if !health.is_outbox() {
            return Ok(());
        }
        let mut watermark = health.watch_store_watermark();
        // The journal looks only while a caller watches, so it has to look once more.
        self.inner.queue.wake();
        let mut progress = self.inner.shared.progress.watch();
        let reached = pin!(watermark.wait_for(|up_to| *up_to >= accepted));
        let stopped = pin!(progress.stopped());
        match select(reached, stopped).await {
            Either::Left((Ok(_), _)) => Ok(()),
            _ if health.books().journal_bytes == 0 => Ok(()),
            _ => Err(NotDurable::Stopped),
        }
    }

    /// Refuses new work, ends the open sessions (reason `shutdown`), and waits until everything accepted is durable.
    ///
    /// # Errors
    /// [`NotDurable::Stopped`] if that takes longer than `deadline`: what is not durable by then is lost, and every
    /// receipt says so.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), NotDurable> {
        if self.inner.queue.is_forked() {
            return Err(NotDurable::Stopped);
        }
        let until = tokio::time::Instant::now() + deadline;
        self.refuse_new_work();
        // A message in flight may reopen its session. The session then ends with the others.
        let _ = tokio::time::timeout_at(until, self.flush()).await;
        self.begin_close();
        let written = tokio::time::timeout_at(until, self.inner.shared.progress.watch().stopped()).await;
        self.inner.shared.give_up.store(true, Ordering::Release);
        let threads = Arc::clone(&self.threads);
        let joined = tokio::task::spawn_blocking(move || threads.join()).await;
        if written.is_err() || joined.is_err() { Err(NotDurable::Stopped) } else { Ok(()) }
    }

    fn begin_close(&self) {
        self.inner.closing.store(true, Ordering::Relaxed);
        // A message may have reopened a session since the last sweep.
        self.inner.restore_reopened(self.inner.now());
        for session in self.inner.registry.open_claims() {
            let _ = self.inner.infer_end(&session, Status::Ended, "shutdown", |_, now| Some(now));
        }
        self.inner.queue.close();
        self.threads.sweeper.stop();
    }

    /// Refuses every further message with [`crate::Reason::ShuttingDown`]. What was already accepted is still
    /// written.
    pub fn refuse_new_work(&self) {
        self.inner.closing.store(true, Ordering::Relaxed);
    }
}

impl Threads {
    fn start(
        &self,
        journal: Journal,
        files: Arc<WatchedFiles>,
        projections: Vec<ScheduledProjection>,
    ) -> io::Result<()> {
        let inner = Arc::clone(&self.inner);
        let run = move || {
            let journal = inner.queue.run(journal, &inner.shared.metrics);
            inner.shared.progress.stop();
            journal
        };
        let journal = std::thread::Builder::new().name("talktrack-journal".into()).spawn(run)?;
        *self.journal.lock() = Some(journal);
        let sweeper = Arc::clone(&self.sweeper);
        let inner = Arc::clone(&self.inner);
        let pause = inner.options.grace_period.min(inner.options.idle_timeout) / 4;
        let pause = pause.clamp(Duration::from_millis(20), Duration::from_secs(1));
        let run = move || {
            while sweeper.pause(pause) {
                inner.sweep();
                inner.check_files(&files);
            }
        };
        let sweeper = std::thread::Builder::new().name("talktrack-sweeper".into()).spawn(run)?;
        self.others.lock().push(sweeper);
        if !projections.is_empty() {
            let sweeper = Arc::clone(&self.sweeper);
            let health = Arc::clone(&self.inner.shared.health);
            let run = move || {
                if let Err(error) = projections::run(projections, &health, |pause| sweeper.pause(pause)) {
                    tracing::warn!(
                        "search and stats: new messages are neither indexed nor counted until a restart: {error}"
                    );
                }
            };
            let projections = std::thread::Builder::new().name("talktrack-proj".into()).spawn(run)?;
            self.others.lock().push(projections);
        }
        Ok(())
    }

    fn join(&self) {
        let others = std::mem::take(&mut *self.others.lock());
        let journal = self.journal.lock().take();
        if self.inner.queue.is_forked() {
            // The threads belong to the parent process: this process can neither join them nor drop their handles.
            std::mem::forget((others, journal));
        } else {
            others.into_iter().for_each(|thread| drop(thread.join()));
            // The threads that read the file have ended by now.
            if let Some(Ok(journal)) = journal.map(JoinHandle::join) {
                journal.close();
            }
        }
        self.locks.lock().clear();
    }
}

/// Dropping the tracker writes everything it accepted, however long that takes. [`Tracker::shutdown`] has a deadline.
impl Drop for Threads {
    fn drop(&mut self) {
        if !self.inner.queue.is_forked() {
            self.inner.queue.close();
            self.sweeper.stop();
        }
        self.join();
    }
}

/// Paces the background threads and stops them.
#[derive(Debug, Default)]
struct Sweeper {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Sweeper {
    /// Waits for `pause`. Returns false if the sweeper was stopped before or during the wait.
    fn pause(&self, pause: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            self.changed.wait_for(&mut stopped, pause);
        }
        !*stopped
    }

    fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }
}

impl Inner {
    /// Stops the intake while a file that the journal has open is not the file at its path any more. The sweeper calls
    /// this even if nothing is committed.
    fn check_files(&self, files: &WatchedFiles) {
        let problem = files.check().err();
        if self.shared.health.set_files_problem(problem.clone()) {
            match problem {
                Some(problem) => event_log::log_failure(&problem),
                None => {
                    tracing::info!("the files of the data directory are back; messages are accepted again")
                }
            }
        }
    }
}

/// Locks the data directory. If the database file is really in another directory, locks that one as well.
fn lock_data_dir(options: &Options) -> Result<Vec<Lock>, OpenError> {
    let now = options.clock.now();
    let mut locks = vec![Lock::acquire(&options.data_dir, now)?];
    let file = options.database_file();
    // A symbolic link may lead to a file in another data directory.
    let file = file.canonicalize().unwrap_or(file);
    let same = |dir: &Path| dir.canonicalize().ok() == options.data_dir.canonicalize().ok();
    if let Some(dir) = file.parent().filter(|dir| !same(dir)) {
        locks.push(Lock::acquire(dir, now)?);
    }
    Ok(locks)
}

/// Restricts the data directory to its owner, and refuses a database file that another directory may contain as well.
fn prepare_data_dir(options: &Options, file: &Path) -> Result<(), OpenError> {
    let open = tighten_data_directory(&options.data_dir);
    open.iter().for_each(|problem| tracing::warn!("{problem}"));
    if options.database_file.is_some() {
        for suffix in ["", "-wal", "-shm", "-reserve"] {
            let beside = database::sibling_path(file, suffix);
            match permissions::tighten(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(
                        "other users may read {}, and its mode cannot be changed: {error}",
                        beside.display()
                    );
                }
                _ => {}
            }
        }
    }
    watched_files::refuse_unusable_file(file)
}

/// Records the identity of the files and directories that the journal depends on. Call it when the files are open.
fn record_files(options: &Options, file: &Path, locks: &[Lock]) -> Result<Arc<WatchedFiles>, OpenError> {
    let held = locks.iter().map(Lock::held).collect::<io::Result<_>>();
    let files = held.and_then(|held| WatchedFiles::record(&options.data_dir, file, held));
    files.map(Arc::new).map_err(|source| OpenError::Io { path: options.data_dir.clone(), source })
}

/// Returns a placeholder for the remote store if the data directory is an outbox and the tracker was opened without
/// that store.
fn absent_store(is_named: bool, journal: &Journal) -> Option<Arc<dyn Store>> {
    let noted = journal.noted().filter(|_| !is_named)?;
    Some(Arc::new(AbsentStore::new(&noted.missing_address_message())))
}

fn open_reader(path: &Path) -> Result<SqliteReader, OpenError> {
    SqliteReader::open(path)
        .map_err(|error| OpenError::Io { path: path.to_owned(), source: io::Error::other(error) })
}
