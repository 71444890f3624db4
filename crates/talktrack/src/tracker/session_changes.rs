//! Changes of a session that exists.

use talktrack_core::dimensions::Dimensions;
use talktrack_core::json::JsonObject;

/// Changes of a session for [`Tracker::update_session`](crate::Tracker::update_session).
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct SessionChanges {
    /// Keys to merge into the metadata. A key replaces an existing key of the same name; a key with the value `null` removes it.
    pub metadata: JsonObject,
    /// The dimensions to change. New tags replace all earlier ones. They are boxed because few changes have any.
    pub dimensions: Box<Dimensions>,
}

impl SessionChanges {
    /// Creates changes that change nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the keys to merge into the metadata.
    #[must_use]
    pub fn with_metadata(self, metadata: JsonObject) -> Self {
        Self { metadata, ..self }
    }

    /// Sets the dimensions to change.
    #[must_use]
    pub fn with_dimensions(self, dimensions: Dimensions) -> Self {
        Self { dimensions: Box::new(dimensions), ..self }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.metadata.as_str().len() + self.dimensions.heap_bytes()
    }

    pub(super) fn replace_nul(&mut self) {
        self.dimensions.replace_nul();
        if let Some(metadata) = self.metadata.without_nul() {
            self.metadata = metadata;
        }
    }
}

impl From<JsonObject> for SessionChanges {
    fn from(metadata: JsonObject) -> Self {
        Self::new().with_metadata(metadata)
    }
}
