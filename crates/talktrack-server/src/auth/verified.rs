//! A cache of verified signatures. A client sends the same token with every request, and verifying its signature costs
//! more than all other checks. Only the signature is cached: all claims, including the expiry, are checked again each
//! time.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::keys::sha256;
use super::refused::Refused;
use super::signature::PinnedKey;

/// The maximum number of cached tokens. When it is reached, the cache is cleared, and the next request with each token
/// verifies one signature.
const CAPACITY: usize = 1_024;

/// The cache, by the hash of the token, so that it keeps no tokens in memory.
#[derive(Default)]
pub(super) struct Verified(Mutex<HashMap<[u8; 32], Signed>>);

struct Signed {
    /// The exact key instance that verified the signature. A key that was fetched again counts as another key.
    key: Arc<PinnedKey>,
    claims: Arc<str>,
}

impl Verified {
    /// Returns the claims of a token that this key has signed. Calls `verify` if the signature is not in the cache.
    pub(super) fn claims_or_verify(
        &self,
        token: &str,
        key: &Arc<PinnedKey>,
        verify: impl FnOnce() -> Result<Arc<str>, Refused>,
    ) -> Result<Arc<str>, Refused> {
        let digest = sha256(token);
        if let Some(signed) = self.0.lock().get(&digest).filter(|signed| Arc::ptr_eq(&signed.key, key)) {
            return Ok(Arc::clone(&signed.claims));
        }
        let claims = verify()?;
        let mut known = self.0.lock();
        if known.len() >= CAPACITY {
            known.clear();
        }
        known.insert(digest, Signed { key: Arc::clone(key), claims: Arc::clone(&claims) });
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey};

    use super::*;

    fn key() -> Arc<PinnedKey> {
        Arc::new(PinnedKey { algorithm: Algorithm::HS256, key: DecodingKey::from_secret(b"secret") })
    }

    /// True if the signature was verified rather than taken from the cache.
    fn checks(verified: &Verified, token: &str, key: &Arc<PinnedKey>) -> bool {
        let mut checked = false;
        let claims = verified.claims_or_verify(token, key, || {
            checked = true;
            Ok(token.into())
        });
        assert_eq!(claims.as_deref(), Ok(token), "the claims are the token's own");
        checked
    }

    #[test]
    fn a_signature_is_checked_once_for_each_token_and_key() {
        let verified = Verified::default();
        let one = key();
        let other = key();
        assert!(checks(&verified, "a", &one) && !checks(&verified, "a", &one));
        assert!(checks(&verified, "b", &one) && !checks(&verified, "a", &one));
        assert!(checks(&verified, "a", &other), "a key that was replaced vouches for nothing");
        assert!(checks(&verified, "a", &one));
    }

    #[test]
    fn a_bad_signature_is_not_remembered_as_a_good_one() {
        let verified = Verified::default();
        let key = key();
        assert_eq!(verified.claims_or_verify("a", &key, || Err(Refused::Signature)), Err(Refused::Signature));
        assert!(checks(&verified, "a", &key));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let verified = Verified::default();
        let key = key();
        for number in 0..3 * CAPACITY {
            checks(&verified, &number.to_string(), &key);
            assert!(verified.0.lock().len() <= CAPACITY);
        }
    }
}
