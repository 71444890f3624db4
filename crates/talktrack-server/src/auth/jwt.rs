//! Users' tokens: JWTs of Supabase. The token's header selects the key. The key determines the algorithm, and the token
//! must name the same one.

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

/// A longer token is refused without being parsed. The tokens of Supabase have 1 to 2 KiB.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// Everything that tokens are checked with.
pub(super) struct Tokens {
    /// The secret for HS256 tokens.
    secret: Option<Arc<PinnedKey>>,
    /// The published keys for ES256 and RS256 tokens.
    jwks: Option<Jwks>,
    rules: Rules,
    /// What the server allows tokens of users to do.
    access: UserAccess,
    /// A cache of verified signatures.
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

    /// Refreshes the published keys for as long as the server runs. Returns immediately if no keys are published.
    pub(super) async fn keep_keys_fresh(&self) {
        if let Some(jwks) = &self.jwks {
            jwks.keep_fresh().await;
        }
    }

    /// Verifies a token and returns its contents.
    ///
    /// # Errors
    /// Says why the token is refused.
    pub(super) async fn check_token(&self, token: &str) -> Result<CheckedToken, Refused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::NotAToken);
        }
        let (key, kid) = self.key_for(token).await?;
        let claims = self.verified.claims_or_verify(token, &key, || verify_signature(token, &key))?;
        let Subject { user_id, expires } = self.rules.check_claims(&claims, seconds_since_epoch())?;
        Ok(CheckedToken { user: User { user_id, claims, access: self.access }, expires, kid })
    }

    /// Refuses a token that was valid before and has expired since, or whose key the project has withdrawn.
    pub(super) fn check_again(&self, token: &CheckedToken) -> Result<(), Refused> {
        check_expiry(token.expires, seconds_since_epoch())?;
        match (&token.kid, &self.jwks) {
            (Some(kid), Some(jwks)) if !jwks.has_key(kid) => Err(Refused::UnknownKeyId),
            _ => Ok(()),
        }
    }

    /// Returns the key that must have signed the token, and its name if it is a published key.
    async fn key_for(&self, token: &str) -> Result<(Arc<PinnedKey>, Option<String>), Refused> {
        let header = decode_header(token).map_err(|error| match error.kind() {
            // The header is JSON but does not deserialise: it names an algorithm that does not exist, such as `none`.
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
                Ok((jwks.find_key(&kid).await?, Some(kid)))
            }
            _ => Err(Refused::Algorithm),
        }
    }
}

/// Verifies the signature with this key and returns the claims.
fn verify_signature(token: &str, key: &PinnedKey) -> Result<Arc<str>, Refused> {
    let mut validation = Validation::new(key.algorithm);
    // The library checks only the signature. `Rules` checks all claims, so that each refusal has its own reason.
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
    // With a clock before 1970 no token can be judged, so every token counts as expired.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(f64::INFINITY, |elapsed| elapsed.as_secs_f64())
}
