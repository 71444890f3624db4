//! Who asks, and what they may do. A server comes with an API key, a user with a JWT of Supabase; where the settings name
//! neither, nobody is asked, and the server answers on its own machine only. Handlers get a [`Caller`] and never see a token.

mod claims;
mod jwt;
mod verified;
mod jwks;
mod key_set;
mod fetch;
mod signature;
mod keys;
pub(crate) mod cookie;
mod refused;

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use uuid::Uuid;

pub(crate) use keys::NewKey;

use crate::config::{Identity, Scope, Scopes};
use crate::error::Problem;
use crate::limits::{Account, Limits};
use jwt::Tokens;
use keys::Keys;
use refused::Refused;

/// What a browser's WebSocket puts before the token: it can send no `Authorization`, but it can name subprotocols.
const BEARER_PROTOCOL: &str = "bearer.";

/// Who asks. Taken from the request by axum, so that a handler that names it cannot be reached without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// No identity is checked: somebody on this machine, who may do everything.
    Anyone,
    /// A server, which speaks for all users within its scopes.
    Key { name: Arc<str>, scopes: Scopes },
    /// A user, who reads and writes their own and nothing else.
    User(User),
}

/// A user who has proved to be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) user_id: Uuid,
    /// All claims of the token, as the JSON object that was signed: PostgreSQL's policies read them.
    pub(crate) claims: Arc<str>,
}

impl Caller {
    /// Refuses callers who may not do what needs this scope. Passing it, a user may still do it to their own only.
    pub(crate) fn require(&self, scope: Scope) -> Result<(), Problem> {
        let allowed = match self {
            Self::Anyone => true,
            Self::Key { scopes, .. } => scopes.allow(scope),
            Self::User(_) => matches!(scope, Scope::Read | Scope::Write),
        };
        if allowed {
            return Ok(());
        }
        Err(Problem::forbidden(format!("this needs an API key with the scope {}", scope.name())))
    }

    /// The user who asks, where one does: they see nobody else's.
    pub(crate) fn user(&self) -> Option<&User> {
        match self {
            Self::User(user) => Some(user),
            Self::Anyone | Self::Key { .. } => None,
        }
    }

    /// On whose account it goes; `None` where nobody is asked.
    pub(crate) fn account(&self) -> Option<Account> {
        match self {
            Self::Anyone => None,
            Self::Key { name, .. } => Some(Account::Key(Arc::clone(name))),
            Self::User(user) => Some(Account::User(user.user_id)),
        }
    }

    /// Whether what belongs to this user may be shown to the caller.
    pub(crate) fn may_see(&self, user_id: Uuid) -> bool {
        self.user().is_none_or(|user| user.user_id == user_id)
    }

    /// Whom a request is about that may name a user: a user is always meant themselves, and refused where they name another.
    pub(crate) fn speaks_for(&self, named: Option<Uuid>) -> Result<Option<Uuid>, Problem> {
        match (self.user(), named) {
            (None, named) => Ok(named),
            (Some(user), Some(named)) if named != user.user_id => {
                Err(Problem::forbidden("user_id: is not the one the token was made for"))
            }
            (Some(user), _) => Ok(Some(user.user_id)),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    Gate: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Gate::from_ref(state).admit(&parts.headers).await
    }
}

/// Where callers are told apart. Clones are one.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Checks>);

/// What a token may prove to be.
struct Checks {
    /// Nobody is asked.
    is_open: bool,
    keys: Keys,
    /// `None` where no users are expected.
    tokens: Option<Tokens>,
    limits: Limits,
}

impl Gate {
    pub(crate) fn new(identity: &Identity, limits: Limits) -> Self {
        Self(Arc::new(Checks {
            is_open: !identity.is_configured(),
            keys: Keys::new(&identity.api_keys),
            tokens: identity.takes_users().then(|| Tokens::new(identity)),
            limits,
        }))
    }

    /// Nobody is asked who they are.
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_open
    }

    /// Fetches the published keys of users' tokens, again and again. Returns at once where there are none to fetch.
    pub(crate) async fn keep_keys_fresh(self) {
        if let Some(tokens) = &self.0.tokens {
            tokens.keep_keys_fresh().await;
        }
    }

    /// Who sends these headers. It counts as one request on their account.
    pub(crate) async fn admit(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        if self.0.is_open {
            return Ok(Caller::Anyone);
        }
        let admitted = match bearer(headers) {
            Ok(token) => self.0.check(token).await,
            Err(refused) => Err(refused),
        };
        let caller = admitted.map_err(|refused| {
            tracing::debug!(%refused, "a request is refused");
            Problem::from(refused)
        })?;
        self.0.limits.take_from(caller.account().as_ref())?;
        Ok(caller)
    }
}

impl Checks {
    async fn check(&self, token: &str) -> Result<Caller, Refused> {
        match &self.tokens {
            _ if keys::is_one(token) => self.keys.find(token),
            Some(tokens) => tokens.check(token).await.map(Caller::User),
            None => Err(Refused::NotAKey),
        }
    }
}

/// The token that a request carries.
fn bearer(headers: &HeaderMap) -> Result<&str, Refused> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    match (given.next(), given.next()) {
        (None, _) => in_subprotocols(headers).or_else(|| cookie::token(headers)).ok_or(Refused::NoToken),
        (Some(value), None) => after_scheme(value).ok_or(Refused::NotBearer),
        (Some(_), Some(_)) => Err(Refused::NotBearer),
    }
}

fn after_scheme(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

fn in_subprotocols(headers: &HeaderMap) -> Option<&str> {
    let lists = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).find_map(|protocol| protocol.trim().strip_prefix(BEARER_PROTOCOL))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scopes: &str) -> Caller {
        Caller::Key { name: "k".into(), scopes: scopes.parse().unwrap() }
    }

    fn user(id: u128) -> Caller {
        Caller::User(User { user_id: Uuid::from_u128(id), claims: "{}".into() })
    }

    #[test]
    fn a_key_does_what_its_scopes_say_and_a_user_reads_and_writes() {
        let allowed = |caller: &Caller| {
            [Scope::Read, Scope::Write, Scope::Metrics, Scope::Admin]
                .map(|scope| caller.require(scope).is_ok())
        };
        assert_eq!(allowed(&Caller::Anyone), [true; 4]);
        assert_eq!(allowed(&key("read")), [true, false, false, false]);
        assert_eq!(allowed(&key("write")), [false, true, false, false]);
        assert_eq!(allowed(&key("metrics")), [false, false, true, false]);
        assert_eq!(allowed(&key("admin")), [true; 4]);
        assert_eq!(allowed(&user(1)), [true, true, false, false]);
    }

    #[test]
    fn a_user_sees_and_speaks_for_themselves_only() {
        let (own, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(user(1).may_see(own) && !user(1).may_see(other) && key("read").may_see(other));
        assert_eq!(user(1).speaks_for(None), Ok(Some(own)));
        assert_eq!(user(1).speaks_for(Some(own)), Ok(Some(own)));
        assert!(user(1).speaks_for(Some(other)).is_err());
        assert_eq!(key("write").speaks_for(Some(other)), Ok(Some(other)));
        assert_eq!(Caller::Anyone.speaks_for(None), Ok(None));
    }

    #[test]
    fn a_token_comes_as_a_bearer_or_among_the_subprotocols() {
        fn token(given: &[(axum::http::HeaderName, &'static str)]) -> Result<String, Refused> {
            let value = |text| HeaderValue::from_static(text);
            let headers = given.iter().map(|(name, text)| (name.clone(), value(text))).collect();
            bearer(&headers).map(str::to_owned)
        }
        assert_eq!(token(&[(AUTHORIZATION, "Bearer a.b.c")]), Ok("a.b.c".into()));
        assert_eq!(token(&[(AUTHORIZATION, "bearer  tt_1")]), Ok("tt_1".into()));
        assert_eq!(token(&[(SEC_WEBSOCKET_PROTOCOL, "talktrack, bearer.a.b.c")]), Ok("a.b.c".into()));
        assert_eq!(token(&[(SEC_WEBSOCKET_PROTOCOL, "talktrack")]), Err(Refused::NoToken));
        assert_eq!(token(&[]), Err(Refused::NoToken));
        for value in ["Basic bWU6aHVudGVyMg==", "Bearer", "Bearer ", "a.b.c"] {
            assert_eq!(
                token(&[(AUTHORIZATION, value), (SEC_WEBSOCKET_PROTOCOL, "bearer.x")]),
                Err(Refused::NotBearer)
            );
        }
    }
}
