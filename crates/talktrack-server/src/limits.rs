//! Rate limits and quotas of callers and addresses, and the number of connections. A request that exceeds a limit is
//! refused with the limit's name and when to retry. Other callers are not affected.
//!
//! Each limit is checked as soon as what it needs is known: connections when they are accepted, the address in `guard`,
//! the account in the extractor of the caller, bytes of a body as they arrive, and frames of a WebSocket by a
//! [`Meter`].

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
use talktrack::{ErrorCode, UserId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

pub(crate) use address::neighbourhood;
pub(crate) use connections::{AddressPermit, Admitted, Connections};

use crate::config::{Config, Network};
use crate::error::Problem;
use crate::path_prefix::PathPrefix;
pub(crate) use counts::CountedPermit;
use counts::Counts;
use rate::Rates;
use reading::ReadRates;
pub(crate) use reading::Reading;

/// How often the entries of inactive callers and addresses are removed.
const SWEEP: Duration = Duration::from_secs(60);

/// How many seconds' worth of bytes may arrive at once. An array of messages arrives as one body.
const BURST_SECONDS: u32 = 8;

/// How many seconds' worth of bytes a user may read at full speed.
const READ_BURST: Duration = Duration::from_secs(4);

/// The memory for request bodies of all callers together, in bytes.
const BODY_BYTES: usize = 128 << 20;

/// The counter of requests that exceeded a limit, by limit.
pub(crate) const LIMITED: &str = "talktrack_limited_total";

/// The address of the client that sent a request, behind any trusted proxies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// True if the client used TLS to a trusted proxy. The server itself speaks no TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OverTls(pub(crate) bool);

/// The account that a request counts against.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Account {
    /// An API key, by its name.
    Key(Arc<str>),
    /// A user, independent of the token that they use.
    User(UserId),
}

/// All limits. Cheap to clone; all clones refer to the same counts.
#[derive(Clone)]
pub(crate) struct Limits(Arc<LimitsInner>);

struct LimitsInner {
    keys: Option<Rates<Account>>,
    users: Option<Rates<Account>>,
    /// In KiB.
    user_bytes: Option<Rates<Account>>,
    /// Limits the bytes that users read.
    user_reads: Option<ReadRates<Account>>,
    exports: Counts<Account>,
    exports_per_user: Option<usize>,
    exports_per_key: Option<usize>,
    /// Limits how many pieces of exports are produced at once.
    export_turns: Semaphore,
    strangers: Option<Rates<IpAddr>>,
    /// The bytes of dead letters, for each user who has any.
    dead_letters: Mutex<HashMap<UserId, u64>>,
    dead_letters_per_user: Option<u64>,
    /// Counts the WebSockets and event listeners of users.
    connections: Counts<Account>,
    connections_per_user: Option<usize>,
    addresses: Option<Rates<IpAddr>>,
    trusted_proxies: Vec<Network>,
    base_path: PathPrefix,
    bodies: Arc<Semaphore>,
}

/// Counts the frames of one connection against its address and account.
pub(crate) struct Meter {
    limits: Limits,
    address: Option<IpAddr>,
    account: Option<Account>,
}

/// A limit was exceeded. The request may be retried after this many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateLimited {
    what: &'static str,
    seconds: u32,
}

/// A share of the memory for request bodies, freed when dropped.
pub(crate) type BodyPermit = OwnedSemaphorePermit;

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        counts::register_limits();
        let limits = &config.caller_limits;
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self(Arc::new(LimitsInner {
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
            base_path: config.base_path.clone(),
            bodies: Arc::new(Semaphore::new(BODY_BYTES.max(config.max_body_bytes))),
        }))
    }

    /// Returns the address of the client behind a connection from `peer`.
    pub(crate) fn client_of(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        address::client_address(peer, headers, &self.0.trusted_proxies)
    }

    /// True if a request over a connection from `peer` left its client over TLS, according to a trusted proxy.
    pub(crate) fn is_over_tls(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        address::is_over_tls(peer, headers, &self.0.trusted_proxies)
    }

    /// Returns the path prefix below which a client behind `peer` reaches the server: as a trusted proxy reports it,
    /// otherwise as the settings say.
    pub(crate) fn path_prefix(&self, peer: IpAddr, headers: &HeaderMap) -> PathPrefix {
        let told = address::path_prefix(peer, headers, &self.0.trusted_proxies);
        told.unwrap_or_else(|| self.0.base_path.clone())
    }

    /// Counts one request or frame against this address.
    ///
    /// # Errors
    /// Fails if the address has exceeded its rate.
    pub(crate) fn take_from_address(&self, address: IpAddr) -> Result<(), RateLimited> {
        match &self.0.addresses {
            Some(rates) => {
                rates.take(&neighbourhood(address)).map_err(|seconds| RateLimited::new("address", seconds))
            }
            None => Ok(()),
        }
    }

    /// Counts one request or frame against this account.
    ///
    /// # Errors
    /// Fails if the account has exceeded its rate.
    pub(crate) fn take_from(&self, account: Option<&Account>) -> Result<(), RateLimited> {
        let Some(account) = account else { return Ok(()) };
        let (rates, what) = match account {
            Account::Key(_) => (&self.0.keys, "key"),
            Account::User(_) => (&self.0.users, "user"),
        };
        rates
            .as_ref()
            .map_or(Ok(()), |rates| rates.take(account).map_err(|seconds| RateLimited::new(what, seconds)))
    }

    /// Counts this many bytes of a body or frame against this account.
    ///
    /// # Errors
    /// Fails if a user has sent too many bytes. Keys have no such limit.
    pub(crate) fn take_bytes(&self, account: Option<&Account>, bytes: usize) -> Result<(), RateLimited> {
        match (&self.0.user_bytes, account) {
            (Some(rates), Some(account @ Account::User(_))) => {
                let taken = rates.take_many(account, bytes.div_ceil(1 << 10));
                taken.map_err(|seconds| RateLimited::new("bytes_per_user", seconds))
            }
            _ => Ok(()),
        }
    }

    /// Returns the counter of bytes that this account reads. Only the reads of users are counted.
    fn reads_of(&self, account: Option<&Account>) -> Option<&ReadRates<Account>> {
        self.0.user_reads.as_ref().filter(|_| matches!(account, Some(Account::User(_))))
    }

    /// Checks that the account may read.
    ///
    /// # Errors
    /// Fails if a user has read too many bytes.
    fn check_reading(&self, account: &Account) -> Result<(), RateLimited> {
        match self.reading_debt(account) {
            None => Ok(()),
            Some(debt) => {
                let seconds = u32::try_from(debt.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX);
                Err(RateLimited::new("read_bytes_per_user", seconds))
            }
        }
    }

    /// Returns how long the account must wait before it may continue to read; `None` if it need not wait.
    pub(crate) fn reading_debt(&self, account: &Account) -> Option<Duration> {
        self.reads_of(Some(account))?.debt(account)
    }

    /// Counts this many bytes as read by the account.
    pub(crate) fn charge_reading(&self, account: &Account, bytes: usize) {
        if let Some(rates) = self.reads_of(Some(account)) {
            rates.charge(account, bytes);
        }
    }

    /// Counts one more export of this account until the returned place is dropped.
    ///
    /// # Errors
    /// 429 if the account has too many exports in progress.
    pub(crate) fn begin_export(
        &self,
        account: Option<&Account>,
    ) -> Result<Option<CountedPermit<Account>>, Problem> {
        let Some(account) = account else { return Ok(None) };
        let (most, whose) = match account {
            Account::User(_) => (self.0.exports_per_user, "user"),
            Account::Key(_) => (self.0.exports_per_key, "key"),
        };
        let Some(most) = most else { return Ok(None) };
        self.0.exports.acquire(account.clone(), most).map(Some).ok_or_else(|| {
            counter!(LIMITED, "limit" => "exports").increment(1);
            let detail =
                format!("this {whose} has {most} exports in progress (max_exports_per_{whose}); try again");
            Problem::busy(StatusCode::TOO_MANY_REQUESTS, detail, 1)
        })
    }

    /// Waits for a permit to produce one piece of an export. Exports use at most half of the processors.
    pub(crate) async fn export_turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed, so this cannot fail.
        self.0.export_turns.acquire().await.ok()
    }

    /// Counts an unauthenticated request against this address.
    ///
    /// # Errors
    /// Fails if the address has sent too many.
    pub(crate) fn take_from_stranger(&self, address: Option<IpAddr>) -> Result<(), RateLimited> {
        match (&self.0.strangers, address) {
            (Some(rates), Some(address)) => {
                let taken = rates.take(&neighbourhood(address));
                taken.map_err(|seconds| RateLimited::new("unauthenticated", seconds))
            }
            _ => Ok(()),
        }
    }

    /// Stores how many bytes the dead letters of each user take.
    pub(crate) fn note_dead_letters(&self, bytes: HashMap<UserId, u64>) {
        *self.0.dead_letters.lock() = bytes;
    }

    /// Checks that the account may write: the dead letters of its user must take less than the quota.
    ///
    /// # Errors
    /// 503 `journal_full`, with the setting and the reason.
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
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::JournalFull, detail))
    }

    /// Counts one more WebSocket or listener of this account until the returned place is dropped.
    ///
    /// # Errors
    /// 503 if a user has too many connections.
    pub(crate) fn acquire_connection(
        &self,
        account: Option<&Account>,
    ) -> Result<Option<CountedPermit<Account>>, Problem> {
        let Some((account @ Account::User(_), most)) = account.zip(self.0.connections_per_user) else {
            return Ok(None);
        };
        self.0.connections.acquire(account.clone(), most).map(Some).ok_or_else(|| {
            counter!(LIMITED, "limit" => "connections_per_user").increment(1);
            let detail = format!("this user has {most} connections (max_connections_per_user)");
            Problem::busy(StatusCode::SERVICE_UNAVAILABLE, detail, 1)
        })
    }

    /// Returns the meter of a connection that stays open.
    pub(crate) fn new_meter(&self, address: Option<IpAddr>, account: Option<Account>) -> Meter {
        Meter { limits: self.clone(), address, account }
    }

    /// Reserves memory for this many more bytes of a body.
    ///
    /// # Errors
    /// 503 if the bodies of all requests together take all of that memory.
    pub(crate) fn reserve_body(&self, bytes: usize) -> Result<BodyPermit, Problem> {
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.0.bodies).try_acquire_many_owned(count).map_err(|_| {
            counter!(LIMITED, "limit" => "bodies").increment(1);
            let detail = "the server is receiving too much at once; try again";
            Problem::busy(StatusCode::SERVICE_UNAVAILABLE, detail, 1)
        })
    }

    /// Removes the entries of inactive callers and addresses every minute, for as long as the server runs.
    pub(crate) async fn sweep_idle(self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let accounts = [&self.0.keys, &self.0.users, &self.0.user_bytes];
            accounts.into_iter().flatten().for_each(Rates::remove_idle);
            let addresses = [&self.0.addresses, &self.0.strangers];
            addresses.into_iter().flatten().for_each(Rates::remove_idle);
            self.0.user_reads.iter().for_each(ReadRates::remove_idle);
        }
    }
}

impl Meter {
    /// Checks that the connection may write, as [`Limits::check_dead_letters`] does.
    ///
    /// # Errors
    /// As [`Limits::check_dead_letters`].
    pub(crate) fn check_dead_letters(&self) -> Result<(), Problem> {
        self.limits.check_dead_letters(self.account.as_ref())
    }

    /// Counts one frame of this many bytes against the account and the address.
    ///
    /// # Errors
    /// Fails if there were too many frames or too many bytes.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), RateLimited> {
        self.limits.take_from(self.account.as_ref())?;
        self.limits.take_bytes(self.account.as_ref(), bytes)?;
        self.address.map_or(Ok(()), |address| self.limits.take_from_address(address))
    }
}

impl RateLimited {
    fn new(what: &'static str, seconds: u32) -> Self {
        counter!(LIMITED, "limit" => what).increment(1);
        Self { what, seconds }
    }

    pub(crate) fn describe(self) -> String {
        let Self { what, seconds } = self;
        match what {
            "unauthenticated" => format!(
                "too many requests from this address without a valid key or token (rate_unauthenticated); try again in {seconds} s"
            ),
            "bytes_per_user" => {
                format!("too many bytes from this user (bytes_per_user); try again in {seconds} s")
            }
            "read_bytes_per_user" => {
                format!("this user has read too much (read_bytes_per_user); try again in {seconds} s")
            }
            what => format!("too many requests from this {what} (rate_per_{what}); try again in {seconds} s"),
        }
    }
}

impl From<RateLimited> for Problem {
    fn from(wait: RateLimited) -> Self {
        Self::busy(StatusCode::TOO_MANY_REQUESTS, wait.describe(), wait.seconds)
    }
}
