//! Tokens that forms and scripts of our own pages send along, and that no other page can know: a browser sends a cookie with
//! what any page asks for, and a page on another port of this machine counts as the same site.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

/// The header in which a token comes. A form has a field for it, which is moved into this header.
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";

/// The field of a form.
pub(crate) const CSRF_FIELD: &str = "csrf";

/// What a page's WebSocket puts before the token: it can send no header, but it can name subprotocols.
pub(super) const CSRF_PROTOCOL: &str = "csrf.";

/// Random bytes of each token. Each page has another token, so that its length after compression tells nothing about it.
const NONCE_BYTES: usize = 16;

/// The secret behind the tokens of one login; of the whole server if no identity is checked.
pub(super) struct CsrfKey(hmac::Key);

impl CsrfKey {
    /// A new secret; `None` if the system has no randomness to give.
    pub(super) fn draw() -> Option<Self> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok().map(Self)
    }

    /// A token for one page.
    pub(super) fn token(&self) -> String {
        let mut token = [0; NONCE_BYTES];
        if SystemRandom::new().fill(&mut token).is_err() {
            return String::new();
        }
        let signature = hmac::sign(&self.0, &token);
        URL_SAFE_NO_PAD.encode([&token, signature.as_ref()].concat())
    }

    /// True if this secret made the token.
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
        let (own, other) = (CsrfKey::draw().unwrap(), CsrfKey::draw().unwrap());
        let (first, second) = (own.token(), own.token());
        assert!(own.accepts(&first) && own.accepts(&second) && first != second);
        assert!(!other.accepts(&first));
        for bad in ["", "x", &first[1..], &format!("{first}A"), &"A".repeat(first.len())] {
            assert!(!own.accepts(bad), "{bad}");
        }
    }
}
