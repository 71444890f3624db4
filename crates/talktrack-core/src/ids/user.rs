//! The id of a user: a UUID, or any other short text that another system uses for the same person.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::SessionId;

/// The namespace of the UUIDv5 that a user's text becomes: `a981d199-1414-5be4-9c00-12846e9adb5d`.
pub const USER_NAMESPACE: Uuid = Uuid::from_u128(0xa981_d199_1414_5be4_9c00_1284_6e9a_db5d);

/// The namespace of the UUIDv5 that a session's id becomes if the session is a guest's: `9b7d46e3-a8a5-5e00-aafc-424d92b60a93`.
pub const GUEST_NAMESPACE: Uuid = Uuid::from_u128(0x9b7d_46e3_a8a5_5e00_aafc_424d_92b6_0a93);

/// The longest id of a user, in bytes.
pub const MAX_USER_ID_BYTES: usize = 256;

/// A user. The id that a caller gives is any text of 1 to [`MAX_USER_ID_BYTES`] bytes without control characters. A text of
/// the form 8-4-4-4-12 is a UUID in either case. Every other text is a *text user*: it is kept byte for byte, and its UUID is
/// the UUIDv5 of the text in [`USER_NAMESPACE`].
///
/// Two users are the same only if both the UUID and the text are: the user with the UUID that a text becomes is another user.
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
    /// user talktrack cannot read.
    pub const fn nil() -> Self {
        Self::new(Uuid::nil())
    }

    /// Creates a user from the number that the UUID's 16 bytes are.
    pub const fn from_u128(number: u128) -> Self {
        Self::new(Uuid::from_u128(number))
    }

    /// Returns the user who owns a session that was started without a user.
    pub fn guest_of(session_id: SessionId) -> Self {
        Self::new(Uuid::new_v5(&GUEST_NAMESPACE, session_id.as_bytes()))
    }

    /// Returns the user of a stored row, from its columns `user_id` and `user_external_id`. `None` if no user can have these
    /// values: another program wrote them.
    pub fn from_columns(uuid: Option<Uuid>, text: Option<&str>) -> Option<Self> {
        match text {
            None => uuid.map(Self::new),
            Some(text) => text.parse().ok().filter(|user: &Self| user.text.is_some()),
        }
    }

    /// Returns the UUID: the user's own id, or the one that the text becomes.
    pub const fn as_uuid(&self) -> Uuid {
        self.uuid
    }

    /// Returns the 16 bytes of the UUID.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.uuid.as_bytes()
    }

    /// Returns the user's own id if it is not a UUID.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// True if this user owns the session because it was started without a user.
    pub fn is_guest_of(&self, session_id: SessionId) -> bool {
        *self == Self::guest_of(session_id)
    }
}

/// A text that is no user's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a text of 1 to 256 bytes without control characters")]
pub struct InvalidUserId;

impl FromStr for UserId {
    type Err = InvalidUserId;

    fn from_str(text: &str) -> Result<Self, InvalidUserId> {
        let is_hyphenated = text.len() == uuid::fmt::Hyphenated::LENGTH;
        if let Some(uuid) = Uuid::try_parse(text).ok().filter(|_| is_hyphenated) {
            return Ok(Self::new(uuid));
        }
        if !(1..=MAX_USER_ID_BYTES).contains(&text.len()) || text.contains(char::is_control) {
            return Err(InvalidUserId);
        }
        Ok(Self { uuid: Uuid::new_v5(&USER_NAMESPACE, text.as_bytes()), text: Some(text.into()) })
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
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_the_uuid_that_the_documents_name() {
        for (text, uuid) in VECTORS {
            let user: UserId = text.parse().unwrap();
            assert_eq!((user.as_uuid().to_string().as_str(), user.text()), (uuid, Some(text)));
            assert_eq!(user.to_string(), text);
        }
        let session = SessionId::from_u128(0xfda8_6359_0c1e_4d0c_8d1e_6964_656d_706f);
        assert_eq!(UserId::guest_of(session).to_string(), GUEST);
        assert!(UserId::guest_of(session).is_guest_of(session));
    }

    #[test]
    fn only_the_hyphenated_form_is_a_uuid_and_in_either_case() {
        let uuid = "03f6b167-2b1c-4c8e-9d55-1f0a4c3f7a11";
        let user: UserId = uuid.to_uppercase().parse().unwrap();
        assert_eq!((user.text(), user.to_string()), (None, uuid.to_owned()));
        for other in
            [uuid.replace('-', ""), format!("{{{uuid}}}"), format!("urn:uuid:{uuid}"), format!(" {uuid}")]
        {
            assert_eq!(other.parse::<UserId>().unwrap().text(), Some(other.as_str()));
        }
        let [lower, upper] = ["Ann", "ann"].map(|text| text.parse::<UserId>().unwrap());
        assert_ne!(lower, upper, "a text is compared byte for byte");
    }

    #[test]
    fn a_text_and_the_uuid_that_it_becomes_are_two_users() {
        let text: UserId = "user_2abc".parse().unwrap();
        assert_ne!(text, UserId::new(text.as_uuid()));
    }

    #[test]
    fn an_id_has_1_to_256_bytes_and_no_control_characters() {
        let longest = "é".repeat(128);
        assert!(
            ["17", " ", "a b", "+49 17", "auth0|x", &longest]
                .iter()
                .all(|text| text.parse::<UserId>().is_ok())
        );
        for bad in ["", "a\nb", "a\0", "\u{7f}", "\u{85}", &format!("{longest}x")] {
            assert_eq!(bad.parse::<UserId>(), Err(InvalidUserId), "{bad:?}");
        }
    }

    #[test]
    fn a_row_that_names_no_possible_user_belongs_to_none() {
        let uuid = Uuid::from_u128(7);
        assert_eq!(UserId::from_columns(Some(uuid), None), Some(UserId::new(uuid)));
        assert_eq!(UserId::from_columns(Some(uuid), Some("me")), Some("me".parse().unwrap()));
        for bad in ["", "a\nb", "00000000-0000-0000-0000-000000000007"] {
            assert_eq!(UserId::from_columns(Some(uuid), Some(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn json_holds_the_text_that_the_caller_gave() {
        let user: UserId = serde_json::from_str(r#""auth0|\u00e9\"""#).unwrap();
        assert_eq!(user.text(), Some("auth0|é\""));
        assert_eq!(serde_json::to_string(&user).unwrap(), r#""auth0|é\"""#);
        assert!(serde_json::from_str::<UserId>("17").is_err(), "a number is no text");
    }

    const VECTORS: [(&str, &str); 3] = [
        ("user_2abc", "ca11ecc7-0d01-5432-a26b-9c78baaf4a2d"),
        ("+4917612345678", "1571aac8-3df1-5acb-b7e4-f92b5f87aab9"),
        ("jürgen@example.com", "594ea2ad-68cb-5f81-9195-4cbbeccfa766"),
    ];
    const GUEST: &str = "14756a84-60d4-5070-aa11-c0534bdccb26";
}
