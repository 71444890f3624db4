//! API keys as the settings and the file of API keys contain them: `NAME:SCOPES:HASH`, followed by the limits of the
//! key, each after a semicolon: `;expires=2027-01-01T00:00:00Z;users=USER+USER;addresses=10.0.0.0/8+::1;revoked=…`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use talktrack::{Timestamp, UserId};

use super::limits::Network;

/// The maximum length of a name in bytes.
const MAX_NAME_BYTES: usize = 64;

/// The maximum number of users, and of networks, that one key may be limited to. All of them are compared at every
/// request.
const MAX_LISTED: usize = 1_000;

const FORM: &str = "must be a list of NAME:SCOPES:HASH, as `talktrack keys new` prints them";

/// An API key of a server. Its `Display` is the format of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiKey {
    pub(crate) name: String,
    pub(crate) scopes: Scopes,
    /// The SHA-256 of the key's secret. It does not reveal the key.
    pub(crate) digest: [u8; 32],
    /// The key is refused from this time on; `None` if it never expires.
    pub(crate) expires: Option<Timestamp>,
    /// The users that the key may act for; `None` for all.
    pub(crate) users: Option<Arc<[UserId]>>,
    /// The networks that the key may be used from; `None` for all.
    pub(crate) networks: Option<Vec<Network>>,
    /// When the key was revoked. If this is set, the key is refused, even if the time is in the future.
    pub(crate) revoked: Option<Timestamp>,
}

/// A permission of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Reading conversations.
    Read,
    /// Writing conversations in the name of any user of the key.
    Write,
    /// Reading the metrics of the server, for monitoring.
    Metrics,
    /// Everything, including deletion, which no other scope allows.
    Admin,
}

/// A non-empty set of scopes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scopes(u8);

impl ApiKey {
    /// Makes a key without limits.
    pub(crate) fn new(name: String, scopes: Scopes, digest: [u8; 32]) -> Self {
        Self { name, scopes, digest, expires: None, users: None, networks: None, revoked: None }
    }

    /// True if the key may be used from this address.
    pub(crate) fn allows_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let contains = |networks: &Vec<Network>| networks.iter().any(|network| network.contains(&address));
        self.networks.as_ref().is_none_or(contains)
    }

    fn set_option(&mut self, name: &str, value: &str) -> Result<(), String> {
        let moment = || value.parse::<Timestamp>().map_err(|error| format!("{name}: {error}"));
        match name {
            "expires" => self.expires = Some(moment()?),
            "revoked" => self.revoked = Some(moment()?),
            "users" => self.users = Some(parse_key_users(value)?),
            "addresses" => self.networks = Some(parse_key_networks(value)?),
            _ => return Err("only expires=, users=, addresses= and revoked= may follow the hash".into()),
        }
        Ok(())
    }
}

/// Parses the users that a key may act for, separated by `+` or `,`. In a user, every byte may be percent-encoded, and those of
/// the separators, of the percent sign and of spaces must be.
pub(crate) fn parse_key_users(text: &str) -> Result<Arc<[UserId]>, String> {
    let user = |text: &str| {
        let user = percent_decode_str(text).decode_utf8().ok().and_then(|text| text.parse().ok());
        user.ok_or_else(|| {
            "users: must be ids of users, each 1 to 256 bytes, separated by + (a + in an id is %2B)"
                .to_owned()
        })
    };
    let users: Vec<UserId> =
        text.split(['+', ',']).map(|text| user(text.trim())).collect::<Result<_, _>>()?;
    check_count("users", users.len()).map(|()| users.into())
}

/// The bytes of a user that would end the user, or the key, in a list.
const IN_A_LIST: AsciiSet =
    CONTROLS.add(b' ').add(b'%').add(b'+').add(b',').add(b';').add(b':').add(b'"').add(b'#');

fn encode_in_list(user: &UserId) -> String {
    utf8_percent_encode(&user.to_string(), &IN_A_LIST).to_string()
}

/// Parses the networks that a key may be used from, separated by `+` or `,`.
pub(crate) fn parse_key_networks(text: &str) -> Result<Vec<Network>, String> {
    let networks = super::limits::parse_networks(&text.replace('+', ","));
    let networks = networks.map_err(|_| {
        "addresses: must be addresses or networks such as 10.0.0.0/8, separated by +".to_owned()
    })?;
    if networks.is_empty() {
        return Err("addresses: must name at least one".into());
    }
    check_count("addresses", networks.len()).map(|()| networks)
}

fn check_count(name: &str, count: usize) -> Result<(), String> {
    match count {
        ..=MAX_LISTED => Ok(()),
        _ => Err(format!("{name}: at most {MAX_LISTED}")),
    }
}

impl Scope {
    const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Metrics, Self::Admin];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Scopes {
    /// True if the set contains this scope or `admin`, which allows everything.
    pub(crate) fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }
}

/// Parses names of scopes, separated by `+` or `,`.
impl FromStr for Scopes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(['+', ',']).try_fold(Self(0), |scopes, name| {
            let scope = Scope::ALL.into_iter().find(|scope| scope.name() == name.trim());
            let scope = scope.ok_or("scopes are read, write, metrics and admin, such as read+write")?;
            Ok(Self(scopes.0 | scope.bit()))
        })
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = Scope::ALL.into_iter().filter(|scope| self.0 & scope.bit() != 0);
        f.write_str(&held.map(Scope::name).collect::<Vec<_>>().join("+"))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Checks the name of a key. Names appear in logs and between colons.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!("a key's name is 1 to {MAX_NAME_BYTES} letters, digits, '-', '_' or '.'"))
}

impl FromStr for ApiKey {
    type Err = String;

    /// The error does not repeat the text: it may be the key itself, put there by mistake.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(';');
        let [name, scopes, hash] = parts.next().unwrap_or_default().split(':').collect::<Vec<_>>()[..] else {
            return Err(FORM.into());
        };
        check_name(name)?;
        let digest = from_hex(hash).ok_or(FORM)?;
        let mut key = Self::new(name.to_owned(), scopes.parse()?, digest);
        for option in parts {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            key.set_option(name.trim(), value.trim())?;
        }
        Ok(key)
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.name, self.scopes)?;
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        let joined = |parts: Vec<String>| parts.join("+");
        if let Some(expires) = self.expires {
            write!(f, ";expires={expires}")?;
        }
        if let Some(users) = &self.users {
            write!(f, ";users={}", joined(users.iter().map(encode_in_list).collect()))?;
        }
        if let Some(networks) = &self.networks {
            write!(f, ";addresses={}", joined(networks.iter().map(Network::to_string).collect()))?;
        }
        self.revoked.map_or(Ok(()), |revoked| write!(f, ";revoked={revoked}"))
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let pairs = text.as_bytes().chunks_exact(2);
    if text.len() != 2 * digest.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    const USER: &str = "03f6b167-2b1c-4c8e-9d55-1f0a4c3f7a11";

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let line = format!("agent-1:read+write:{HASH}");
        let key: ApiKey = line.parse().unwrap();
        assert_eq!((key.to_string(), key.name.as_str()), (line, "agent-1"));
        assert!(key.scopes.allow(Scope::Read) && key.scopes.allow(Scope::Write));
        assert!(!key.scopes.allow(Scope::Admin) && !key.scopes.allow(Scope::Metrics));
        let admin: Scopes = "admin".parse().unwrap();
        assert!(Scope::ALL.into_iter().all(|scope| admin.allow(scope)));
    }

    #[test]
    fn a_bad_key_is_refused_without_repeating_it() {
        for entry in [
            "tt_hunter2".to_owned(),
            format!("hunter2:{HASH}"),
            format!("hunter2:root:{HASH}"),
            format!("hunter2::{HASH}"),
            format!("hunter 2:read:{HASH}"),
            format!(":read:{HASH}"),
            "a:read:hunter2".to_owned(),
            format!("a:read:{}", HASH.replace('2', "é")),
            format!("a:read:+{}", &HASH[1..]),
            format!("a:read:{HASH}:hunter2"),
        ] {
            let why = entry.parse::<ApiKey>().unwrap_err();
            assert!(!why.contains("hunter"), "{entry}: {why}");
        }
    }

    #[test]
    fn what_limits_a_key_is_read_as_it_is_written() {
        let line = format!(
            "a:read:{HASH};expires=2027-01-01T00:00:00.000000Z;users={USER};addresses=10.0.0.0/8+::1/128;\
             revoked=2026-12-01T00:00:00.000000Z"
        );
        let key: ApiKey = line.parse().unwrap();
        assert_eq!(key.to_string(), line);
        assert!(
            key.allows_address("10.1.2.3".parse().unwrap()) && key.allows_address("::1".parse().unwrap())
        );
        assert!(key.allows_address("::ffff:10.1.2.3".parse().unwrap()), "an IPv4 address in IPv6 clothes");
        assert!(!key.allows_address("11.1.2.3".parse().unwrap()));
        let line = format!("a:read:{HASH};users=user_2abc+%2B4917");
        let key: ApiKey = line.parse().unwrap();
        let users: Vec<_> = key.users.iter().flat_map(|users| users.iter()).map(UserId::to_string).collect();
        assert_eq!((users, key.to_string()), (vec!["user_2abc".to_owned(), "+4917".to_owned()], line));
        for bad in [
            "expires=soon",
            "users=",
            "users=a%01",
            "addresses=",
            "addresses=home",
            "expires",
            "colour=red",
            "",
        ] {
            let why = format!("a:read:{HASH};{bad}").parse::<ApiKey>().unwrap_err();
            assert!(!why.is_empty() && !why.contains(HASH), "{bad}: {why}");
        }
    }
}
