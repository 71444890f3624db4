//! Who may ask, as the settings say it: API keys for servers, and where the users' tokens come from.

use std::fmt;
use std::str::FromStr;

/// What a key may be called at most.
const MAX_NAME_BYTES: usize = 64;

/// HMAC with SHA-256 is as strong as its secret up to this length; a shorter one can be guessed from a single token.
const MIN_SECRET_BYTES: usize = 32;

/// What identity can be checked with. Nothing set: nobody is asked, and only this machine can ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Identity {
    pub(crate) api_keys: Vec<ApiKey>,
    /// The Supabase project whose published keys sign the users' tokens. Without a slash at its end.
    pub(crate) supabase_url: Option<String>,
    /// The secret that older Supabase projects sign tokens with.
    pub(crate) supabase_jwt_secret: Option<Secret>,
    pub(crate) jwt_audience: String,
    /// Whose tokens they have to be; `None` for anybody who has the keys.
    pub(crate) jwt_issuer: Option<String>,
}

impl Identity {
    /// Whether anybody is asked who they are.
    pub(crate) fn is_configured(&self) -> bool {
        !self.api_keys.is_empty() || self.takes_users()
    }

    /// Whether users come with tokens.
    pub(crate) fn takes_users(&self) -> bool {
        self.supabase_url.is_some() || self.supabase_jwt_secret.is_some()
    }
}

/// Text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A key that a server comes with. Displays as it stands in the settings: `name:read+write:SHA-256 in hex`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiKey {
    pub(crate) name: String,
    pub(crate) scopes: Scopes,
    /// The SHA-256 of the key's secret. It tells nobody the key.
    pub(crate) digest: [u8; 32],
}

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Reading conversations.
    Read,
    /// Writing conversations, in any user's name.
    Write,
    /// Reading the figures of the server, for monitoring.
    Metrics,
    /// Everything, and what the other scopes do not allow: deleting.
    Admin,
}

/// A set of scopes; never empty.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scopes(u8);

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
    /// Whether they allow what needs this scope. `admin` allows everything.
    pub(crate) fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }
}

/// Reads names with `+` or `,` between them.
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

/// Whether a key may bear this name: it stands in logs and between colons.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!("a key's name is 1 to {MAX_NAME_BYTES} letters, digits, '-', '_' or '.'"))
}

impl FromStr for ApiKey {
    type Err = String;

    /// What is wrong is said without what stood there: somebody may have put the key itself.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = "must be a list of NAME:SCOPES:HASH, as `talktrack keys new` prints them";
        let [name, scopes, hash] = text.split(':').collect::<Vec<_>>()[..] else { return Err(form.into()) };
        check_name(name)?;
        let digest = from_hex(hash).ok_or(form)?;
        Ok(Self { name: name.to_owned(), scopes: scopes.parse()?, digest })
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.name, self.scopes)?;
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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

/// Reads the list of keys. A name stands for one key, so that a line in the log does.
pub(super) fn api_keys(text: &str) -> Result<Vec<ApiKey>, String> {
    let mut keys: Vec<ApiKey> = Vec::new();
    for entry in super::parse::list(text) {
        let key: ApiKey = entry.parse()?;
        if keys.iter().any(|other| other.name == key.name) {
            return Err(format!("two keys are called {}", key.name));
        }
        keys.push(key);
    }
    Ok(keys)
}

/// Reads the URL of a Supabase project.
pub(super) fn supabase_url(text: &str) -> Result<Option<String>, String> {
    super::parse::optional_url(text, "https://PROJECT.supabase.co")
}

/// Reads the secret of HS256 tokens.
pub(super) fn jwt_secret(text: &str) -> Result<Option<Secret>, String> {
    match text.len() {
        0 => Ok(None),
        MIN_SECRET_BYTES.. => Ok(Some(text.into())),
        _ => Err(format!(
            "must be at least {MIN_SECRET_BYTES} bytes: a shorter secret can be guessed from a token"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

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
        let twice = format!("a:read:{HASH}, a:write:{HASH}");
        assert_eq!(api_keys(&twice).unwrap_err(), "two keys are called a");
    }

    #[test]
    fn a_supabase_url_has_nothing_but_a_place() {
        let url = |text| supabase_url(text).map(|url| url.unwrap_or_default());
        assert_eq!(url("https://x.supabase.co/").unwrap(), "https://x.supabase.co");
        assert_eq!(url("http://127.0.0.1:54321").unwrap(), "http://127.0.0.1:54321");
        assert_eq!(url("").unwrap(), "");
        for text in
            ["x.supabase.co", "ftp://x", "https://me:hunter2@x", "https://x?hunter2=1", "https://", "hunter2"]
        {
            assert!(!url(text).unwrap_err().contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_short_secret_is_refused_and_none_is_shown() {
        assert!(!jwt_secret("hunter2").unwrap_err().contains("hunter2"));
        let secret = jwt_secret(&"hunter2".repeat(6)).unwrap().unwrap();
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
