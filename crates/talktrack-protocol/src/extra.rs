//! The fields of a message that talktrack has no column for. They are kept in `extra`, so that nothing is lost.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use talktrack_core::JsonObject;
use talktrack_core::error::Invalid;

use crate::borrowed::push_member;
use crate::fields::shown;
use crate::warnings::Warnings;

#[derive(Default)]
pub(crate) struct Extra<'a> {
    /// The caller's own `extra`.
    given: Option<JsonObject>,
    added: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

impl<'a> Extra<'a> {
    pub(crate) fn new(given: Option<JsonObject>) -> Self {
        Self { given, added: BTreeMap::new() }
    }

    /// Adds a field.
    ///
    /// # Errors
    /// If it was added before.
    pub(crate) fn add(&mut self, name: Cow<'a, str>, value: &'a RawValue) -> Result<(), Invalid> {
        let field = shown(&name);
        match self.added.insert(name, value) {
            None => Ok(()),
            Some(_) => Err(Invalid::new(field, "occurs twice")),
        }
    }

    /// Returns all of it as one object, with a warning about each added field.
    ///
    /// # Errors
    /// If `extra` already has one of the fields, or if a value is nothing that a database can hold.
    pub(crate) fn finish(self, warnings: &mut Warnings) -> Result<Option<JsonObject>, Invalid> {
        if self.added.is_empty() {
            return Ok(self.given);
        }
        let given = self.given.unwrap_or_default();
        if let Some(name) = given.members().keys().find(|name| self.added.contains_key(name.as_str())) {
            return Err(Invalid::new(shown(name), "is a field of the frame and also a key of extra"));
        }
        let mut json = String::from("{");
        for (name, value) in &self.added {
            push_member(&mut json, name, value.get());
            warnings.push(format_args!("{}: unknown field, kept in extra", shown(name)));
        }
        json.push('}');
        let added = JsonObject::parse(&json).map_err(|error| Invalid::new("extra", error.to_string()))?;
        Ok(Some(given.merged(&added)))
    }
}
