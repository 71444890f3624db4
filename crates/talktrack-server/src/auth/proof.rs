//! The proof of a caller's identity.

use std::sync::Arc;

use super::User;

/// The hash of a login's id. It identifies the login but does not authenticate.
pub(super) type LoginHash = [u8; 32];

/// What proved the identity of a caller. The proof is checked again for as long as a connection or a login lasts.
#[derive(Debug, Clone)]
pub(super) enum Proof {
    /// No identity is checked.
    Nothing,
    /// The API key with this hash.
    Key([u8; 32]),
    Token(Arc<CheckedToken>),
    /// A login to the dashboard, which rests on a key or a token.
    Login(LoginHash),
}

/// The contents of a user's token. The token itself is not kept.
#[derive(Debug)]
pub(super) struct CheckedToken {
    pub(super) user: User,
    /// The claim `exp`, in seconds since the epoch.
    pub(super) expires: f64,
    /// The published key that signed the token; `None` for the secret from the settings.
    pub(super) kid: Option<String>,
}
