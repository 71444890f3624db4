//! The pages for people, as they come over the wire. What a browser makes of them is looked at in `browser`.

mod login;
mod pages;
mod health;
mod talk;
