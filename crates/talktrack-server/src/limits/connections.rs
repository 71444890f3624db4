//! How many connections there are, in all and of each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{LIMITED, address};
use crate::config::{Config, Network};
use crate::error::Problem;

/// Seconds after which somebody may have left.
const RETRY_AFTER: u32 = 1;

/// Those that are there.
pub(crate) struct Connections {
    /// One permit for each that may still come and speak HTTP; those of a WebSocket have seats of their own.
    free: Arc<Semaphore>,
    most: usize,
    /// `None` where an address may have as many as it likes.
    each: Option<usize>,
    /// Everybody comes through them.
    trusted_proxies: Vec<Network>,
    held: Arc<Held>,
}

/// What a connection holds: the slot until it ends or becomes a WebSocket's, the place until it ends.
pub(crate) struct Admitted {
    pub(crate) slot: OwnedSemaphorePermit,
    pub(crate) place: Place,
}

/// One connection of an address, as long as it lives.
#[derive(Debug)]
pub(crate) struct Place(Option<(IpAddr, Arc<Held>)>);

/// The connections of each address that has any.
type Held = Mutex<HashMap<IpAddr, usize>>;

impl Connections {
    pub(crate) fn new(config: &Config) -> Self {
        // Listeners to events stay; they must not take what the others need.
        let most =
            config.max_http_connections.saturating_add(config.max_listeners).min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(most)),
            most,
            each: config.max_connections_per_address,
            trusted_proxies: config.trusted_proxies.clone(),
            held: Arc::default(),
        }
    }

    /// Lets one more in.
    ///
    /// # Errors
    /// Where there is no room, in all or for this address: what to answer.
    pub(crate) fn admit(&self, peer: IpAddr) -> Result<Admitted, Problem> {
        let refused = |limit: &'static str, detail: String| {
            counter!(LIMITED, "limit" => limit).increment(1);
            Problem::busy(StatusCode::SERVICE_UNAVAILABLE, detail, RETRY_AFTER)
        };
        let Some(place) = self.place(peer) else {
            let detail = "this address has too many connections (max_connections_per_address)";
            return Err(refused("connections_per_address", detail.to_owned()));
        };
        let slot = Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            let detail =
                format!("all {} connections are taken (max_http_connections, max_listeners)", self.most);
            refused("http_connections", detail)
        })?;
        Ok(Admitted { slot, place })
    }

    fn place(&self, peer: IpAddr) -> Option<Place> {
        let Some(most) = self.each.filter(|_| !address::is_trusted(peer, &self.trusted_proxies)) else {
            return Some(Place(None));
        };
        let address = address::neighbourhood(peer);
        let mut held = self.held.lock();
        let count = held.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place(Some((address, Arc::clone(&self.held)))))
    }
}

impl Place {
    /// Of a connection that is not counted.
    pub(crate) fn none() -> Self {
        Self(None)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((address, held)) = &self.0 else { return };
        let mut held = held.lock();
        let Some(count) = held.get_mut(address) else { return };
        *count -= 1;
        if *count == 0 {
            held.remove(address);
        }
    }
}
