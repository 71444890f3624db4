//! Limits the number of connections, in total and of each address.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use metrics::counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::counts::{CountedPermit, Counts};
use super::{LIMITED, address};
use crate::config::{Config, Network};
use crate::error::Problem;

/// After how many seconds a refused client should retry.
const RETRY_AFTER: u32 = 1;

/// Counts the open connections.
pub(crate) struct Connections {
    /// Holds one permit for each further HTTP connection. WebSocket connections are limited separately by
    /// `max_connections`.
    free: Arc<Semaphore>,
    most: usize,
    /// The limit of each address; `None` if there is none.
    each: Option<usize>,
    /// Connections from these proxies are not counted by address, because all clients come through them.
    trusted_proxies: Vec<Network>,
    held: Counts<IpAddr>,
    /// The limit of each address for connections that are not, or not yet, WebSockets.
    each_http: Option<usize>,
    http_held: Counts<IpAddr>,
}

/// What a connection holds: `slot` until it ends or becomes a WebSocket, `place` until it ends.
pub(crate) struct Admitted {
    pub(crate) slot: (OwnedSemaphorePermit, AddressPermit),
    pub(crate) place: AddressPermit,
}

/// Counts one connection of an address until it is dropped; `None` if the connection is not counted.
pub(crate) type AddressPermit = Option<CountedPermit<IpAddr>>;

impl Connections {
    pub(crate) fn new(config: &Config) -> Self {
        // Event listeners hold their connections for long. They get additional permits, so that they do not use up
        // those of other requests.
        let most =
            config.max_http_connections.saturating_add(config.max_listeners).min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(most)),
            most,
            each: config.caller_limits.connections_per_address,
            trusted_proxies: config.trusted_proxies.clone(),
            held: Counts::default(),
            each_http: config.caller_limits.http_connections_per_address,
            http_held: Counts::default(),
        }
    }

    /// Admits one more connection.
    ///
    /// # Errors
    /// Returns the response to send if there is no room, in total or for this address.
    pub(crate) fn admit_connection(&self, peer: IpAddr) -> Result<Admitted, Problem> {
        let refused = |limit: &'static str, detail: String| {
            counter!(LIMITED, "limit" => limit).increment(1);
            Problem::busy(StatusCode::SERVICE_UNAVAILABLE, detail, RETRY_AFTER)
        };
        let Ok(place) = self.acquire_permit(&self.held, peer, self.each) else {
            let detail = "this address has too many connections (max_connections_per_address)";
            return Err(refused("connections_per_address", detail.to_owned()));
        };
        let Ok(http_place) = self.acquire_permit(&self.http_held, peer, self.each_http) else {
            let detail = "this address has too many connections (max_http_connections_per_address)";
            return Err(refused("http_connections_per_address", detail.to_owned()));
        };
        let slot = Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            let detail =
                format!("all {} connections are taken (max_http_connections, max_listeners)", self.most);
            refused("http_connections", detail)
        })?;
        Ok(Admitted { slot: (slot, http_place), place })
    }

    /// Counts one more connection of the address; `Err` if it has too many.
    fn acquire_permit(
        &self,
        counts: &Counts<IpAddr>,
        peer: IpAddr,
        most: Option<usize>,
    ) -> Result<AddressPermit, ()> {
        let counted = most.filter(|_| !address::is_trusted(peer, &self.trusted_proxies));
        counted.map(|most| counts.acquire(address::neighbourhood(peer), most).ok_or(())).transpose()
    }
}
