//! A set of published keys (RFC 7517): the keys that verify signatures with a supported algorithm, each under its
//! `kid`.

use std::collections::HashMap;
use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::signature::PinnedKey;

/// More keys than any project rotates through.
const MAX_KEYS: usize = 64;

/// The length of an uncompressed point on P-256: a byte that marks it as uncompressed, and two coordinates.
const POINT_BYTES: usize = 65;

/// The published keys by `kid`.
#[derive(Default)]
pub(super) struct KeySet(HashMap<String, Arc<PinnedKey>>);

impl KeySet {
    /// Parses the document. Keys that are not usable are skipped, because a project may publish keys of other kinds.
    ///
    /// # Errors
    /// Fails if the document is not a set of keys.
    pub(super) fn parse(document: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct KeySetDocument {
            keys: Vec<Value>,
        }
        let KeySetDocument { keys } =
            serde_json::from_slice(document).map_err(|_| "the answer is not a set of keys".to_owned())?;
        let mut set = HashMap::new();
        for (kid, key) in keys.into_iter().filter_map(parse_key).take(MAX_KEYS) {
            // The first key of a name is used. A second one is a mistake, or an attempt to slip a key in.
            set.entry(kid).or_insert_with(|| Arc::new(key));
        }
        Ok(Self(set))
    }

    pub(super) fn find(&self, kid: &str) -> Option<Arc<PinnedKey>> {
        self.0.get(kid).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Returns the key and its `kid` if the key is for signatures and its algorithm matches its type.
fn parse_key(key: Value) -> Option<(String, PinnedKey)> {
    let jwk: Jwk = serde_json::from_value(key).ok()?;
    let common = &jwk.common;
    let is_to_sign = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature))
        && common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(point) if point.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        // A published secret is not secret, so symmetric keys are never used.
        _ => return None,
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let is_whole = key.try_get_as_bytes().map_or(true, |point| point.len() == POINT_BYTES);
    let agrees = common.key_algorithm.as_ref().is_none_or(|algorithm| *algorithm == named);
    let kid = common.key_id.clone().filter(|kid| !kid.is_empty())?;
    (is_to_sign && agrees && is_whole).then_some((kid, PinnedKey { algorithm, key }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn point() -> Value {
        let coordinate = "A".repeat(43);
        json!({"kty": "EC", "crv": "P-256", "kid": "a", "x": coordinate, "y": coordinate})
    }

    fn taken(change: impl FnOnce(&mut Value)) -> Option<Algorithm> {
        let mut key = point();
        change(&mut key);
        let set = KeySet::parse(json!({"keys": [key]}).to_string().as_bytes()).unwrap();
        set.find("a").map(|key| key.algorithm)
    }

    #[test]
    fn a_key_has_the_algorithm_of_its_kind() {
        assert_eq!(taken(|_| ()), Some(Algorithm::ES256));
        let whole = json!({"use": "sig", "key_ops": ["verify"], "alg": "ES256", "ext": true});
        assert_eq!(
            taken(|key| key.as_object_mut().unwrap().extend(whole.as_object().unwrap().clone())),
            Some(Algorithm::ES256)
        );
        let rsa = json!({"kty": "RSA", "kid": "a", "n": "A".repeat(342), "e": "AQAB"});
        assert_eq!(taken(|key| *key = rsa), Some(Algorithm::RS256));
    }

    #[test]
    fn what_does_not_sign_for_us_is_passed_over() {
        for (name, value) in [
            ("use", json!("enc")),
            ("key_ops", json!(["encrypt"])),
            ("alg", json!("ES384")),
            ("alg", json!("HS256")),
            ("kid", json!("")),
            ("kid", Value::Null),
            ("crv", json!("P-384")),
            ("x", json!("AAAA")),
            ("x", json!("not base64!")),
            ("kty", json!("OKP")),
        ] {
            assert_eq!(taken(|key| key[name] = value.clone()), None, "{name}: {value}");
        }
        let secret = json!({"kty": "oct", "kid": "a", "k": "A".repeat(43), "alg": "HS256"});
        assert_eq!(taken(|key| *key = secret), None);
    }

    #[test]
    fn an_odd_key_does_not_spoil_its_neighbours_and_a_name_counts_once() {
        let rsa = json!({"kty": "RSA", "kid": "a", "n": "A".repeat(342), "e": "AQAB"});
        let document = json!({"keys": [7, {"kty": "new"}, point(), rsa]}).to_string();
        let set = KeySet::parse(document.as_bytes()).unwrap();
        assert_eq!((set.len(), set.find("a").unwrap().algorithm), (1, Algorithm::ES256));
    }

    #[test]
    fn nonsense_is_no_set_of_keys_and_an_empty_one_is() {
        for document in ["", "<html>", "[]", "{}", r#"{"keys":7}"#, r#"{"keys":{}}"#] {
            assert!(KeySet::parse(document.as_bytes()).is_err(), "{document}");
        }
        assert_eq!(KeySet::parse(br#"{"keys":[]}"#).unwrap().len(), 0);
    }
}
