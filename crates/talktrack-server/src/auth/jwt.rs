//! Users' tokens: JWTs of Supabase. Which key counts is found by the token's header; which algorithm that key is for, the key
//! knows, and the token has to agree.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::value::RawValue;

use super::User;
use super::claims::{Rules, Subject, check_expiry};
use super::jwks::Jwks;
use super::proof::CheckedToken;
use super::refused::Refused;
use super::signature::{self, PinnedKey};
use super::verified::Verified;
use crate::config::{Identity, UserAccess};

/// A longer token is refused unread. Supabase's have 1 to 2 KiB.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// What tokens are checked with.
pub(super) struct Tokens {
    /// The key of HS256 tokens.
    secret: Option<Arc<PinnedKey>>,
    /// The published keys.
    jwks: Option<Jwks>,
    rules: Rules,
    /// What a user's token may do.
    access: UserAccess,
    /// Signatures that need not be checked again.
    verified: Verified,
}

impl Tokens {
    pub(super) fn new(identity: &Identity) -> Self {
        signature::use_ring();
        let secret = identity.supabase_jwt_secret.as_ref().map(|secret| {
            let key = DecodingKey::from_secret(secret.reveal().as_bytes());
            Arc::new(PinnedKey { algorithm: Algorithm::HS256, key })
        });
        Self {
            secret,
            jwks: identity.supabase_url.as_deref().map(Jwks::of_project),
            access: identity.user_access,
            rules: Rules { audience: identity.jwt_audience.clone(), issuer: identity.jwt_issuer.clone() },
            verified: Verified::default(),
        }
    }

    /// Fetches the published keys, again and again. Returns at once where there are none to fetch.
    pub(super) async fn keep_keys_fresh(&self) {
        if let Some(jwks) = &self.jwks {
            jwks.keep_fresh().await;
        }
    }

    /// What this token says, if it counts.
    pub(super) async fn check(&self, token: &str) -> Result<CheckedToken, Refused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::NotAToken);
        }
        let (key, kid) = self.key_for(token).await?;
        let claims = self.verified.claims(token, &key, || verify(token, &key))?;
        let Subject { user_id, expires } = self.rules.subject(&claims, seconds_since_epoch())?;
        Ok(CheckedToken { user: User { user_id, claims, access: self.access }, expires, kid })
    }

    /// Refuses a token that counted before and does not any more: it has expired, or the project took its key back.
    pub(super) fn check_again(&self, token: &CheckedToken) -> Result<(), Refused> {
        check_expiry(token.expires, seconds_since_epoch())?;
        match (&token.kid, &self.jwks) {
            (Some(kid), Some(jwks)) if !jwks.has(kid) => Err(Refused::UnknownKeyId),
            _ => Ok(()),
        }
    }

    /// The key that must have signed the token, and its name if it is a published one.
    async fn key_for(&self, token: &str) -> Result<(Arc<PinnedKey>, Option<String>), Refused> {
        let header = decode_header(token).map_err(|error| match error.kind() {
            // A header that is JSON and cannot be read names an algorithm that does not exist, such as `none`.
            ErrorKind::Json(error) if error.is_data() => Refused::Algorithm,
            _ => Refused::NotAToken,
        })?;
        if header.crit.is_some() {
            return Err(Refused::Critical);
        }
        match (header.alg, &self.secret, &self.jwks) {
            (Algorithm::HS256, Some(secret), _) => Ok((Arc::clone(secret), None)),
            (Algorithm::ES256 | Algorithm::RS256, _, Some(jwks)) => {
                let kid = header.kid.ok_or(Refused::NoKeyId)?;
                Ok((jwks.key(&kid).await?, Some(kid)))
            }
            _ => Err(Refused::Algorithm),
        }
    }
}

/// The claims of a token that this key has signed.
fn verify(token: &str, key: &PinnedKey) -> Result<Arc<str>, Refused> {
    let mut validation = Validation::new(key.algorithm);
    // The signature is this library's business. The claims are ours, all of them: `Rules` says why each is refused.
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    match decode::<Box<RawValue>>(token, &key.key, &validation) {
        Ok(token) => Ok(token.claims.get().into()),
        Err(error) => Err(match error.kind() {
            ErrorKind::InvalidAlgorithm => Refused::Algorithm,
            ErrorKind::InvalidSignature => Refused::Signature,
            _ => Refused::NotAToken,
        }),
    }
}

fn seconds_since_epoch() -> f64 {
    // By a clock that stands before 1970 nothing can be judged: then every token has expired.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(f64::INFINITY, |elapsed| elapsed.as_secs_f64())
}
