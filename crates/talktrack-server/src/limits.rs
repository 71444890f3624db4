//! How much one caller and one address may ask, and how many connections there may be. What is over a limit is told so, and
//! when to come again; nobody else notices.

mod address;
mod connections;
mod counts;
mod rate;
mod reading;

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use uuid::Uuid;

pub(crate) use address::neighbourhood;
pub(crate) use connections::{Admitted, Connections, Place};

use crate::config::{Config, Network};
use crate::error::Problem;
pub(crate) use counts::CountedPlace;
use counts::Counts;
use rate::Rates;
use reading::ReadRates;
pub(crate) use reading::Reading;

/// How often what nobody asks for any more is forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// So many seconds' bytes may come at once: an array of messages is one body.
const BURST_SECONDS: u32 = 8;

/// So long a reader may read on as fast as it can.
const READ_BURST: Duration = Duration::from_secs(4);

/// Bytes of requests' bodies that are in memory at once, whoever they are from.
const BODY_BYTES: usize = 128 << 20;

/// Counted for each limit that was met.
pub(crate) const LIMITED: &str = "talktrack_limited_total";

/// Where a request comes from, seen through the proxies that are trusted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// True if the client speaks TLS to a proxy that is trusted. The server itself speaks none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OverTls(pub(crate) bool);

/// On whose account a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Account {
    /// An API key, by its name.
    Key(Arc<str>),
    /// A user, whatever token they come with.
    User(Uuid),
}

/// All limits. Clones are one.
#[derive(Clone)]
pub(crate) struct Limits(Arc<Shared>);

struct Shared {
    keys: Option<Rates<Account>>,
    users: Option<Rates<Account>>,
    /// In KiB.
    user_bytes: Option<Rates<Account>>,
    /// What users read.
    user_reads: Option<ReadRates<Account>>,
    exports: Counts<Account>,
    exports_per_user: Option<usize>,
    exports_per_key: Option<usize>,
    /// Pieces of exports that are made at once.
    export_turns: Semaphore,
    strangers: Option<Rates<IpAddr>>,
    /// Bytes of the dead letters of each user who has any.
    dead_letters: Mutex<HashMap<Uuid, u64>>,
    dead_letters_per_user: Option<u64>,
    /// WebSockets and listeners of users.
    connections: Counts<Account>,
    connections_per_user: Option<usize>,
    addresses: Option<Rates<IpAddr>>,
    trusted_proxies: Vec<Network>,
    bodies: Arc<Semaphore>,
}

/// What the frames of one connection count against.
pub(crate) struct Meter {
    limits: Limits,
    address: Option<IpAddr>,
    account: Option<Account>,
}

/// A limit is met; in so many seconds there is room again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    what: &'static str,
    seconds: u32,
}

/// The right to some bytes of memory.
pub(crate) type Room = OwnedSemaphorePermit;

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        let limits = &config.caller_limits;
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self(Arc::new(Shared {
            keys: limits.per_key.map(Rates::new),
            users: limits.per_user.map(Rates::new),
            user_bytes: limits.kib_per_user.map(|rate| Rates::with_burst(rate, BURST_SECONDS)),
            user_reads: limits.kib_read_per_user.map(|rate| ReadRates::new(rate, READ_BURST)),
            exports: Counts::default(),
            exports_per_user: limits.exports_per_user,
            exports_per_key: limits.exports_per_key,
            export_turns: Semaphore::new(processors.div_ceil(2)),
            strangers: limits.unauthenticated.map(Rates::new),
            dead_letters: Mutex::default(),
            dead_letters_per_user: limits.dead_letter_bytes_per_user,
            connections: Counts::default(),
            connections_per_user: limits.connections_per_user,
            addresses: limits.per_address.map(Rates::new),
            trusted_proxies: config.trusted_proxies.clone(),
            bodies: Arc::new(Semaphore::new(BODY_BYTES.max(config.max_body_bytes))),
        }))
    }

    /// Where a request comes from that came over a connection from `peer`.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        address::client(peer, headers, &self.0.trusted_proxies)
    }

    /// True if a request that came over a connection from `peer` left its client over TLS: a trusted proxy says so.
    pub(crate) fn is_over_tls(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        address::is_over_tls(peer, headers, &self.0.trusted_proxies)
    }

    /// Takes one request, or frame, of this address.
    ///
    /// # Errors
    /// Where it has asked for too much.
    pub(crate) fn take_from_address(&self, address: IpAddr) -> Result<(), Wait> {
        match &self.0.addresses {
            Some(rates) => {
                rates.take(&neighbourhood(address)).map_err(|seconds| Wait::met("address", seconds))
            }
            None => Ok(()),
        }
    }

    /// Takes one request, or frame, on this account.
    ///
    /// # Errors
    /// Where it has asked for too much.
    pub(crate) fn take_from(&self, account: Option<&Account>) -> Result<(), Wait> {
        let Some(account) = account else { return Ok(()) };
        let (rates, what) = match account {
            Account::Key(_) => (&self.0.keys, "key"),
            Account::User(_) => (&self.0.users, "user"),
        };
        rates.as_ref().map_or(Ok(()), |rates| rates.take(account).map_err(|seconds| Wait::met(what, seconds)))
    }

    /// Takes so many bytes of a body or frame on this account.
    ///
    /// # Errors
    /// If a user has sent too much.
    pub(crate) fn take_bytes(&self, account: Option<&Account>, bytes: usize) -> Result<(), Wait> {
        match (&self.0.user_bytes, account) {
            (Some(rates), Some(account @ Account::User(_))) => {
                let taken = rates.take_many(account, bytes.div_ceil(1 << 10));
                taken.map_err(|seconds| Wait::met("bytes_per_user", seconds))
            }
            _ => Ok(()),
        }
    }

    /// What counts the reads of this account: users' alone are counted.
    fn reads_of(&self, account: Option<&Account>) -> Option<&ReadRates<Account>> {
        self.0.user_reads.as_ref().filter(|_| matches!(account, Some(Account::User(_))))
    }

    /// Lets the account read.
    ///
    /// # Errors
    /// If a user has read too much.
    fn check_reading(&self, account: &Account) -> Result<(), Wait> {
        match self.reading_debt(account) {
            None => Ok(()),
            Some(debt) => {
                let seconds = u32::try_from(debt.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX);
                Err(Wait::met("read_bytes_per_user", seconds))
            }
        }
    }

    /// How long the account has to wait until it may read on; `None` for not at all.
    pub(crate) fn reading_debt(&self, account: &Account) -> Option<Duration> {
        self.reads_of(Some(account))?.debt(account)
    }

    /// Counts so many bytes that the account has read.
    pub(crate) fn charge_reading(&self, account: &Account, bytes: usize) {
        if let Some(rates) = self.reads_of(Some(account)) {
            rates.charge(account, bytes);
        }
    }

    /// One more export of this account, for as long as the place is kept.
    ///
    /// # Errors
    /// If it has too many.
    pub(crate) fn begin_export(
        &self,
        account: Option<&Account>,
    ) -> Result<Option<CountedPlace<Account>>, Problem> {
        let Some(account) = account else { return Ok(None) };
        let (most, whose) = match account {
            Account::User(_) => (self.0.exports_per_user, "user"),
            Account::Key(_) => (self.0.exports_per_key, "key"),
        };
        let Some(most) = most else { return Ok(None) };
        self.0.exports.place(account.clone(), most).map(Some).ok_or_else(|| {
            counter!(LIMITED, "limit" => "exports").increment(1);
            let detail =
                format!("this {whose} has {most} exports under way (max_exports_per_{whose}); try again");
            Problem::busy(StatusCode::TOO_MANY_REQUESTS, detail, 1)
        })
    }

    /// Waits for a turn to make a piece of an export: exports take half of the processors at most.
    pub(crate) async fn export_turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed: an error cannot come.
        self.0.export_turns.acquire().await.ok()
    }

    /// Takes a request of this address that proves no caller.
    ///
    /// # Errors
    /// If too many came.
    pub(crate) fn take_from_stranger(&self, address: Option<IpAddr>) -> Result<(), Wait> {
        match (&self.0.strangers, address) {
            (Some(rates), Some(address)) => {
                let taken = rates.take(&neighbourhood(address));
                taken.map_err(|seconds| Wait::met("unauthenticated", seconds))
            }
            _ => Ok(()),
        }
    }

    /// Notes what the dead letters of each user take.
    pub(crate) fn note_dead_letters(&self, bytes: HashMap<Uuid, u64>) {
        *self.0.dead_letters.lock() = bytes;
    }

    /// Lets everybody write but a user whose dead letters take too much.
    ///
    /// # Errors
    /// `journal_full`, with what to do about it.
    pub(crate) fn check_dead_letters(&self, account: Option<&Account>) -> Result<(), Problem> {
        let (Some(Account::User(user)), Some(most)) = (account, self.0.dead_letters_per_user) else {
            return Ok(());
        };
        if self.0.dead_letters.lock().get(user).is_none_or(|bytes| *bytes < most) {
            return Ok(());
        }
        counter!(LIMITED, "limit" => "dead_letters").increment(1);
        let detail = format!(
            "this user's dead letters take {most} bytes or more (dead_letter_bytes_per_user): the store refuses what this user writes"
        );
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "journal_full", detail))
    }

    /// One more WebSocket or listener on this account, for as long as the place is kept.
    ///
    /// # Errors
    /// If a user has too many.
    pub(crate) fn connect(
        &self,
        account: Option<&Account>,
    ) -> Result<Option<CountedPlace<Account>>, Problem> {
        let Some((account @ Account::User(_), most)) = account.zip(self.0.connections_per_user) else {
            return Ok(None);
        };
        self.0.connections.place(account.clone(), most).map(Some).ok_or_else(|| {
            counter!(LIMITED, "limit" => "connections_per_user").increment(1);
            let detail = format!("this user has {most} connections (max_connections_per_user)");
            Problem::busy(StatusCode::SERVICE_UNAVAILABLE, detail, 1)
        })
    }

    /// For a connection that stays.
    pub(crate) fn meter(&self, address: Option<IpAddr>, account: Option<Account>) -> Meter {
        Meter { limits: self.clone(), address, account }
    }

    /// Room for so many more bytes of a body.
    ///
    /// # Errors
    /// Where bodies take all there is.
    pub(crate) fn room(&self, bytes: usize) -> Result<Room, Problem> {
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.0.bodies).try_acquire_many_owned(count).map_err(|_| {
            counter!(LIMITED, "limit" => "bodies").increment(1);
            let detail = "too much is being received at once; try again";
            Problem::busy(StatusCode::SERVICE_UNAVAILABLE, detail, 1)
        })
    }

    /// Forgets those who have not asked for long, again and again.
    pub(crate) async fn keep_small(self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let accounts = [&self.0.keys, &self.0.users, &self.0.user_bytes];
            accounts.into_iter().flatten().for_each(Rates::forget);
            let addresses = [&self.0.addresses, &self.0.strangers];
            addresses.into_iter().flatten().for_each(Rates::forget);
            self.0.user_reads.iter().for_each(ReadRates::forget);
        }
    }
}

impl Meter {
    /// Lets the connection write, unless its user's dead letters take too much.
    ///
    /// # Errors
    /// As [`Limits::check_dead_letters`].
    pub(crate) fn check_dead_letters(&self) -> Result<(), Problem> {
        self.limits.check_dead_letters(self.account.as_ref())
    }

    /// Takes one frame of so many bytes.
    ///
    /// # Errors
    /// Where there were too many, or too much.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), Wait> {
        self.limits.take_from(self.account.as_ref())?;
        self.limits.take_bytes(self.account.as_ref(), bytes)?;
        self.address.map_or(Ok(()), |address| self.limits.take_from_address(address))
    }
}

impl Wait {
    fn met(what: &'static str, seconds: u32) -> Self {
        counter!(LIMITED, "limit" => what).increment(1);
        Self { what, seconds }
    }

    pub(crate) fn in_words(self) -> String {
        let Self { what, seconds } = self;
        match what {
            "unauthenticated" => format!(
                "too many requests of this address without a key or token that counts (rate_unauthenticated); try again in {seconds} s"
            ),
            "bytes_per_user" => {
                format!("too many bytes of this user (bytes_per_user); try again in {seconds} s")
            }
            "read_bytes_per_user" => {
                format!("this user has read too much (read_bytes_per_user); try again in {seconds} s")
            }
            what => format!("too many requests of this {what} (rate_per_{what}); try again in {seconds} s"),
        }
    }
}

impl From<Wait> for Problem {
    fn from(wait: Wait) -> Self {
        Self::busy(StatusCode::TOO_MANY_REQUESTS, wait.in_words(), wait.seconds)
    }
}
