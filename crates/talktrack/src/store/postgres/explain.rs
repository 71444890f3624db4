//! Explains a failed write by the schema: whether the database has drifted from it, and where. In doubt the schema decides:
//! a row refused for a column in which there is a difference is not bad, however lonely it is.

use crate::store::postgres::failure::Failure;
use crate::store::postgres::schema::Difference;
use crate::store::{Class, StoreError};

/// The writer's answer to a failure.
pub(super) fn explain(failure: Failure, differences: &[Difference]) -> StoreError {
    match in_words(&failure, differences) {
        Some(message) => StoreError { class: Class::Systemic, message, ..failure.into_error() },
        None => failure.into_error(),
    }
}

/// What is different where the failure happened; `None` where the schema does not explain it.
fn in_words(failure: &Failure, differences: &[Difference]) -> Option<String> {
    tell(differences, |difference| match failure.class {
        Class::Data => failure.concerns(difference),
        Class::Transient | Class::Systemic => failure.is_about_the_schema() && difference.is_structural(),
    })
}

/// What would keep every row from being written.
pub(super) fn drift(differences: &[Difference]) -> Option<StoreError> {
    let message = tell(differences, |difference| difference.stops_every_row)?;
    Some(StoreError::new(Class::Systemic, message))
}

fn tell(differences: &[Difference], is_meant: impl Fn(&Difference) -> bool) -> Option<String> {
    let mut found = differences.iter().filter(|difference| is_meant(difference));
    let first = found.next()?;
    let more = match found.count() {
        0 => String::new(),
        1 => ", and 1 more difference".to_owned(),
        more => format!(", and {more} more differences"),
    };
    let command = if first.is_yours_to_mend { "doctor" } else { "migrate" };
    Some(format!("{}{more} (run: talktrack {command})", first.problem))
}
