//! Explains a failed write by differences between the database's schema and talktrack's. In doubt the
//! schema is to blame: a row that was refused because of a column that differs is not a poison record, even
//! if it is the only one refused.

use talktrack_core::store::{ErrorClass, StoreError};

use crate::failure::Failure;
use crate::schema::Difference;

/// Returns the error for the writer.
pub(super) fn explain_failure(failure: Failure, differences: &[Difference]) -> StoreError {
    match find_cause(&failure, differences) {
        Some(message) => StoreError { class: ErrorClass::Systemic, message, ..failure.into_error() },
        None => failure.into_error(),
    }
}

/// Describes the difference that caused the failure; `None` if no difference explains it.
fn find_cause(failure: &Failure, differences: &[Difference]) -> Option<String> {
    describe_first(differences, |difference| match failure.class {
        ErrorClass::Data => failure.concerns(difference),
        ErrorClass::Transient | ErrorClass::Systemic => {
            failure.is_about_the_schema() && difference.is_structural()
        }
    })
}

/// Returns the error if a difference stops every row from being written.
pub(super) fn check_drift(differences: &[Difference]) -> Option<StoreError> {
    let message = describe_first(differences, |difference| difference.stops_every_row)?;
    Some(StoreError::new(ErrorClass::Systemic, message))
}

fn describe_first(differences: &[Difference], is_meant: impl Fn(&Difference) -> bool) -> Option<String> {
    let mut found = differences.iter().filter(|difference| is_meant(difference));
    let first = found.next()?;
    let more = match found.count() {
        0 => String::new(),
        1 => ", and 1 more difference".to_owned(),
        more => format!(", and {more} more differences"),
    };
    let command = if first.is_left_to_owner { "doctor" } else { "migrate" };
    Some(format!("{}{more} (run: talktrack {command})", first.problem))
}
