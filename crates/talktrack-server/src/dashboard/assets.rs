//! `GET /assets/{name}`: the style sheet and the scripts of the pages. They are part of the program, and a browser
//! requests each version of them once.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use ring::digest::{SHA256, digest};

use super::page::ErrorPage;
use crate::error::Problem;

struct Asset {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

macro_rules! assets {
    ($($name:literal: $content_type:literal),+ $(,)?) => {
        [$(Asset { name: $name, content_type: $content_type, text: include_str!(concat!("../../assets/", $name)) }),+]
    };
}

const ASSETS: [Asset; 9] = assets! {
    "talktrack.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "page.js": "text/javascript; charset=utf-8",
    "sessions.js": "text/javascript; charset=utf-8",
    "conversation.js": "text/javascript; charset=utf-8",
    "health.js": "text/javascript; charset=utf-8",
    "line.js": "text/javascript; charset=utf-8",
    "voice.js": "text/javascript; charset=utf-8",
    "talk.js": "text/javascript; charset=utf-8",
};

/// A hash of all assets, which changes whenever one of them does.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let all: Vec<u8> = ASSETS.iter().flat_map(|asset| asset.text.bytes()).collect();
    digest(&SHA256, &all).as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
});

/// Returns the URL of an asset.
pub(super) fn asset_url(name: &str) -> String {
    format!("/assets/{name}?v={}", *VERSION)
}

pub(super) async fn serve_asset(Path(name): Path<String>) -> Result<Response, ErrorPage> {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    let asset = asset.ok_or_else(|| Problem::nothing_at(&format!("/assets/{name}")))?;
    let headers =
        [(CONTENT_TYPE, asset.content_type), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, asset.text).into_response())
}
