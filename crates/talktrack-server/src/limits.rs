//! How much one caller and one address may ask, and how many connections there may be. What is over a limit is told so, and
//! when to come again; nobody else notices.

mod address;
mod connections;
mod rate;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use metrics::counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

pub(crate) use connections::{Admitted, Connections, Place};

use crate::config::{Config, Network};
use crate::error::Problem;
use rate::Rates;

/// How often what nobody asks for any more is forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// Bytes of requests' bodies that are in memory at once, whoever they are from.
const BODY_BYTES: usize = 128 << 20;

/// Counted for each limit that was met.
pub(crate) const LIMITED: &str = "talktrack_limited_total";

/// Where a request comes from, seen through the proxies that are trusted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

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
    accounts: Option<Rates<Account>>,
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
        Self(Arc::new(Shared {
            accounts: config.rate_per_token.map(Rates::new),
            addresses: config.rate_per_address.map(Rates::new),
            trusted_proxies: config.trusted_proxies.clone(),
            bodies: Arc::new(Semaphore::new(BODY_BYTES.max(config.max_body_bytes))),
        }))
    }

    /// Where a request comes from that came over a connection from `peer`.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        address::client(peer, headers, &self.0.trusted_proxies)
    }

    /// Takes one request, or frame, of this address.
    ///
    /// # Errors
    /// Where it has asked for too much.
    pub(crate) fn take_from_address(&self, address: IpAddr) -> Result<(), Wait> {
        match &self.0.addresses {
            Some(rates) => {
                rates.take(&address::neighbourhood(address)).map_err(|seconds| Wait::met("address", seconds))
            }
            None => Ok(()),
        }
    }

    /// Takes one request, or frame, on this account.
    ///
    /// # Errors
    /// Where it has asked for too much.
    pub(crate) fn take_from(&self, account: Option<&Account>) -> Result<(), Wait> {
        match (&self.0.accounts, account) {
            (Some(rates), Some(account)) => {
                rates.take(account).map_err(|seconds| Wait::met("token", seconds))
            }
            _ => Ok(()),
        }
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
            self.0.accounts.iter().for_each(Rates::forget);
            self.0.addresses.iter().for_each(Rates::forget);
        }
    }
}

impl Meter {
    /// Takes one frame.
    ///
    /// # Errors
    /// Where there were too many.
    pub(crate) fn take(&self) -> Result<(), Wait> {
        self.limits.take_from(self.account.as_ref())?;
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
        format!("too many requests of this {what} (rate_per_{what}); try again in {seconds} s")
    }
}

impl From<Wait> for Problem {
    fn from(wait: Wait) -> Self {
        Self::busy(StatusCode::TOO_MANY_REQUESTS, wait.in_words(), wait.seconds)
    }
}
