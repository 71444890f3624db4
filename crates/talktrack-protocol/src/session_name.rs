//! How a caller names a session.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::message::{MAX_EXTERNAL_ID_BYTES, program_session_id, user_session_id};

/// The prefix of a session name that the caller chose.
const EXTERNAL: &str = "external:";

/// How a caller names a session: by its UUID, or as `external:NAME` with a name that the caller chose. `Display` gives
/// the name as it is written in frames and, after percent-encoding, in URLs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SessionName {
    /// The session's UUID.
    Id(SessionId),
    /// The caller's own name, without the prefix: 1 to 256 bytes without U+0000.
    External(String),
}

impl SessionName {
    /// Parses a session name.
    ///
    /// # Errors
    /// Returns what the name must be, as a clause that follows the field's name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text.strip_prefix(EXTERNAL) {
            Some(name) if (1..=MAX_EXTERNAL_ID_BYTES).contains(&name.len()) && !name.contains('\0') => {
                Ok(Self::External(name.to_owned()))
            }
            Some(_) => Err("the name after external: must be 1 to 256 bytes without U+0000"),
            None => text.parse().map(Self::Id).map_err(|_| "must be a UUID or external:NAME"),
        }
    }

    /// Returns the name that the caller chose, if the session is named by it.
    pub fn external_id(&self) -> Option<&str> {
        match self {
            Self::Id(_) => None,
            Self::External(name) => Some(name),
        }
    }

    /// Returns the UUID, if the session is named by it.
    pub fn into_id(self) -> Option<SessionId> {
        match self {
            Self::Id(id) => Some(id),
            Self::External(_) => None,
        }
    }

    /// Returns the session that this name means to an API key, and in files.
    pub fn id_for_key(&self) -> SessionId {
        match self {
            Self::Id(id) => *id,
            Self::External(name) => program_session_id(name),
        }
    }

    /// Returns the sessions that a user may mean, the more likely one first: the session that the user started under
    /// this name, then the one that a key started under it.
    pub fn ids_for_user(&self, user_id: &UserId) -> Vec<SessionId> {
        match self {
            Self::Id(id) => vec![*id],
            Self::External(name) => vec![user_session_id(user_id, name), program_session_id(name)],
        }
    }
}

impl From<SessionId> for SessionName {
    fn from(id: SessionId) -> Self {
        Self::Id(id)
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::External(name) => write!(f, "{EXTERNAL}{name}"),
        }
    }
}

impl Serialize for SessionName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = SessionName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a UUID or external:NAME")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SessionName, E> {
        SessionName::parse(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_by_its_id_or_by_the_callers_own_name() {
        let id = SessionId::from_u128(7);
        assert_eq!(SessionName::parse(&id.to_string()), Ok(SessionName::Id(id)));
        assert_eq!(SessionName::parse("external:a/b"), Ok(SessionName::External("a/b".into())));
        let long = format!("external:{}", "x".repeat(257));
        for text in ["external:", "external:a\0b", "7", "", "External:a", &long] {
            assert!(SessionName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_written_as_it_is_read() {
        for name in [SessionName::Id(SessionId::from_u128(7)), SessionName::External("call \"7\" ü".into())]
        {
            let text = serde_json::to_string(&name).unwrap();
            assert_eq!(serde_json::from_str::<SessionName>(&text).unwrap(), name, "{text}");
        }
    }

    #[test]
    fn no_two_users_mean_the_same_session_by_a_name_of_their_own() {
        let name = SessionName::parse("external:mail@example.com").unwrap();
        let one = name.ids_for_user(&UserId::from_u128(1));
        let other = name.ids_for_user(&UserId::from_u128(2));
        assert_ne!(one[0], other[0]);
        assert_eq!((one[1], other[1]), (name.id_for_key(), name.id_for_key()));
    }
}
