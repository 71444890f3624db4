//! Who sends a request, and what they may do. A server authenticates with an API key, a user with a JWT of Supabase. If
//! the settings configure neither, no request is authenticated, and the server binds only loopback addresses. Handlers
//! receive a [`Caller`] and never see a token.

mod authenticator;
mod lease;
mod bearer;
mod logins;
mod csrf;
mod key_file;
mod key_use;
mod jwt;
mod claims;
mod verified;
mod jwks;
mod key_set;
mod fetch;
mod signature;
mod keys;
mod proof;
pub(crate) mod cookie;
mod refused;

use std::sync::Arc;

use talktrack::UserId;

pub(crate) use authenticator::{Admission, Authenticator, SeenCaller};
pub(crate) use csrf::{CSRF_FIELD, CSRF_HEADER};
pub(crate) use key_file::{KeyFile, merge_keys};
pub(crate) use key_use::KeyUses;
pub(crate) use keys::{NewKey, id_of as key_id};
pub(crate) use lease::{Lease, LeasedUsers, Notice};

use crate::audit::Actor;
use crate::config::{Scope, Scopes, UserAccess};
use crate::error::Problem;
use crate::limits::Account;

/// The sender of a request. Implements axum's `FromRequestParts`, so a handler that takes a `Caller` cannot be reached
/// without authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// No identity is checked. The caller is any program on this machine and may do everything.
    Anyone,
    /// A server with an API key. It acts for all users or for some, within the scopes of the key.
    Key(Arc<KeyHolder>),
    /// A user, who may read and write only their own data.
    User(User),
}

/// The holder of an API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyHolder {
    pub(crate) name: Arc<str>,
    pub(crate) scopes: Scopes,
    /// The users that the key may act for; `None` for all users.
    pub(crate) users: Option<Arc<[UserId]>>,
}

/// A user who has proved their identity with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) user_id: UserId,
    /// All claims of the token, as the JSON object that was signed. The policies of PostgreSQL read them.
    pub(crate) claims: Arc<str>,
    /// What the server allows tokens of users to do.
    pub(crate) access: UserAccess,
}

impl Caller {
    /// Refuses a caller without this scope. A caller who passes may still act only for the users that
    /// [`Self::can_act_for`] allows.
    pub(crate) fn require(&self, scope: Scope) -> Result<(), Problem> {
        let allowed = match self {
            Self::Anyone => true,
            Self::Key(key) => key.scopes.allow(scope),
            Self::User(user) => match scope {
                Scope::Read => true,
                Scope::Write => user.access >= UserAccess::Write,
                Scope::Metrics | Scope::Admin => false,
            },
        };
        if allowed {
            return Ok(());
        }
        if scope == Scope::Write && self.user().is_some() {
            return Err(Problem::forbidden("users' tokens may only read here (user_access)"));
        }
        Err(Problem::forbidden(format!("this needs an API key with the scope {}", scope.name())))
    }

    /// Refuses every caller but the operator of the server. The health of the server and its dead letters concern all
    /// users.
    pub(crate) fn require_operator(&self) -> Result<(), Problem> {
        self.require_for_all(Scope::Admin)
    }

    /// Refuses a caller without this scope, and a key that is limited to some users, because the answer concerns all
    /// users.
    pub(crate) fn require_for_all(&self, scope: Scope) -> Result<(), Problem> {
        self.require(scope)?;
        match self.acts_for_all() {
            true => Ok(()),
            false => Err(Problem::forbidden("this needs an API key that acts for all users")),
        }
    }

    /// Refuses a caller who may not delete sessions.
    pub(crate) fn require_delete(&self) -> Result<(), Problem> {
        match self.user() {
            None => self.require(Scope::Admin),
            Some(user) if user.access >= UserAccess::Delete => Ok(()),
            Some(_) => Err(Problem::forbidden("users' tokens may not delete here (user_access)")),
        }
    }

    /// Returns the user if the caller is one. A user sees only their own data.
    pub(crate) fn user(&self) -> Option<&User> {
        match self {
            Self::User(user) => Some(user),
            Self::Anyone | Self::Key(_) => None,
        }
    }

    /// Returns the users that an API key is limited to; `None` for an unlimited key and every other caller.
    pub(crate) fn limited_to(&self) -> Option<&Arc<[UserId]>> {
        match self {
            Self::Key(key) => key.users.as_ref(),
            Self::Anyone | Self::User(_) => None,
        }
    }

    /// True if the caller may act for every user. Only such callers may use what concerns the whole server.
    pub(crate) fn acts_for_all(&self) -> bool {
        self.user().is_none() && self.limited_to().is_none()
    }

    /// True if this caller may act for every user that the other caller may act for.
    fn acts_for_all_of(&self, other: &Self) -> bool {
        match (other.user(), other.limited_to()) {
            (Some(user), _) => self.can_act_for(&user.user_id),
            (None, Some(users)) => users.iter().all(|user_id| self.can_act_for(user_id)),
            (None, None) => self.acts_for_all(),
        }
    }

    /// Returns the name of the caller in the audit log.
    pub(crate) fn actor(&self) -> Actor {
        match self {
            Self::Anyone => Actor::Anyone,
            Self::Key(key) => Actor::Key(Arc::clone(&key.name)),
            Self::User(user) => Actor::User(user.user_id.clone()),
        }
    }

    /// Returns the account that the request counts against; `None` if no identity is checked.
    pub(crate) fn account(&self) -> Option<Account> {
        match self {
            Self::Anyone => None,
            Self::Key(key) => Some(Account::Key(Arc::clone(&key.name))),
            Self::User(user) => Some(Account::User(user.user_id.clone())),
        }
    }

    /// True if the caller may read and change the data of this user.
    pub(crate) fn can_act_for(&self, user_id: &UserId) -> bool {
        match self {
            Self::Anyone => true,
            Self::Key(key) => key.users.as_ref().is_none_or(|users| users.contains(user_id)),
            Self::User(user) => user.user_id == *user_id,
        }
    }

    /// Returns the user that a request is about, if there is one. For a user's token this is always its user, even if
    /// the request names none. For a key that is limited to one user it is that user.
    ///
    /// # Errors
    /// Fails if the request names a user that the caller may not act for, or if a key that is limited to several users
    /// names none of them.
    pub(crate) fn resolve_user(&self, named: Option<UserId>) -> Result<Option<UserId>, Problem> {
        match (self, named) {
            (Self::User(user), Some(named)) if named != user.user_id => {
                Err(Problem::forbidden("user_id: is not the user of the token"))
            }
            (Self::User(user), _) => Ok(Some(user.user_id.clone())),
            (Self::Key(key), named) => key.resolve_user(named),
            (Self::Anyone, named) => Ok(named),
        }
    }
}

impl KeyHolder {
    fn resolve_user(&self, named: Option<UserId>) -> Result<Option<UserId>, Problem> {
        match (self.users.as_deref(), named) {
            (None, named) => Ok(named),
            (Some(users), Some(named)) if users.contains(&named) => Ok(Some(named)),
            (Some(_), Some(_)) => Err(Problem::forbidden("user_id: this API key may not act for that user")),
            (Some([user]), None) => Ok(Some(user.clone())),
            (Some(users), None) => {
                let detail =
                    format!("user_id: missing; this API key acts for {} users, so name one", users.len());
                Err(Problem::invalid(detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scopes: &str) -> Caller {
        limited_key(scopes, None)
    }

    fn limited_key(scopes: &str, users: Option<&[u128]>) -> Caller {
        let users = users.map(|users| users.iter().copied().map(UserId::from_u128).collect());
        Caller::Key(Arc::new(KeyHolder { name: "k".into(), scopes: scopes.parse().unwrap(), users }))
    }

    fn user(id: u128) -> Caller {
        Caller::User(User { user_id: UserId::from_u128(id), claims: "{}".into(), access: UserAccess::Write })
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
        let own = UserId::from_u128(1);
        let other = UserId::from_u128(2);
        assert!(user(1).can_act_for(&own) && !user(1).can_act_for(&other) && key("read").can_act_for(&other));
        assert_eq!(user(1).resolve_user(None), Ok(Some(own.clone())));
        assert_eq!(user(1).resolve_user(Some(own.clone())), Ok(Some(own)));
        assert!(user(1).resolve_user(Some(other.clone())).is_err());
        assert_eq!(key("write").resolve_user(Some(other.clone())), Ok(Some(other)));
        assert_eq!(Caller::Anyone.resolve_user(None), Ok(None));
    }

    #[test]
    fn a_limited_key_acts_for_its_users_and_names_one_of_several() {
        let first = UserId::from_u128(1);
        let second = UserId::from_u128(2);
        let other = UserId::from_u128(3);
        let one = limited_key("admin", Some(&[1]));
        let two = limited_key("admin", Some(&[1, 2]));
        assert!(two.can_act_for(&first) && two.can_act_for(&second) && !two.can_act_for(&other));
        assert_eq!(one.resolve_user(None), Ok(Some(first)));
        assert_eq!(two.resolve_user(Some(second.clone())), Ok(Some(second)));
        assert!(two.resolve_user(None).is_err() && two.resolve_user(Some(other)).is_err());
        assert!(!one.acts_for_all() && key("read").acts_for_all() && Caller::Anyone.acts_for_all());
        for scope in [Scope::Metrics, Scope::Admin] {
            assert!(one.require(scope).is_ok() && one.require_for_all(scope).is_err());
            assert!(key("admin").require_for_all(scope).is_ok());
        }
    }
}
