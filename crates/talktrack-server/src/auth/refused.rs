//! Why a token is not taken. Said to whoever sent it, so that they can mend it; the token itself is never repeated.

use thiserror::Error;

use crate::error::Problem;

/// Seconds after which it is worth to ask again where the published keys are out of reach.
const RETRY_AFTER: u32 = 5;

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Refused {
    /// The request carries none.
    #[error("no token: send Authorization: Bearer TOKEN")]
    NoToken,
    /// The header carries something else, or stands there twice.
    #[error("Authorization: must be Bearer and a token, once")]
    NotBearer,
    /// It begins like an API key, and does not have the form of one.
    #[error("the API key is mistyped or cut off")]
    MistypedKey,
    /// It has the form of an API key that the settings do not hold.
    #[error("the API key is not known here")]
    UnknownKey,
    /// It was revoked.
    #[error("the API key was revoked")]
    RevokedKey,
    /// Its time is over.
    #[error("the API key has expired")]
    ExpiredKey,
    /// It may not be used from the address that the request comes from.
    #[error("the API key may not be used from this address")]
    KeyElsewhere,
    /// The login to the dashboard has ended, or there was none.
    #[error("you are not logged in any more; log in again")]
    LoginOver,
    /// The cookie of a login came with a request that changes something, and the page that sent it is not one of ours.
    #[error("Origin: with the cookie of a login only the server's own pages may do this")]
    OtherPage,
    /// The cookie of a login came without the token that our own pages send.
    #[error("the page is out of date, or not one of this server's: load it again (X-CSRF-Token)")]
    NoCsrfToken,
    /// A connection may be continued by a token of the same user, or a key of the same name, alone.
    #[error(
        "token: must be of the same user, or a key of the same name, as the one that opened the connection"
    )]
    OtherSubject,
    /// Only API keys are taken here.
    #[error("the token is no API key, and nothing else is taken here")]
    NotAKey,
    /// It is no JWT.
    #[error("the token is no JWT")]
    NotAToken,
    /// Its header names an algorithm that no key of ours has, or none at all.
    #[error("alg: must be one of those configured: HS256 with a secret, ES256 or RS256 with published keys")]
    Algorithm,
    /// Its header demands what we do not understand.
    #[error("crit: is not supported")]
    Critical,
    /// Its header does not say which of the published keys has signed it.
    #[error("kid: missing")]
    NoKeyId,
    /// It was signed with a key that is not, or no longer, among the published ones.
    #[error("kid: is none of the published keys")]
    UnknownKeyId,
    /// The published keys could not be fetched, so nobody can say. To be tried again.
    #[error("the keys to check the token with cannot be fetched just now; try again")]
    KeysOutOfReach,
    /// The signature is another's, or the token was changed.
    #[error("the signature does not fit")]
    Signature,
    /// A claim is missing.
    #[error("{0}: missing")]
    Missing(&'static str),
    /// A claim says what it must not.
    #[error("{0}: {1}")]
    Claim(&'static str, &'static str),
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("nbf: the token is not valid yet")]
    NotYet,
}

impl Refused {
    /// True if somebody who was not let in may have tried to get in: these are written into the audit log. A token that has
    /// expired, or that was forgotten, is everyday.
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
