//! API keys, for servers: `tt_<id>_<secret>`. The secret is 256 bits of chance, and the settings hold its SHA-256. Passwords
//! need a slow hash because they can be guessed; nobody guesses 256 bits, so a fast one gives nothing away and costs nothing.
//! The id is the beginning of the hash: it names the key where it turns up, without telling it, and shows a typing error.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;

use super::Caller;
use super::refused::Refused;
use crate::config::{ApiKey, Scopes};

/// What every key begins with, so that people and scanners of leaked secrets know one when they see it.
const PREFIX: &str = "tt_";

/// Bytes of chance in a key.
const SECRET_BYTES: usize = 32;

/// Bytes of the hash that name the key.
const ID_BYTES: usize = 4;

/// The keys that the settings hold.
pub(super) struct Keys(Vec<Known>);

struct Known {
    digest: [u8; 32],
    caller: Caller,
}

impl Keys {
    pub(super) fn new(keys: &[ApiKey]) -> Self {
        let caller = |key: &ApiKey| Caller::Key { name: Arc::from(&*key.name), scopes: key.scopes };
        Self(keys.iter().map(|key| Known { digest: key.digest, caller: caller(key) }).collect())
    }

    /// Whose key this is.
    pub(super) fn find(&self, key: &str) -> Result<Caller, Refused> {
        let digest = digest_of(key).ok_or(Refused::MistypedKey)?;
        // In constant time, so that how long it takes does not tell how much of a guess was right.
        let known = self.0.iter().find(|known| known.digest.ct_eq(&digest).into());
        known.map(|known| known.caller.clone()).ok_or(Refused::UnknownKey)
    }
}

/// Whether a token means to be an API key.
pub(super) fn is_one(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// The hash of a key's secret; `None` where the key is not whole.
fn digest_of(key: &str) -> Option<[u8; 32]> {
    let (id, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    let digest = sha256(secret);
    (id == id_of(&digest)).then_some(digest)
}

fn id_of(digest: &[u8; 32]) -> String {
    digest[..ID_BYTES].iter().fold(String::new(), |mut id, byte| {
        // Writing into a string cannot fail.
        let _ = write!(id, "{byte:02x}");
        id
    })
}

pub(super) fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

/// A key that was just made. No `Debug`: it holds the secret.
pub(crate) struct NewKey {
    /// What the server sends. Shown once, and kept nowhere.
    pub(crate) key: String,
    /// What the settings hold.
    pub(crate) entry: ApiKey,
}

impl NewKey {
    /// Draws a key. `None` where the system has no randomness to give.
    pub(crate) fn draw(name: String, scopes: Scopes) -> Option<Self> {
        let mut chance = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut chance).ok()?;
        let secret = URL_SAFE_NO_PAD.encode(chance);
        let digest = sha256(&secret);
        let key = format!("{PREFIX}{}_{secret}", id_of(&digest));
        Some(Self { key, entry: ApiKey { name, scopes, digest } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(name: &str) -> NewKey {
        NewKey::draw(name.into(), "read".parse().unwrap()).unwrap()
    }

    #[test]
    fn a_key_is_found_by_its_hash_alone() {
        let (one, other, third) = (draw("one"), draw("other"), draw("third"));
        let keys = Keys::new(&[one.entry.clone(), other.entry.clone()]);
        let found = keys.find(&other.key).unwrap();
        assert_eq!(found, Caller::Key { name: "other".into(), scopes: "read".parse().unwrap() });
        assert_eq!(keys.find(&third.key), Err(Refused::UnknownKey));
        assert!(!one.entry.to_string().contains(one.key.rsplit('_').next().unwrap()));
    }

    #[test]
    fn a_mistyped_key_is_told_apart_from_an_unknown_one() {
        let new = draw("one");
        let keys = Keys::new(&[new.entry]);
        let cut = &new.key[..new.key.len() - 1];
        for key in [cut, &format!("{}x", new.key), "tt_", "tt_0_", "tt__", "tt_12345678_x"] {
            assert_eq!(keys.find(key), Err(Refused::MistypedKey), "{key}");
        }
    }

    #[test]
    fn a_key_has_256_bits_of_chance_and_names_the_beginning_of_its_hash() {
        let (new, another) = (draw("one"), draw("one"));
        let parts: Vec<_> = new.key.splitn(3, '_').collect();
        assert_eq!((parts[0], URL_SAFE_NO_PAD.decode(parts[2]).unwrap().len()), ("tt", 32));
        assert!(new.entry.to_string().starts_with(&format!("one:read:{}", parts[1])));
        assert_ne!(new.key, another.key);
    }
}
