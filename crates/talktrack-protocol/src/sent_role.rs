//! Roles as callers send them. Other tools have other words for them.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, de};
use talktrack_core::Role;

use crate::borrowed::Word;

/// A role that a caller sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SentRole<'a> {
    pub(crate) role: Role,
    /// The caller's word, if it is another one.
    pub(crate) translated_from: Option<Cow<'a, str>>,
}

/// The words of other tools, in lower case.
const TRANSLATIONS: [(&str, Role); 6] = [
    ("agent", Role::Assistant),
    ("ai", Role::Assistant),
    ("bot", Role::Assistant),
    ("model", Role::Assistant),
    ("human", Role::User),
    ("function", Role::Tool),
];

impl<'a> SentRole<'a> {
    fn parse(word: Cow<'a, str>) -> Option<Self> {
        if let Ok(role) = word.parse() {
            return Some(Self { role, translated_from: None });
        }
        let lower = word.to_ascii_lowercase();
        let translated = TRANSLATIONS.iter().find(|(other, _)| *other == lower).map(|(_, role)| *role);
        let role = translated.or_else(|| lower.parse().ok())?;
        Some(Self { role, translated_from: Some(word) })
    }
}

/// Returns the role that a word of another tool means, in any case, such as `human` or `Assistant`.
pub fn translate_role(word: &str) -> Option<Role> {
    SentRole::parse(word.into()).map(|sent| sent.role)
}

impl<'de> Deserialize<'de> for SentRole<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Word(word) = Word::deserialize(deserializer)?;
        Self::parse(word).ok_or_else(|| de::Error::custom("not a role"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_other_tools_are_translated_in_any_case() {
        for (word, role) in [
            ("agent", Role::Assistant),
            ("AI", Role::Assistant),
            ("Bot", Role::Assistant),
            ("MODEL", Role::Assistant),
            ("human", Role::User),
            ("function", Role::Tool),
            ("Assistant", Role::Assistant),
            ("SYSTEM", Role::System),
        ] {
            let translated = SentRole { role, translated_from: Some(word.into()) };
            assert_eq!(SentRole::parse(word.into()), Some(translated), "{word}");
        }
        let plain = SentRole { role: Role::User, translated_from: None };
        assert_eq!(SentRole::parse("user".into()), Some(plain));
        for word in ["", "king", "agent ", "\u{130}"] {
            assert_eq!(SentRole::parse(word.into()), None, "{word}");
        }
    }
}
