//! The dimensions of a session: what lists and statistics filter and group sessions by.

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::error::Invalid;
use crate::ids::SessionId;
use crate::message::replace_nul_in;
use crate::stored::{FromJson, Stored};

/// The maximum length of `agent`, `agent_version`, `channel` and `environment`, in bytes.
pub const MAX_DIMENSION_BYTES: usize = 256;
/// The maximum number of tags.
pub const MAX_TAGS: usize = 32;
/// The maximum length of a tag, in bytes.
pub const MAX_TAG_BYTES: usize = 64;

/// The tags of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(Vec<String>);

impl Tags {
    /// Returns the tags in the order in which they were given.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl<T: Into<String>> FromIterator<T> for Tags {
    fn from_iter<I: IntoIterator<Item = T>>(tags: I) -> Self {
        Self(tags.into_iter().map(Into::into).collect())
    }
}

impl FromJson for Tags {
    fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// What sessions are filtered and grouped by. A dimension that is `None` is unknown in a row, and unchanged by a start or an
/// update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Dimensions {
    /// The name of the agent, up to [`MAX_DIMENSION_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The version of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// How the user talks to the agent, such as `phone` or `web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The environment in which the agent runs, such as `production` or `staging`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The session from which this one was transferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_session_id: Option<SessionId>,
    /// At most [`MAX_TAGS`] tags of up to [`MAX_TAG_BYTES`]. New tags replace all earlier ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Stored<Tags>>,
}

impl Dimensions {
    /// Creates dimensions of which none is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name of the agent.
    #[must_use]
    pub fn with_agent(self, agent: impl Into<Option<String>>) -> Self {
        Self { agent: agent.into(), ..self }
    }

    /// Sets the version of the agent.
    #[must_use]
    pub fn with_agent_version(self, agent_version: impl Into<Option<String>>) -> Self {
        Self { agent_version: agent_version.into(), ..self }
    }

    /// Sets how the user talks to the agent.
    #[must_use]
    pub fn with_channel(self, channel: impl Into<Option<String>>) -> Self {
        Self { channel: channel.into(), ..self }
    }

    /// Sets the environment in which the agent runs.
    #[must_use]
    pub fn with_environment(self, environment: impl Into<Option<String>>) -> Self {
        Self { environment: environment.into(), ..self }
    }

    /// Sets the session from which this one was transferred.
    #[must_use]
    pub fn with_parent_session_id(self, parent: impl Into<Option<SessionId>>) -> Self {
        Self { parent_session_id: parent.into(), ..self }
    }

    /// Sets the tags.
    #[must_use]
    pub fn with_tags(self, tags: impl Into<Option<Tags>>) -> Self {
        Self { tags: tags.into().map(Stored::Known), ..self }
    }

    /// True if no dimension is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns these dimensions with those of `newer`, which replace them.
    #[must_use]
    pub fn replaced_by(self, newer: Self) -> Self {
        Self {
            agent: newer.agent.or(self.agent),
            agent_version: newer.agent_version.or(self.agent_version),
            channel: newer.channel.or(self.channel),
            environment: newer.environment.or(self.environment),
            parent_session_id: newer.parent_session_id.or(self.parent_session_id),
            tags: newer.tags.or(self.tags),
        }
    }

    /// Returns the known dimensions as texts for people, each with its name.
    pub fn to_texts(&self) -> Vec<(&'static str, String)> {
        let tags = self.tags.as_ref().and_then(|tags| match tags {
            Stored::Known(tags) => Some(tags.as_slice().join(", ")).filter(|tags| !tags.is_empty()),
            Stored::Json(text) | Stored::Text(text) => Some(text.to_string()),
            Stored::Null => None,
        });
        let texts = [
            ("agent", self.agent.clone()),
            ("agent_version", self.agent_version.clone()),
            ("channel", self.channel.clone()),
            ("environment", self.environment.clone()),
            ("parent_session_id", self.parent_session_id.map(|id| id.to_string())),
            ("tags", tags),
        ];
        texts.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
    }

    /// Returns an error that names the field if a dimension is invalid.
    ///
    /// # Errors
    /// Names the first field that violates the contract.
    pub fn validate(&self) -> Result<(), Invalid> {
        let [agent, agent_version, channel, environment] = self.texts();
        check_text("agent", agent)?;
        check_text("agent_version", agent_version)?;
        check_text("channel", channel)?;
        check_text("environment", environment)?;
        let tags = self.tags.as_ref().and_then(Stored::known).map_or(&[][..], Tags::as_slice);
        if tags.len() > MAX_TAGS {
            return Err(Invalid::new("tags", "must be at most 32 tags"));
        }
        if tags.iter().any(|tag| tag.is_empty() || tag.len() > MAX_TAG_BYTES) {
            return Err(Invalid::new("tags", "each tag must have 1 to 64 bytes"));
        }
        Ok(())
    }

    /// Returns the bytes that the dimensions occupy on the heap.
    pub fn heap_bytes(&self) -> usize {
        let texts = self.texts().into_iter().flatten().map(String::len).sum::<usize>();
        let tags = match &self.tags {
            Some(Stored::Known(tags)) => {
                tags.as_slice().iter().map(|tag| tag.len() + size_of::<String>()).sum()
            }
            Some(Stored::Json(text) | Stored::Text(text)) => text.len(),
            Some(Stored::Null) | None => 0,
        };
        texts + tags
    }

    /// Replaces U+0000, which PostgreSQL cannot store, by U+FFFD.
    #[doc(hidden)]
    pub fn replace_nul(&mut self) {
        let texts = [&mut self.agent, &mut self.agent_version, &mut self.channel, &mut self.environment];
        let tags = match &mut self.tags {
            Some(Stored::Known(Tags(tags))) => tags.as_mut_slice(),
            _ => &mut [],
        };
        for text in texts.into_iter().flatten().chain(tags) {
            replace_nul_in(text);
        }
    }

    fn texts(&self) -> [Option<&String>; 4] {
        [self.agent.as_ref(), self.agent_version.as_ref(), self.channel.as_ref(), self.environment.as_ref()]
    }
}

/// Serializes the dimensions as columns of a row: those that are unknown are null.
///
/// # Errors
/// The errors of the serializer.
pub(crate) fn serialize_columns<S: Serializer>(
    dimensions: &Dimensions,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Dimensions { agent, agent_version, channel, environment, parent_session_id, tags } = dimensions;
    let mut columns = serializer.serialize_map(Some(6))?;
    columns.serialize_entry("agent", agent)?;
    columns.serialize_entry("agent_version", agent_version)?;
    columns.serialize_entry("channel", channel)?;
    columns.serialize_entry("environment", environment)?;
    columns.serialize_entry("parent_session_id", parent_session_id)?;
    columns.serialize_entry("tags", tags)?;
    columns.end()
}

fn check_text(field: &'static str, text: Option<&String>) -> Result<(), Invalid> {
    match text.map(String::len) {
        Some(0) => Err(Invalid::new(field, "must not be empty")),
        Some(length) if length > MAX_DIMENSION_BYTES => Err(Invalid::new(field, "must be at most 256 bytes")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_dimensions_replace_older_ones_and_tags_as_a_whole() {
        let older = Dimensions::new()
            .with_agent("front desk".to_owned())
            .with_channel("web".to_owned())
            .with_tags(Tags::from_iter(["vip", "trial"]));
        let newer = Dimensions::new().with_channel("phone".to_owned()).with_tags(Tags::from_iter(["late"]));
        let merged = older.replaced_by(newer);
        assert_eq!(
            serde_json::to_string(&merged).unwrap(),
            r#"{"agent":"front desk","channel":"phone","tags":["late"]}"#
        );
        assert_eq!(
            serde_json::from_str::<Dimensions>(&serde_json::to_string(&merged).unwrap()).unwrap(),
            merged
        );
    }

    #[test]
    fn dimensions_beyond_the_limits_are_named() {
        let refused = |dimensions: Dimensions| dimensions.validate().unwrap_err().to_string();
        assert_eq!(refused(Dimensions::new().with_agent(String::new())), "agent: must not be empty");
        assert_eq!(
            refused(Dimensions::new().with_channel("x".repeat(257))),
            "channel: must be at most 256 bytes"
        );
        let many = Tags::from_iter((0..33).map(|number| number.to_string()));
        assert_eq!(refused(Dimensions::new().with_tags(many)), "tags: must be at most 32 tags");
        for tag in [String::new(), "x".repeat(65)] {
            let tags = Tags::from_iter([tag]);
            assert_eq!(refused(Dimensions::new().with_tags(tags)), "tags: each tag must have 1 to 64 bytes");
        }
        let full = Tags::from_iter((0..32).map(|number| format!("{number:064}")));
        assert!(Dimensions::new().with_environment("x".repeat(256)).with_tags(full).validate().is_ok());
    }
}
