//! Rates and networks, as the settings say them.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::layers::Layers;
use super::parse;
use crate::error::Failure;

/// Addresses that belong together.
pub(crate) type Network = ipnet::IpNet;

/// How much of the audit log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AuditFiles {
    /// Bytes of one file. The next entry begins another.
    pub(crate) file_bytes: u64,
    /// Files in all. The oldest is removed for the next.
    pub(crate) files: usize,
}

impl AuditFiles {
    pub(super) fn read(layers: &Layers) -> Result<Self, Failure> {
        Ok(Self {
            file_bytes: layers.get("audit_file_bytes", parse::size)?,
            files: layers.get("audit_files", parse::count)?,
        })
    }
}

/// What one caller, or one address, may take of the server. `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallerLimits {
    /// Connections of an address, WebSockets included.
    pub(crate) connections_per_address: Option<usize>,
    /// Connections of an address that are no WebSocket (yet).
    pub(crate) http_connections_per_address: Option<usize>,
    /// WebSockets and listeners of a user, whatever tokens they come with.
    pub(crate) connections_per_user: Option<usize>,
    /// Requests and frames of a key.
    pub(crate) per_key: Option<Rate>,
    /// Requests and frames of a user.
    pub(crate) per_user: Option<Rate>,
    /// KiB of bodies and frames of a user.
    pub(crate) kib_per_user: Option<Rate>,
    /// KiB that a user reads.
    pub(crate) kib_read_per_user: Option<Rate>,
    /// Exports of a user at once.
    pub(crate) exports_per_user: Option<usize>,
    /// Exports of a key at once.
    pub(crate) exports_per_key: Option<usize>,
    /// Bytes of a user's dead letters.
    pub(crate) dead_letter_bytes_per_user: Option<u64>,
    /// Requests and frames of an address, whoever sends them.
    pub(crate) per_address: Option<Rate>,
    /// Requests of an address that prove no caller.
    pub(crate) unauthenticated: Option<Rate>,
}

impl CallerLimits {
    pub(super) fn read(layers: &Layers) -> Result<Self, Failure> {
        let count = |key| layers.get(key, |text| unless_off(text, parse::count));
        let rate = |key| layers.get(key, |text| unless_off(text, str::parse));
        Ok(Self {
            connections_per_address: count("max_connections_per_address")?,
            http_connections_per_address: count("max_http_connections_per_address")?,
            connections_per_user: count("max_connections_per_user")?,
            per_key: rate("rate_per_key")?,
            per_user: rate("rate_per_user")?,
            kib_per_user: layers.get("bytes_per_user", |text| unless_off(text, kib_rate))?,
            kib_read_per_user: layers.get("read_bytes_per_user", |text| unless_off(text, kib_rate))?,
            exports_per_user: count("max_exports_per_user")?,
            exports_per_key: count("max_exports_per_key")?,
            dead_letter_bytes_per_user: layers
                .get("dead_letter_bytes_per_user", |text| unless_off(text, parse::size))?,
            per_address: rate("rate_per_address")?,
            unauthenticated: rate("rate_unauthenticated")?,
        })
    }
}

/// So many in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) count: NonZeroU32,
    period: Duration,
}

impl Rate {
    /// How long one takes to come back.
    pub(crate) fn interval(self) -> Duration {
        (self.period / self.count.get()).max(Duration::from_nanos(1))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || format!("must be a number in a time such as 100/s or 6000/m, or off, not {text:?}");
        let (count, unit) = text.split_once('/').ok_or_else(problem)?;
        let seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return Err(problem()),
        };
        let count = count.trim().replace('_', "").parse().map_err(|_| problem())?;
        Ok(Self { count, period: Duration::from_secs(seconds) })
    }
}

/// Bytes in a time, in KiB.
fn kib_rate(text: &str) -> Result<Rate, String> {
    let problem = || format!("must be bytes in a time such as 4MiB/s, or off, not {text:?}");
    let (bytes, unit) = text.split_once('/').ok_or_else(problem)?;
    let kib = parse::size(bytes.trim()).map_err(|_| problem())?.div_ceil(1 << 10);
    format!("{kib}/{unit}").parse().map_err(|_| problem())
}

/// What the text says, unless it says `off`.
pub(super) fn unless_off<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text == "off" { Ok(None) } else { parse(text).map(Some) }
}

/// Addresses, and networks of them.
pub(super) fn networks(text: &str) -> Result<Vec<Network>, String> {
    let network = |entry: &str| {
        let address = || entry.parse::<IpAddr>().ok().map(Network::from);
        let network = entry.parse::<Network>().ok().or_else(address);
        network.ok_or_else(|| {
            format!("must be a list of addresses such as 10.0.0.5 or 10.0.0.0/8, not {entry:?}")
        })
    };
    parse::list(text).map(network).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_in_a_time() {
        let rate: Rate = "6_000/m".parse().unwrap();
        assert_eq!((rate.count.get(), rate.interval()), (6_000, Duration::from_millis(10)));
        for text in ["", "off", "100", "0/s", "100/d", "-1/s", "1.5/s", "/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert_eq!(unless_off("off", Rate::from_str), Ok(None));
        assert_eq!(kib_rate("4MiB/s").unwrap().count.get(), 4_096);
        assert!(kib_rate("4096").is_err() && kib_rate("0/s").is_err());
    }

    #[test]
    fn a_network_may_be_one_address() {
        let networks = networks("10.0.0.0/8, 192.0.2.1 ::1").unwrap();
        let shown: Vec<_> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "192.0.2.1/32", "::1/128"]);
        assert!(super::networks("proxy.example.com").is_err());
    }
}
