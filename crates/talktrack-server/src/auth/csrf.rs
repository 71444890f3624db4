//! CSRF tokens: forms and scripts of the server's own pages send them, and no other page can know them. The cookie
//! alone is not enough: a browser sends it with requests of any page, and a page on another port of this machine counts
//! as the same site.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

/// The header that carries a token. A form has a field for the token, which the server moves into this header.
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";

/// The form field that carries a token.
pub(crate) const CSRF_FIELD: &str = "csrf";

/// The prefix of a token among the subprotocols. A page cannot send headers with a WebSocket request, but it can name
/// subprotocols.
pub(super) const CSRF_PROTOCOL: &str = "csrf.";

/// Random bytes in each token. Each page gets a different token, so that the compressed length of a page reveals
/// nothing about the token.
const NONCE_BYTES: usize = 16;

/// The secret that signs the tokens of one login, or of the whole server if no identity is checked.
pub(super) struct CsrfKey(hmac::Key);

impl CsrfKey {
    /// Generates a secret; `None` if the system's random generator fails.
    pub(super) fn generate() -> Option<Self> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok().map(Self)
    }

    /// Returns a new token for one page; an empty string if the system's random generator fails.
    pub(super) fn new_token(&self) -> String {
        let mut token = [0; NONCE_BYTES];
        if SystemRandom::new().fill(&mut token).is_err() {
            return String::new();
        }
        let signature = hmac::sign(&self.0, &token);
        URL_SAFE_NO_PAD.encode([&token, signature.as_ref()].concat())
    }

    /// True if this secret signed the token.
    pub(super) fn accepts(&self, token: &str) -> bool {
        let bytes = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
        bytes
            .split_at_checked(NONCE_BYTES)
            .is_some_and(|(nonce, signature)| hmac::verify(&self.0, nonce, signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_for_the_login_it_was_made_for_and_for_no_other() {
        let own = CsrfKey::generate().unwrap();
        let other = CsrfKey::generate().unwrap();
        let first = own.new_token();
        let second = own.new_token();
        assert!(own.accepts(&first) && own.accepts(&second) && first != second);
        assert!(!other.accepts(&first));
        for bad in ["", "x", &first[1..], &format!("{first}A"), &"A".repeat(first.len())] {
            assert!(!own.accepts(bad), "{bad}");
        }
    }
}
