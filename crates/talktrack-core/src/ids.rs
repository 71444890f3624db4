//! The ids of sessions, users and messages. Each has a type of its own, so that the compiler notices if one is given
//! instead of another. All are UUIDs; in text they have the form 8-4-4-4-12 in lower case.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Creates the id from a UUID. [`From`] does the same; this one is for constants.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Creates the id from the number that the UUID's 16 bytes are.
            pub const fn from_u128(number: u128) -> Self {
                Self(Uuid::from_u128(number))
            }

            /// Returns the id whose bits are all zero. No session and no message has it.
            pub const fn nil() -> Self {
                Self(Uuid::nil())
            }

            /// Returns the UUID.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }

            /// Returns the 16 bytes of the UUID.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// The id of a session (`conversation_sessions.session_id`).
    SessionId
}

id! {
    /// The id of a message (`conversation_messages.id`).
    MessageId
}

/// A user: a UUID, with the text that it is derived from if the user's own id is not a UUID. Two users are the same only
/// if both the UUID and the text are.
///
/// Today every user is a UUID. The text is there so that the type does not change when other ids are accepted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId {
    uuid: Uuid,
    text: Option<Arc<str>>,
}

impl UserId {
    /// Creates a user whose id is a UUID. [`From`] does the same; this one is for constants.
    pub const fn new(uuid: Uuid) -> Self {
        Self { uuid, text: None }
    }

    /// Returns the user whose UUID has only zero bits. No caller can be this user: it stands for the owner of a row whose
    /// `user_id` talktrack cannot read.
    pub const fn nil() -> Self {
        Self::new(Uuid::nil())
    }

    /// Creates a user from the number that the UUID's 16 bytes are.
    pub const fn from_u128(number: u128) -> Self {
        Self::new(Uuid::from_u128(number))
    }

    /// Returns the UUID: the user's own id, or what is derived from the text.
    pub const fn as_uuid(&self) -> Uuid {
        self.uuid
    }

    /// Returns the 16 bytes of the UUID.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.uuid.as_bytes()
    }

    /// Returns the user's own id if it is not a UUID. Today this is always `None`.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

impl From<Uuid> for UserId {
    fn from(uuid: Uuid) -> Self {
        Self::new(uuid)
    }
}

impl From<&UserId> for Uuid {
    fn from(user: &UserId) -> Self {
        user.uuid
    }
}

impl FromStr for UserId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self::new)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => fmt::Display::fmt(&self.uuid, f),
        }
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Uuid::deserialize(deserializer).map(Self::new)
    }
}
