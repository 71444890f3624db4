//! Why credentials are refused. The message tells the sender how to correct the request and never repeats the token.

use thiserror::Error;

use crate::error::Problem;

/// After how many seconds a client should retry while the published keys cannot be fetched.
const RETRY_AFTER: u32 = 5;

/// Why a caller is not authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Refused {
    /// The request carries no credentials.
    #[error("no token: send Authorization: Bearer TOKEN")]
    NoToken,
    /// The `Authorization` header has another scheme, or is present twice.
    #[error("Authorization: must occur once, as Bearer TOKEN")]
    NotBearer,
    /// The token has the prefix of an API key, but is malformed or its id does not match.
    #[error("the API key is mistyped or cut off")]
    MistypedKey,
    /// The API key is well-formed but not known.
    #[error("the API key is unknown")]
    UnknownKey,
    /// The API key was revoked.
    #[error("the API key was revoked")]
    RevokedKey,
    /// The API key has expired.
    #[error("the API key has expired")]
    ExpiredKey,
    /// The API key may not be used from the address of the request.
    #[error("the API key may not be used from this address")]
    KeyElsewhere,
    /// The login to the dashboard has ended, or never existed.
    #[error("you are no longer logged in; log in again")]
    LoginOver,
    /// A login cookie came with a request that changes something, and the page that sent it is not one of the server's
    /// own.
    #[error("Origin: with the cookie of a login, only the server's own pages may do this")]
    OtherPage,
    /// A login cookie came without the CSRF token that the server's own pages send.
    #[error("the page is outdated, or not from this server: load it again (X-CSRF-Token)")]
    NoCsrfToken,
    /// A connection may be renewed only with a token of the same user or a key of the same name.
    #[error(
        "token: must be of the same user, or a key of the same name, as the token that opened the connection"
    )]
    OtherSubject,
    /// The token is not an API key, and the server accepts only API keys.
    #[error("the token is not an API key, and this server accepts nothing else")]
    NotAKey,
    /// The token is not a JWT.
    #[error("the token is not a JWT")]
    NotAToken,
    /// The header of the token names an algorithm that no configured key has, or none at all.
    #[error("alg: must be a configured algorithm: HS256 with a secret, ES256 or RS256 with published keys")]
    Algorithm,
    /// The header of the token demands an extension (`crit`) that the server does not support.
    #[error("crit: is not supported")]
    Critical,
    /// The header of the token does not name the published key that signed it.
    #[error("kid: missing")]
    NoKeyId,
    /// The key that signed the token is not, or is no longer, among the published keys.
    #[error("kid: is not one of the published keys")]
    UnknownKeyId,
    /// The published keys cannot be fetched, so the token cannot be checked. The client should retry.
    #[error("the server cannot fetch the keys that verify the token now; try again")]
    KeysOutOfReach,
    /// The signature is of another key, or the token was modified.
    #[error("the signature is not valid")]
    Signature,
    /// A claim is missing.
    #[error("{0}: missing")]
    Missing(&'static str),
    /// A claim has a value that is not allowed.
    #[error("{0}: {1}")]
    Claim(&'static str, &'static str),
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
    /// The token is not valid yet.
    #[error("nbf: the token is not valid yet")]
    NotYet,
}

impl Refused {
    /// True if the refusal may be an attempt to break in. Such refusals are written to the audit log. An expired or
    /// missing token is an everyday event and is not.
    pub(super) fn is_an_attempt(self) -> bool {
        matches!(
            self,
            Self::MistypedKey
                | Self::UnknownKey
                | Self::RevokedKey
                | Self::ExpiredKey
                | Self::KeyElsewhere
                | Self::Algorithm
                | Self::UnknownKeyId
                | Self::Signature
                | Self::OtherPage
                | Self::NoCsrfToken
                | Self::OtherSubject
        )
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::KeysOutOfReach => Self::unavailable(refused.to_string(), RETRY_AFTER),
            Refused::KeyElsewhere | Refused::OtherPage | Refused::NoCsrfToken => {
                Self::forbidden(refused.to_string())
            }
            _ => Self::unauthorized(refused.to_string()),
        }
    }
}
