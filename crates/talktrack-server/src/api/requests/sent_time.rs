//! The description of a time in a request.

use serde::Deserialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// The largest number that is read as a time, in nanoseconds since 1970: that of 64 bits.
const LARGEST: usize = usize::MAX;

/// A time.
#[derive(Deserialize)]
pub(crate) struct SentTime;

impl PartialSchema for SentTime {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .min_length(Some(19))
            .description(Some("An RFC 3339 time, in UTC if it has no offset."));
        let number = ObjectBuilder::new()
            .schema_type(Type::Number)
            .minimum(Some(0_usize))
            .maximum(Some(LARGEST))
            .description(Some(
                "A number since 1970: below 1e11 in seconds, below 1e14 in milliseconds, below 1e17 in microseconds, otherwise in \
                 nanoseconds.",
            ));
        OneOfBuilder::new().item(text).item(number).into()
    }
}

impl ToSchema for SentTime {}
