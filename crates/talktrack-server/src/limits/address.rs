//! Determines the address of a client. It is the address of the connection, unless the connection comes from a proxy
//! that the settings trust: then the proxy reports the address in `X-Forwarded-For`. From any other sender that header
//! is ignored, because anyone can set it.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::HeaderMap;

use crate::config::Network;
use crate::path_prefix::PathPrefix;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";
const X_FORWARDED_PREFIX: &str = "x-forwarded-prefix";

/// Returns the nearest address that is not a trusted proxy. Each proxy appends the address of its own client to the
/// list.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let mut client = peer.to_canonical();
    let lists: Vec<_> =
        headers.get_all(X_FORWARDED_FOR).iter().filter_map(|list| list.to_str().ok()).collect();
    for told in lists.iter().rev().flat_map(|list| list.rsplit(',')) {
        if !is_trusted(client, trusted) {
            break;
        }
        match told.trim().parse::<IpAddr>() {
            Ok(address) => client = address.to_canonical(),
            Err(_) => break,
        }
    }
    client
}

/// True if a trusted proxy reports that the client used TLS.
pub(super) fn is_over_tls(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> bool {
    let mut told = headers.get_all(X_FORWARDED_PROTO).iter().peekable();
    is_trusted(peer, trusted)
        && told.peek().is_some()
        && told.all(|value| value.to_str().is_ok_and(|scheme| scheme.trim().eq_ignore_ascii_case("https")))
}

/// Returns the path prefix that a trusted proxy reports, without which it passes requests on. A value that is no prefix
/// counts as none.
pub(super) fn path_prefix(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Option<PathPrefix> {
    let mut told = headers.get_all(X_FORWARDED_PREFIX).iter();
    match (told.next(), told.next()) {
        (Some(prefix), None) if is_trusted(peer, trusted) => PathPrefix::parse(prefix.to_str().ok()?.trim()),
        _ => None,
    }
}

pub(super) fn is_trusted(address: IpAddr, trusted: &[Network]) -> bool {
    trusted.iter().any(|network| network.contains(&address.to_canonical()))
}

/// Returns the network that counts as one address. The holder of one IPv6 address usually has its whole /64 network.
pub(crate) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(peer: &str, lists: &[&str]) -> String {
        let headers =
            lists.iter().map(|list| (X_FORWARDED_FOR.parse().unwrap(), list.parse().unwrap())).collect();
        let trusted = ["10.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap());
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_as_far_as_the_next_stranger() {
        assert_eq!(told("203.0.113.7", &["198.51.100.1"]), "203.0.113.7");
        assert_eq!(told("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(told("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(told("::ffff:10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(
            told("::1", &["6.6.6.6, 198.51.100.1, 10.9.9.9"]),
            "198.51.100.1",
            "what it claims is left"
        );
        assert_eq!(told("::1", &["6.6.6.6, 198.51.100.1", "10.9.9.9"]), "198.51.100.1");
        assert_eq!(told("10.0.0.1", &["198.51.100.1, nonsense"]), "10.0.0.1");
    }

    #[test]
    fn a_network_of_ipv6_is_one_neighbour() {
        let of = |address: &str| neighbourhood(address.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!((of("192.0.2.1"), of("::ffff:192.0.2.1")), ("192.0.2.1".into(), "192.0.2.1".into()));
    }
}
