//! The ids of sessions, users and messages. Each has a type of its own, so that the compiler notices if one is given
//! instead of another. Sessions and messages have UUIDs; in text these have the form 8-4-4-4-12 in lower case. A user has a
//! UUID or any other short text.

mod user;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use user::{GUEST_NAMESPACE, InvalidUserId, MAX_USER_ID_BYTES, USER_NAMESPACE, UserId};

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
