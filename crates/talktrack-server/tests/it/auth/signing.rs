//! Makes signing keys, and signs valid and invalid tokens with them.

use std::fmt::Display;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rsa::Generate as _;
use rsa::sha2::{Digest as _, Sha256};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};

/// One key for all tests, because making it takes a while.
static RSA: LazyLock<rsa::PrivateKey> = LazyLock::new(rsa::PrivateKey::generate);

/// A key that signs tokens.
pub(crate) struct SigningKey {
    pub(super) kid: String,
    kind: Kind,
}

enum Kind {
    Secret(Vec<u8>),
    Ecdsa(Box<EcdsaKeyPair>),
    Rsa,
}

impl SigningKey {
    pub(crate) fn secret(secret: impl AsRef<[u8]>) -> Self {
        Self { kid: "secret".into(), kind: Kind::Secret(secret.as_ref().to_owned()) }
    }

    pub(super) fn ecdsa(kid: &str) -> Self {
        let chance = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &chance).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &chance).unwrap();
        Self { kid: kid.into(), kind: Kind::Ecdsa(Box::new(pair)) }
    }

    pub(super) fn rsa(kid: &str) -> Self {
        Self { kid: kid.into(), kind: Kind::Rsa }
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match &self.kind {
            Kind::Secret(_) => "HS256",
            Kind::Ecdsa(_) => "ES256",
            Kind::Rsa => "RS256",
        }
    }

    /// Returns the public part as a JWK, as a project publishes it; for a secret, the secret itself.
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = match &self.kind {
            Kind::Secret(secret) => json!({"kty": "oct", "k": base64(secret)}),
            Kind::Ecdsa(_) => {
                let point = self.public_bytes();
                json!({"kty": "EC", "crv": "P-256", "x": base64(&point[1..33]), "y": base64(&point[33..])})
            }
            Kind::Rsa => json!({"kty": "RSA", "n": base64(self.public_bytes()), "e": base64(RSA.e_bytes())}),
        };
        let common = json!({"kid": self.kid, "alg": self.algorithm(), "use": "sig", "key_ops": ["verify"]});
        jwk.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
        jwk
    }

    /// Returns the point of an elliptic curve key or the modulus of an RSA key; for a secret, the secret itself.
    pub(super) fn public_bytes(&self) -> Vec<u8> {
        match &self.kind {
            Kind::Secret(secret) => secret.clone(),
            Kind::Ecdsa(pair) => pair.public_key().as_ref().to_owned(),
            Kind::Rsa => RSA.n_bytes().into(),
        }
    }

    /// Signs a token with these claims and the header that a project uses.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": self.algorithm(), "typ": "JWT", "kid": self.kid}), claims)
    }

    /// Signs a token with any header.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let signature = match &self.kind {
            Kind::Secret(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message.as_bytes()).as_ref().to_owned()
            }
            Kind::Ecdsa(pair) => {
                pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_owned()
            }
            Kind::Rsa => RSA.sign(rsa::Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(&message)).unwrap(),
        };
        format!("{message}.{}", base64(signature))
    }
}

/// Returns the claims of a valid token that expires in an hour.
pub(crate) fn claims(user: impl Display) -> Value {
    json!({"sub": user.to_string(), "aud": "authenticated", "role": "authenticated", "exp": now() + 3600})
}

/// Returns the seconds since the epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(super) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
