//! Case 15: mixed load and random faults for a chosen time. Memory and file descriptors must not grow.
//!
//! `make soak MINUTES=60` runs it for an hour, over SQLite and PostgreSQL at the same time; `make test` runs it for a
//! few seconds. It prints each fault, and the books at the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use talktrack_testbed::{Database, Postgres};
use tokio::time::sleep;

use super::cut;
use super::judge::judge;
use super::stand::{Remote, Stand};
use super::talkers::Manner;
use crate::harness::{Server, until_within};

/// The longest duration of a fault in milliseconds.
const LONGEST_MS: u64 = 1_500;
/// Faults between two pauses.
const FAULTS: usize = 4;
/// The approximate number of messages for any duration, because the judge holds all of them in memory.
const MESSAGES: u32 = 200_000;
const TALKERS: u16 = 4;
/// How much more memory a process may hold at a pause than at its first one: SQLite's page cache fills up to 32 MiB.
const MORE_KIB: u64 = 44 << 10;
const MORE_DESCRIPTORS: usize = 12;

/// A fault of the server or of something that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Killed,
    Stopped,
    Frozen,
    DiskHangs,
    NetworkCut,
    NetworkCutMidway,
    NetworkHangs,
    NetworkSlow,
    DatabaseCrashes,
    DatabaseReadOnly,
    ColumnDropped,
}

/// Faults of the process and its own disk.
const AT_HOME: [Fault; 2] = [Fault::Frozen, Fault::DiskHangs];
/// Faults of a remote store.
const FAR_AWAY: [Fault; 7] = [
    Fault::NetworkCut,
    Fault::NetworkCutMidway,
    Fault::NetworkHangs,
    Fault::NetworkSlow,
    Fault::DatabaseCrashes,
    Fault::DatabaseReadOnly,
    Fault::ColumnDropped,
];

/// The resources of a process while no client is connected and everything was delivered.
#[derive(Debug, Clone, Copy)]
struct Holding {
    kib: u64,
    descriptors: usize,
}

impl Holding {
    fn of(server: &Server) -> Self {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
        Self { kib: server.resident_kib(), descriptors }
    }
}

struct Soak {
    name: &'static str,
    // Declared before the cluster, and so dropped first: dropping it drops its database from the cluster.
    stand: Stand,
    cluster: Option<Postgres>,
    server: Server,
    /// The resources of this process at its first pause.
    first_rest: Option<Holding>,
    random: fastrand::Rng,
    done: BTreeMap<Fault, u32>,
    began: Instant,
}

impl Soak {
    async fn on(name: &'static str, stand: Stand, cluster: Option<Postgres>) -> Self {
        let server = stand.serve(&[]).await;
        let random = cut::random(name);
        Self {
            name,
            stand,
            cluster,
            server,
            first_rest: None,
            random,
            done: BTreeMap::new(),
            began: Instant::now(),
        }
    }

    async fn run(mut self, duration: Duration) {
        let pause = (duration * u32::from(TALKERS) / MESSAGES).max(Duration::from_millis(1));
        let manner = Manner { talkers: TALKERS.into(), ahead: 20, pause, per_session: 300 };
        while self.began.elapsed() < duration {
            let talkers = self.stand.talk(manner);
            self.stand.oracle.hears(1).await;
            for _ in 0..FAULTS {
                self.suffer().await;
            }
            if self.random.u8(0..10) == 0 {
                self.another_process().await;
            }
            talkers.fall_silent().await;
            self.rest().await;
        }
        eprintln!("{}: what was done: {:?}", self.name, self.done);
        judge(&self.stand, &self.server).await.without_dead_letters();
        let books = match self.stand.remote() {
            Some(remote) => self.stand.home.look_at(&remote.database.url(), &["verify"]).await,
            None => self.stand.home.look(&["verify"]).await,
        };
        eprintln!("{}", books.succeeded().stdout);
        self.stand.stop(self.server).await;
    }

    /// Causes a random fault for a random time and repairs it.
    async fn suffer(&mut self) {
        let far_away = if self.stand.remote().is_some() { &FAR_AWAY[..] } else { &[] };
        let faults = [&AT_HOME, far_away].concat();
        let fault = faults[self.random.usize(..faults.len())];
        let lasts = Duration::from_millis(self.random.u64(0..LONGEST_MS));
        self.note(fault, lasts);
        match fault {
            Fault::Frozen => {
                self.server.signal(Signal::SIGSTOP);
                sleep(lasts).await;
                self.server.signal(Signal::SIGCONT);
            }
            Fault::DiskHangs => {
                let _blocked = self.stand.home.database().block();
                sleep(lasts).await;
            }
            Fault::DatabaseCrashes => {
                let cluster = self.cluster.as_mut().expect("a cluster of its own");
                cluster.stop();
                sleep(lasts).await;
                cluster.start_again();
            }
            _ => {
                far_away_for(self.stand.remote().expect("a remote store"), fault, lasts, &mut self.random)
                    .await
            }
        }
        self.goes_on().await;
    }

    /// Waits until acknowledgements arrive and the store has almost caught up.
    async fn goes_on(&self) {
        self.stand.oracle.hears(1).await;
        let caught_up = async || {
            let up = self.server.metric("talktrack_store_up").await;
            let pending = self.server.metric("talktrack_journal_pending").await;
            (up == 1.0 && pending < 1_000.0).then_some(())
        };
        until_within(super::PATIENCE, "the store takes everything again", caught_up).await;
    }

    /// Kills or stops the process under load and starts another one.
    async fn another_process(&mut self) {
        let fault = if self.random.bool() { Fault::Killed } else { Fault::Stopped };
        self.note(fault, Duration::ZERO);
        let (signal, code) =
            if fault == Fault::Killed { (Signal::SIGKILL, None) } else { (Signal::SIGTERM, Some(0)) };
        assert_eq!(self.stand.ends(&mut self.server, signal).await, code);
        self.server = self.stand.serve(&[]).await;
        self.first_rest = None;
        self.stand.oracle.hears(1).await;
    }

    /// Asserts that the process, without clients and with everything delivered, holds no more resources than at its
    /// first pause.
    async fn rest(&mut self) {
        self.stand.drained(&self.server).await;
        self.server.shows("talktrack_ws_connections", 0.0).await;
        let now = Holding::of(&self.server);
        let first = *self.first_rest.get_or_insert(now);
        let at = self.began.elapsed().as_secs();
        let heard = self.stand.oracle.count();
        eprintln!(
            "{} {at:>5} s: {heard} acknowledged; at rest {} KiB, {} descriptors",
            self.name, now.kib, now.descriptors
        );
        assert!(now.kib <= first.kib + MORE_KIB, "memory grows: {first:?}, then {now:?}");
        assert!(
            now.descriptors <= first.descriptors + MORE_DESCRIPTORS,
            "descriptors leak: {first:?}, then {now:?}"
        );
    }

    fn note(&mut self, fault: Fault, lasts: Duration) {
        *self.done.entry(fault).or_default() += 1;
        eprintln!("{} {:>5} s: {fault:?} for {lasts:?}", self.name, self.began.elapsed().as_secs());
    }
}

/// Causes a fault of the store or of the network to it, and repairs it after this time.
async fn far_away_for(remote: &Remote, fault: Fault, lasts: Duration, random: &mut fastrand::Rng) {
    let Remote { database, proxy, .. } = remote;
    match fault {
        Fault::NetworkCut => proxy.cut(),
        Fault::NetworkCutMidway => proxy.cut_after(random.usize(1_000..100_000)),
        Fault::NetworkHangs => proxy.hang(),
        Fault::NetworkSlow => proxy.delay(Duration::from_millis(random.u64(1..100))),
        Fault::DatabaseReadOnly => read_only(database, true),
        Fault::ColumnDropped => {
            drop(database.psql("ALTER TABLE conversation_messages DROP COLUMN audio_url"))
        }
        other => unreachable!("{other:?} is not far away"),
    }
    sleep(lasts).await;
    match fault {
        Fault::NetworkSlow => proxy.delay(Duration::ZERO),
        Fault::DatabaseReadOnly => read_only(database, false),
        Fault::ColumnDropped => {
            drop(database.psql("ALTER TABLE conversation_messages ADD COLUMN audio_url text"));
        }
        _ => proxy.fix(),
    }
}

/// Makes the database read-only or writable. Ends all connections, because the setting applies only to new ones.
fn read_only(database: &Database, on: bool) {
    let name = database.name();
    database.psql(&format!(
        "SET default_transaction_read_only = off; ALTER DATABASE {name} SET default_transaction_read_only = {on}; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ));
}

/// Returns the requested duration; without a request, a few seconds, or minutes if all faults are run in full.
fn duration() -> Duration {
    match cut::number_from("TALKTRACK_SOAK_MINUTES") {
        Some(minutes) => Duration::from_secs(60 * minutes),
        None => Duration::from_secs(cut::rounds(4, 240).into()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_for_however_long_memory_and_descriptors_stay_flat_with_sqlite() {
    Soak::on("soak, SQLite", Stand::on_sqlite(), None).await.run(duration()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_for_however_long_memory_and_descriptors_stay_flat_with_postgresql() {
    let cluster = Postgres::start();
    let stand = Stand::on_remote(Remote::on(&cluster).await);
    Soak::on("soak, PostgreSQL", stand, Some(cluster)).await.run(duration()).await;
}
