//! Classifies errors of PostgreSQL by their SQLSTATE: what they mean for the records of the failed write.
//! Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.

use talktrack_core::store::ErrorClass;

/// An exact code (five characters) takes precedence over a class (two characters).
const CLASSES: &[(&str, ErrorClass)] = &[
    // Unavailable, busy, or in conflict with another transaction: the same statement will succeed later.
    ("08", ErrorClass::Transient),    // connection exceptions
    ("40001", ErrorClass::Transient), // serialization failure
    ("40P01", ErrorClass::Transient), // deadlock
    ("53", ErrorClass::Transient),    // out of disk, memory or connections
    ("55P03", ErrorClass::Transient), // a lock is not available
    ("57", ErrorClass::Transient),    // shutting down, starting up, cancelled by an operator or a timeout
    ("58", ErrorClass::Transient),    // I/O errors of the server
    ("25006", ErrorClass::Transient), // read-only: a standby, or a disk that is nearly full
    // The database is not as talktrack needs it: no row will be accepted until an operator repairs it.
    ("42703", ErrorClass::Systemic), // undefined column
    ("42P01", ErrorClass::Systemic), // undefined table
    ("42501", ErrorClass::Systemic), // insufficient privilege
    ("42804", ErrorClass::Systemic), // a column has another type
    ("42P10", ErrorClass::Systemic), // no unique constraint for ON CONFLICT
    ("3F000", ErrorClass::Systemic), // no such schema
    ("28", ErrorClass::Systemic),    // wrong user or password
    ("3D000", ErrorClass::Systemic), // no such database
    ("0A000", ErrorClass::Systemic), // feature not supported
    // A problem with a row.
    ("22", ErrorClass::Data), // a value that its column cannot hold
    ("23", ErrorClass::Data), // a constraint
    ("54", ErrorClass::Data), // too large
];

/// Returns the class of a SQLSTATE. A code without a rule is systemic, so that no record is dropped because
/// a rule is missing.
pub(super) fn class_of(code: &str) -> ErrorClass {
    let exact = CLASSES.iter().find(|(known, _)| *known == code);
    let group = || CLASSES.iter().find(|(known, _)| known.len() == 2 && code.starts_with(known));
    exact.or_else(group).map_or(ErrorClass::Systemic, |(_, class)| *class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sqlstate_has_the_class_that_decides_what_happens_next() {
        for (class, codes) in [
            (
                ErrorClass::Transient,
                &[
                    "08000", "08001", "08003", "08006", "08P01", "40001", "40P01", "53000", "53100", "53200",
                    "53300", "53400", "55P03", "57000", "57014", "57P01", "57P02", "57P03", "57P05", "58000",
                    "58030", "25006",
                ][..],
            ),
            (
                ErrorClass::Systemic,
                &["42703", "42P01", "42501", "42804", "42P10", "3F000", "28000", "28P01", "3D000", "0A000"],
            ),
            (
                ErrorClass::Data,
                &[
                    "22000", "22001", "22003", "22007", "22021", "22P02", "22P05", "23000", "23502", "23503",
                    "23505", "23514", "23P01", "54000", "54001", "54011",
                ],
            ),
            // Unknown codes, and codes that point to a mistake in talktrack: their records wait.
            (
                ErrorClass::Systemic,
                &[
                    "42601", "42P08", "25001", "25P02", "40002", "40003", "55000", "55006", "26000", "34000",
                    "P0001", "XX000", "XX001", "99999", "", "0", "é2",
                ],
            ),
        ] {
            for code in codes {
                assert_eq!(class_of(code), class, "{code}");
            }
        }
    }
}
