//! What the sender of a frame should know although the frame was accepted.

use std::fmt;

/// The maximum number of warnings about one frame, so that its answer stays short.
const MAX_WARNINGS: usize = 8;

/// Warnings about one frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warnings {
    texts: Vec<String>,
    /// The number of further warnings.
    omitted: usize,
}

impl Warnings {
    pub(crate) fn push(&mut self, warning: impl fmt::Display) {
        if self.texts.len() < MAX_WARNINGS {
            self.texts.push(warning.to_string());
        } else {
            self.omitted += 1;
        }
    }

    /// Returns the texts, each of which begins with the field.
    pub fn into_texts(mut self) -> Vec<String> {
        if self.omitted > 0 {
            self.texts.push(format!("{} more fields have warnings", self.omitted));
        }
        self.texts
    }
}
