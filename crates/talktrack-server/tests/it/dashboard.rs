//! The pages for people, as they come over the wire. What a browser makes of them is looked at in `browser`.

pub(crate) mod login;
mod pages;
mod health;
mod talk;

use crate::harness::HttpAnswer;

/// The token that a page's forms send along.
pub(crate) fn csrf(page: &HttpAnswer) -> String {
    let found = page
        .body
        .split_once("<meta name=\"csrf-token\" content=\"")
        .and_then(|(_, rest)| rest.split_once('"'));
    found.unwrap_or_else(|| panic!("no token: {page:?}")).0.to_owned()
}
