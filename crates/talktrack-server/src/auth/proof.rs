//! What proved who a caller is.

use std::sync::Arc;

use super::User;

/// The hash of the id of a login: it names the login and opens nothing.
pub(super) type LoginHash = [u8; 32];

/// What proved who a caller is. It is checked again for as long as a connection or a login lasts.
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

/// What a user's token said. The token itself is not kept.
#[derive(Debug)]
pub(super) struct CheckedToken {
    pub(super) user: User,
    /// The claim `exp`, in seconds since the epoch.
    pub(super) expires: f64,
    /// The published key that signed it; `None` for the secret of the settings.
    pub(super) kid: Option<String>,
}
