//! The settings of rate limits, quotas and networks.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::layers::Layers;
use super::parse;
use crate::error::Failure;

/// The maximum of `max_message_bytes`. It fits into a frame even if each byte takes the six bytes of an escape.
pub(super) const MOST_MESSAGE_BYTES: usize = 1 << 20;

/// A range of IP addresses.
pub(crate) type Network = ipnet::IpNet;

/// How much of the audit log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AuditFiles {
    /// The maximum size of one file in bytes. The file is rotated before it would exceed this.
    pub(crate) file_bytes: u64,
    /// The maximum number of files. The oldest is removed on rotation.
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

/// The limits of one caller or one address. `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallerLimits {
    /// Connections from an address, including WebSockets.
    pub(crate) connections_per_address: Option<usize>,
    /// Connections from an address that are not, or not yet, WebSockets.
    pub(crate) http_connections_per_address: Option<usize>,
    /// WebSockets and event listeners of a user, over all tokens of the user.
    pub(crate) connections_per_user: Option<usize>,
    /// Requests and frames of a key.
    pub(crate) per_key: Option<Rate>,
    /// Requests and frames of a user.
    pub(crate) per_user: Option<Rate>,
    /// KiB of bodies and frames of a user.
    pub(crate) kib_per_user: Option<Rate>,
    /// KiB that a user reads.
    pub(crate) kib_read_per_user: Option<Rate>,
    /// Concurrent exports of a user.
    pub(crate) exports_per_user: Option<usize>,
    /// Concurrent exports of a key.
    pub(crate) exports_per_key: Option<usize>,
    /// Bytes of a user's dead letters.
    pub(crate) dead_letter_bytes_per_user: Option<u64>,
    /// Requests and frames from an address, of all callers.
    pub(crate) per_address: Option<Rate>,
    /// Unauthenticated requests from an address.
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
            kib_per_user: layers.get("bytes_per_user", |text| unless_off(text, parse_kib_rate))?,
            kib_read_per_user: layers.get("read_bytes_per_user", |text| unless_off(text, parse_kib_rate))?,
            exports_per_user: count("max_exports_per_user")?,
            exports_per_key: count("max_exports_per_key")?,
            dead_letter_bytes_per_user: layers
                .get("dead_letter_bytes_per_user", |text| unless_off(text, parse::size))?,
            per_address: rate("rate_per_address")?,
            unauthenticated: rate("rate_unauthenticated")?,
        })
    }
}

/// A count in a period of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) count: NonZeroU32,
    period: Duration,
}

impl Rate {
    /// Returns the time in which one unit is replenished.
    pub(crate) fn interval(self) -> Duration {
        (self.period / self.count.get()).max(Duration::from_nanos(1))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || format!("must be a number per time such as 100/s or 6000/m, or off, not {text:?}");
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

/// Parses a rate of bytes, rounded up to KiB.
fn parse_kib_rate(text: &str) -> Result<Rate, String> {
    let problem = || format!("must be a size per time such as 4MiB/s, or off, not {text:?}");
    let (bytes, unit) = text.split_once('/').ok_or_else(problem)?;
    let kib = parse::size(bytes.trim()).map_err(|_| problem())?.div_ceil(1 << 10);
    format!("{kib}/{unit}").parse().map_err(|_| problem())
}

/// Parses the text unless it is `off`, which returns `None`.
pub(super) fn unless_off<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text == "off" { Ok(None) } else { parse(text).map(Some) }
}

/// Parses a list of addresses and networks.
pub(super) fn parse_networks(text: &str) -> Result<Vec<Network>, String> {
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
        assert_eq!(parse_kib_rate("4MiB/s").unwrap().count.get(), 4_096);
        assert!(parse_kib_rate("4096").is_err() && parse_kib_rate("0/s").is_err());
    }

    #[test]
    fn a_network_may_be_one_address() {
        let networks = parse_networks("10.0.0.0/8, 192.0.2.1 ::1").unwrap();
        let shown: Vec<_> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "192.0.2.1/32", "::1/128"]);
        assert!(parse_networks("proxy.example.com").is_err());
    }
}
