//! The dimensions of a session, in frames that start or change one.

use serde::Deserialize;
use talktrack_core::error::Invalid;
use talktrack_core::ids::SessionId;
use talktrack_core::{Dimensions, Tags};

use crate::fields::{FrameFields, parse_string, parse_value};

/// The names of the fields.
pub(crate) const NAMES: [&str; 6] =
    ["agent", "agent_version", "channel", "environment", "parent_session_id", "tags"];

#[derive(Deserialize)]
struct SentTags(Vec<String>);

impl FrameFields<'_> {
    /// Parses the dimensions. Their limits are checked later.
    pub(crate) fn parse_dimensions(&self) -> Result<Dimensions, Invalid> {
        let parent: Option<SessionId> =
            parse_value("parent_session_id", self.parent_session_id, "must be a UUID")?;
        let tags: Option<SentTags> = parse_value("tags", self.tags, "must be an array of strings")?;
        Ok(Dimensions::new()
            .with_agent(parse_string("agent", self.agent)?)
            .with_agent_version(parse_string("agent_version", self.agent_version)?)
            .with_channel(parse_string("channel", self.channel)?)
            .with_environment(parse_string("environment", self.environment)?)
            .with_parent_session_id(parent)
            .with_tags(tags.map(|SentTags(tags)| Tags::from_iter(tags))))
    }
}
