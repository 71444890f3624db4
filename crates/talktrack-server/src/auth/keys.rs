//! API keys for servers: `tt_<id>_<secret>`. The secret is 256 random bits, and the settings contain only its SHA-256.
//! Passwords need a slow hash because they can be guessed; 256 random bits cannot, so a fast hash is as safe and costs
//! nothing. The id is the beginning of the hash: it identifies the key in logs without revealing it, and it detects
//! typing errors.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;
use talktrack::Timestamp;

use super::KeyHolder;
use super::refused::Refused;
use crate::config::{ApiKey, Scopes};

/// The prefix of every key, by which people and scanners for leaked secrets recognise one.
const PREFIX: &str = "tt_";

/// Random bytes in a key.
const SECRET_BYTES: usize = 32;

/// Bytes of the hash that form the id.
const ID_BYTES: usize = 4;

/// The keys that the server accepts now. They may be replaced while the server runs.
pub(super) struct KeyRing(RwLock<Arc<Vec<Arc<KnownKey>>>>);

/// A key that the server knows, with its holder.
#[derive(Debug)]
pub(super) struct KnownKey {
    entry: ApiKey,
    holder: Arc<KeyHolder>,
}

impl KeyRing {
    pub(super) fn new(keys: &[ApiKey]) -> Self {
        let ring = Self(RwLock::default());
        ring.replace(keys);
        ring
    }

    /// Replaces all keys with these.
    pub(super) fn replace(&self, keys: &[ApiKey]) {
        let known = |key: &ApiKey| {
            let name = Arc::from(&*key.name);
            let scopes = key.scopes;
            let users = key.users.clone();
            let holder = Arc::new(KeyHolder { name, scopes, users });
            Arc::new(KnownKey { entry: key.clone(), holder })
        };
        *self.0.write() = Arc::new(keys.iter().map(known).collect());
    }

    /// Finds this key, and checks that it may be used from this address at this time.
    pub(super) fn find(
        &self,
        key: &str,
        from: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Arc<KnownKey>, Refused> {
        let digest = digest_of(key).ok_or(Refused::MistypedKey)?;
        self.find_digest(&digest, from, now)
    }

    /// Finds a key as [`Self::find`] does, but by the hash of its secret.
    pub(super) fn find_digest(
        &self,
        digest: &[u8; 32],
        from: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Arc<KnownKey>, Refused> {
        let ring = Arc::clone(&self.0.read());
        // Compares in constant time, so that the duration does not reveal how much of a guess was right.
        let known = ring.iter().find(|known| known.entry.digest.ct_eq(digest).into());
        let known = known.ok_or(Refused::UnknownKey)?;
        if known.entry.revoked.is_some() {
            return Err(Refused::RevokedKey);
        }
        if known.entry.expires.is_some_and(|expires| now >= expires) {
            return Err(Refused::ExpiredKey);
        }
        if from.is_some_and(|from| !known.entry.allows_address(from)) {
            return Err(Refused::KeyElsewhere);
        }
        Ok(Arc::clone(known))
    }
}

impl KnownKey {
    pub(super) fn holder(&self) -> &Arc<KeyHolder> {
        &self.holder
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        self.entry.digest
    }

    pub(super) fn expires(&self) -> Option<Timestamp> {
        self.entry.expires
    }
}

/// True if a token has the prefix of an API key.
pub(super) fn is_one(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// Returns the hash of a key's secret; `None` if the key is malformed or its id does not match.
fn digest_of(key: &str) -> Option<[u8; 32]> {
    let (id, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    let digest = sha256(secret);
    (id == id_of(&digest)).then_some(digest)
}

/// Returns the id of a key as it appears in the key and in logs: the beginning of its hash.
pub(crate) fn id_of(digest: &[u8; 32]) -> String {
    digest[..ID_BYTES].iter().fold(String::new(), |mut id, byte| {
        // Writing to a string cannot fail.
        let _ = write!(id, "{byte:02x}");
        id
    })
}

pub(super) fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

/// A newly generated key. It implements no `Debug`, because it contains the secret.
pub(crate) struct NewKey {
    /// The key that the caller sends. It is shown once and stored nowhere.
    pub(crate) key: String,
    /// The entry for the settings or the file of API keys.
    pub(crate) entry: ApiKey,
}

impl NewKey {
    /// Generates a key; `None` if the system's random generator fails.
    pub(crate) fn generate(name: String, scopes: Scopes) -> Option<Self> {
        let mut chance = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut chance).ok()?;
        let secret = URL_SAFE_NO_PAD.encode(chance);
        let digest = sha256(&secret);
        let key = format!("{PREFIX}{}_{secret}", id_of(&digest));
        Some(Self { key, entry: ApiKey::new(name, scopes, digest) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(name: &str) -> NewKey {
        NewKey::generate(name.into(), "read".parse().unwrap()).unwrap()
    }

    fn now() -> Timestamp {
        "2026-12-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_key_is_found_by_its_hash_alone() {
        let one = draw("one");
        let other = draw("other");
        let third = draw("third");
        let keys = KeyRing::new(&[one.entry.clone(), other.entry.clone()]);
        let found = keys.find(&other.key, None, now()).unwrap();
        assert_eq!((&*found.holder().name, found.holder().scopes), ("other", "read".parse().unwrap()));
        assert_eq!(keys.find(&third.key, None, now()).err(), Some(Refused::UnknownKey));
        assert!(!one.entry.to_string().contains(one.key.splitn(3, '_').nth(2).unwrap()));
    }

    #[test]
    fn a_key_counts_until_it_expires_or_is_revoked_and_from_its_networks_only() {
        let new = draw("one");
        let with = |change: fn(&mut ApiKey)| {
            let mut entry = new.entry.clone();
            change(&mut entry);
            let from = Some("10.0.0.1".parse().unwrap());
            KeyRing::new(&[entry]).find(&new.key, from, now()).err()
        };
        assert_eq!(with(|_| ()), None);
        assert_eq!(with(|key| key.expires = Some(now())), Some(Refused::ExpiredKey));
        assert_eq!(with(|key| key.expires = "2026-12-01T00:00:01Z".parse().ok()), None);
        assert_eq!(with(|key| key.revoked = "2099-01-01T00:00:00Z".parse().ok()), Some(Refused::RevokedKey));
        assert_eq!(with(|key| key.networks = Some(vec!["10.0.0.0/8".parse().unwrap()])), None);
        assert_eq!(
            with(|key| key.networks = Some(vec!["192.0.2.0/24".parse().unwrap()])),
            Some(Refused::KeyElsewhere)
        );
    }

    #[test]
    fn a_mistyped_key_is_told_apart_from_an_unknown_one() {
        let new = draw("one");
        let keys = KeyRing::new(&[new.entry]);
        let cut = &new.key[..new.key.len() - 1];
        for key in [cut, &format!("{}x", new.key), "tt_", "tt_0_", "tt__", "tt_12345678_x"] {
            assert_eq!(keys.find(key, None, now()).err(), Some(Refused::MistypedKey), "{key}");
        }
    }

    #[test]
    fn a_key_has_256_bits_of_chance_and_names_the_beginning_of_its_hash() {
        let new = draw("one");
        let another = draw("one");
        let parts: Vec<_> = new.key.splitn(3, '_').collect();
        assert_eq!((parts[0], URL_SAFE_NO_PAD.decode(parts[2]).unwrap().len()), ("tt", 32));
        assert!(new.entry.to_string().starts_with(&format!("one:read:{}", parts[1])));
        assert_ne!(new.key, another.key);
    }
}
