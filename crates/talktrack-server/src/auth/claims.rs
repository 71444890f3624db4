//! Checks the claims of a token whose signature is already verified: when it is valid, its audience, its issuer and its
//! subject.

use serde::Deserialize;
use serde_json::Value;
use talktrack::{InvalidUserId, UserId};

use super::refused::Refused;

/// The tolerance for differing clocks, in seconds.
pub(super) const LEEWAY: f64 = 30.0;

/// The end of the year 9999, in seconds since the epoch. A claim with a later time is refused.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// The claims that every token must have.
pub(super) struct Rules {
    pub(super) audience: String,
    /// `None` accepts every issuer that has the key.
    pub(super) issuer: Option<String>,
}

/// The claims that are checked, as JSON values of any type: a claim of a wrong type must not pass for a missing one.
#[derive(Deserialize)]
struct Claims {
    exp: Option<Value>,
    nbf: Option<Value>,
    aud: Option<Value>,
    iss: Option<Value>,
    sub: Option<Value>,
}

/// The user that a token is about, and when the token expires.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Subject {
    pub(super) user_id: UserId,
    /// The claim `exp`, in seconds since the epoch.
    pub(super) expires: f64,
}

/// Refuses a token that has expired at the time `now`, in seconds since the epoch.
pub(super) fn check_expiry(expires: f64, now: f64) -> Result<(), Refused> {
    if now >= expires + LEEWAY { Err(Refused::Expired) } else { Ok(()) }
}

impl Rules {
    /// Checks these claims, a JSON object, at the time `now` (seconds since the epoch), and returns the subject.
    pub(super) fn check_claims(&self, claims: &str, now: f64) -> Result<Subject, Refused> {
        let claims: Claims = serde_json::from_str(claims).map_err(|_| Refused::NotAToken)?;
        let expires = parse_time("exp", claims.exp.as_ref())?.ok_or(Refused::Missing("exp"))?;
        check_expiry(expires, now)?;
        if parse_time("nbf", claims.nbf.as_ref())?.is_some_and(|begins| now < begins - LEEWAY) {
            return Err(Refused::NotYet);
        }
        self.check_audience(claims.aud.as_ref())?;
        self.check_issuer(claims.iss.as_ref())?;
        parse_user_id(claims.sub.as_ref()).map(|user_id| Subject { user_id, expires })
    }

    fn check_audience(&self, claim: Option<&Value>) -> Result<(), Refused> {
        let is_ours = |name: &Value| name.as_str() == Some(&self.audience);
        match claim {
            None => Err(Refused::Missing("aud")),
            Some(Value::Array(names)) if names.iter().any(is_ours) => Ok(()),
            Some(name) if is_ours(name) => Ok(()),
            Some(_) => Err(Refused::Claim("aud", "the token is for another audience")),
        }
    }

    fn check_issuer(&self, claim: Option<&Value>) -> Result<(), Refused> {
        match (&self.issuer, claim) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(Refused::Missing("iss")),
            (Some(issuer), Some(name)) if name.as_str() == Some(issuer) => Ok(()),
            (Some(_), Some(_)) => Err(Refused::Claim("iss", "the token is from another issuer")),
        }
    }
}

/// Parses a claim with a time in seconds since the epoch. The standard requires a number, so text that looks like one
/// is refused.
fn parse_time(name: &'static str, claim: Option<&Value>) -> Result<Option<f64>, Refused> {
    let Some(claim) = claim else { return Ok(None) };
    let seconds = claim.as_f64().filter(|seconds| (0.0..=LAST_SECOND).contains(seconds));
    seconds.map(Some).ok_or(Refused::Claim(name, "must be a number of seconds since 1970"))
}

fn parse_user_id(claim: Option<&Value>) -> Result<UserId, Refused> {
    let text = claim.ok_or(Refused::Missing("sub"))?.as_str().unwrap_or_default();
    text.parse().map_err(|InvalidUserId| {
        Refused::Claim("sub", "must be a text of 1 to 256 bytes without control characters")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const USER: &str = "03f6b167-2b1c-4c8e-9d55-1f0a4c3f7a11";
    const NOW: f64 = 1_800_000_000.0;

    fn judge(change: impl FnOnce(&mut Value)) -> Result<UserId, Refused> {
        let rules = Rules { audience: "authenticated".into(), issuer: Some("https://x/auth/v1".into()) };
        let mut claims = json!({"exp": NOW + 60.0, "aud": "authenticated", "iss": "https://x/auth/v1", "sub": USER, "role": "x"});
        change(&mut claims);
        rules.check_claims(&claims.to_string(), NOW).map(|subject| subject.user_id)
    }

    fn without(name: &str) -> Result<UserId, Refused> {
        judge(|claims| _ = claims.as_object_mut().unwrap().remove(name))
    }

    fn with(name: &str, value: impl Into<Value>) -> Result<UserId, Refused> {
        judge(|claims| claims[name] = value.into())
    }

    #[test]
    fn good_claims_name_the_user() {
        let user = Ok(USER.parse().unwrap());
        assert_eq!(judge(|_| ()), user);
        assert_eq!(with("aud", json!(["other", "authenticated"])), user);
        assert_eq!((with("nbf", NOW), with("nbf", NOW + 29.0)), (user.clone(), user.clone()));
        assert_eq!((with("exp", NOW - 29.0), with("exp", NOW + 0.5)), (user.clone(), user));
    }

    #[test]
    fn every_claim_that_matters_is_demanded() {
        for name in ["exp", "aud", "iss", "sub"] {
            assert_eq!(without(name), Err(Refused::Missing(name)));
            assert!(matches!(with(name, Value::Null), Err(Refused::Missing(missing)) if missing == name));
        }
    }

    #[test]
    fn a_time_is_a_number_within_reason() {
        assert_eq!(
            (with("exp", NOW - 30.0), with("nbf", NOW + 31.0)),
            (Err(Refused::Expired), Err(Refused::NotYet))
        );
        for name in ["exp", "nbf"] {
            for value in
                [json!("1900000000"), json!(-1), json!(1e300), json!(u64::MAX), json!(true), json!([NOW])]
            {
                let why = with(name, value.clone());
                assert_eq!(
                    why,
                    Err(Refused::Claim(name, "must be a number of seconds since 1970")),
                    "{value}"
                );
            }
        }
    }

    #[test]
    fn somebody_elses_token_is_refused() {
        for value in [json!("anon"), json!([]), json!(["anon"]), json!(7), json!("Authenticated")] {
            assert!(matches!(with("aud", value), Err(Refused::Claim("aud", _))));
        }
        for value in [json!("https://y/auth/v1"), json!(["https://x/auth/v1"]), json!("https://x/auth/v1/")] {
            assert!(matches!(with("iss", value), Err(Refused::Claim("iss", _))));
        }
        for value in [json!(7), json!(""), json!("a\nb"), json!("x".repeat(257)), json!([USER]), json!(true)]
        {
            assert!(matches!(with("sub", value), Err(Refused::Claim("sub", _))));
        }
    }
}
