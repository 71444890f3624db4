//! The pages of the dashboard as the server sends them. The tests in `browser` check what a browser makes of them.

pub(crate) mod login;
mod addresses;
mod list;
mod pages;
mod health;
mod talk;
mod waiting;

use crate::harness::HttpAnswer;

/// Returns the CSRF token that the forms of a page send.
pub(crate) fn csrf(page: &HttpAnswer) -> String {
    let found = page
        .body
        .split_once("<meta name=\"csrf-token\" content=\"")
        .and_then(|(_, rest)| rest.split_once('"'));
    found.unwrap_or_else(|| panic!("no token: {page:?}")).0.to_owned()
}
