//! Parses the values of settings. An error says what is expected, and repeats the text unless it may contain a secret.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use axum::http::Uri;
use talktrack::store::postgres::{Address, InvalidAddress};
use tracing::level_filters::LevelFilter;

use super::{Database, LogFormat};
use crate::authority::PageOrigin;
use crate::path_prefix::PathPrefix;

/// The units of a size. Longer spellings come first, because `KiB` also ends in `B`.
const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
    ("", 1),
];

/// The units of a duration, in milliseconds.
const DURATIONS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Parses an address with a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let on_localhost = || text.strip_prefix("localhost:")?.parse().ok();
    let localhost = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let address = text.parse().ok().or_else(|| on_localhost().map(localhost));
    address.ok_or_else(|| format!("must be an address with a port such as 127.0.0.1:8080, not {text:?}"))
}

/// Splits a list into its entries, which are separated by commas or whitespace.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty())
}

/// Parses origins of pages (`https://app.example.com`), or `*` for all. If no identity is checked, `*` would let any page
/// write into the conversations of its visitor.
pub(super) fn origins(text: &str, is_open: bool) -> Result<Vec<String>, String> {
    let origin = |entry: &str| match entry {
        "*" if is_open => {
            Err("must name the pages, not *: no authentication is configured, so any page could write".into())
        }
        "*" => Ok("*".to_owned()),
        entry => PageOrigin::parse_written(entry).map(|origin| origin.to_string()).ok_or_else(|| {
            format!("must be a list of origins such as https://app.example.com, or *, not {entry:?}")
        }),
    };
    list(text).map(origin).collect()
}

/// The first segments of the server's own paths.
const OWN_PATHS: [&str; 13] = [
    "assets",
    "docs",
    "health",
    "healthz",
    "login",
    "logout",
    "metrics",
    "openapi.json",
    "readyz",
    "sessions",
    "stats",
    "talk",
    "v1",
];

/// Parses the path below which browsers reach the server. It must not look like a path of the server itself, because the
/// server accepts requests with and without it.
pub(super) fn base_path(text: &str) -> Result<PathPrefix, String> {
    let path = PathPrefix::parse(text).ok_or_else(|| {
        format!("must be a path such as /talktrack, of letters, digits and -._~, not {text:?}")
    })?;
    match path.first_segment() {
        first if OWN_PATHS.contains(&first) => {
            Err(format!("must not begin with /{first}, which is a path of the server itself"))
        }
        _ => Ok(path),
    }
}

/// Parses a text that must not be empty.
pub(super) fn text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("must not be empty".into()) } else { Ok(text.to_owned()) }
}

/// Parses a text that may be empty.
pub(super) fn optional_text(text: &str) -> Result<Option<String>, String> {
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// Parses a URL that contains no secret, or an empty text. Removes a slash at the end.
pub(super) fn optional_url(text: &str, example: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    // The text is not repeated in the error: it may contain a password.
    let form = || format!("must be a URL such as {example}, without a user and a query");
    let url: Uri = text.parse().map_err(|_| form())?;
    let plain = url.query().is_none() && url.authority().is_some_and(|place| !place.as_str().contains('@'));
    match url.scheme_str() {
        Some("https" | "http") if plain => Ok(Some(text.trim_end_matches('/').to_owned())),
        _ => Err(form()),
    }
}

/// Parses a path that must not be empty.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("must be a path, not empty".into()) } else { Ok(text.into()) }
}

/// Parses a path that may be empty.
pub(super) fn optional_path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok((!text.is_empty()).then(|| text.into()))
}

/// Parses a database URL. Errors never repeat the URL, because it may contain a password.
pub(super) fn database(text: &str) -> Result<Database, String> {
    if text.is_empty() {
        return Ok(Database::File(None));
    }
    // A secret or a file often ends with a newline.
    let text = text.trim();
    if Address::is_meant_by(text) {
        let address = text.parse().map(Box::new);
        return address.map(Database::Postgres).map_err(|error: InvalidAddress| error.to_string());
    }
    match text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:")) {
        Some(path) if !path.is_empty() && !path.starts_with(':') && !path.contains('?') => {
            Ok(Database::File(Some(path.into())))
        }
        _ => Err("must be postgres://USER:PASSWORD@HOST:5432/DATABASE, or sqlite://PATH, with the path of a file and no \
                  parameters"
            .into()),
    }
}

/// Parses a count of at least 1.
pub(super) fn count(text: &str) -> Result<usize, String> {
    let number = text.replace('_', "").parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("must be a whole number of at least 1, not {text:?}"))
}

/// Parses a number of days; 0 returns `None`.
pub(super) fn days(text: &str) -> Result<Option<Duration>, String> {
    match text.parse::<u16>() {
        Ok(0) => Ok(None),
        Ok(days) => Ok(Some(Duration::from_secs(u64::from(days) * 24 * 60 * 60))),
        Err(_) => Err(format!("must be a whole number of days from 0 (no deletion) to 65535, not {text:?}")),
    }
}

/// Parses a size of at least one byte.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let size = with_unit(text, SIZES).filter(|size| *size > 0);
    size.ok_or_else(|| format!("must be a size such as 64MiB, or a number of bytes, not {text:?}"))
}

/// Parses a size that must fit into memory.
pub(super) fn memory(text: &str) -> Result<usize, String> {
    size(text)?.try_into().map_err(|_| format!("must be a size that fits into memory, not {text:?}"))
}

/// Parses a duration of at least one millisecond.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let millis = with_unit(text, DURATIONS).filter(|millis| *millis > 0);
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| format!("must be a duration such as 500ms, 60s or 30m, not {text:?}"))
}

/// Parses `true` or `false`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("must be true or false, not {text:?}"))
}

/// Parses the format of log lines.
pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("must be text or json, not {text:?}")),
    }
}

/// Parses the level of log lines.
pub(super) fn log_level(text: &str) -> Result<LevelFilter, String> {
    match text {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(format!("must be one of error warn info debug trace off, not {text:?}")),
    }
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.replace('_', "").parse().ok()?;
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
    number.checked_mul(*factor)
}
