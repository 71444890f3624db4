//! Rates and networks, as the settings say them.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::parse;

/// Addresses that belong together.
pub(crate) type Network = ipnet::IpNet;

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
    }

    #[test]
    fn a_network_may_be_one_address() {
        let networks = networks("10.0.0.0/8, 192.0.2.1 ::1").unwrap();
        let shown: Vec<_> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "192.0.2.1/32", "::1/128"]);
        assert!(super::networks("proxy.example.com").is_err());
    }
}
