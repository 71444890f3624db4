//! How the text of a setting becomes its value. An error says what is expected, and shows what stood there unless that may
//! hold a secret.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use axum::http::Uri;
use talktrack::store::postgres::InvalidAddress;
use tracing::level_filters::LevelFilter;

use super::{Database, LogFormat};
use crate::authority::PageOrigin;

/// The units of a size. The longer spelling comes first, since `KiB` ends in `B` as well.
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

/// An address with its port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let on_localhost = || text.strip_prefix("localhost:")?.parse().ok();
    let localhost = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let address = text.parse().ok().or_else(|| on_localhost().map(localhost));
    address.ok_or_else(|| format!("must be an address with a port such as 127.0.0.1:8080, not {text:?}"))
}

/// The entries of a list, with commas or spaces between them.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty())
}

/// The origins of pages (`https://app.example.com`), or `*` for all.
pub(super) fn origins(text: &str) -> Result<Vec<String>, String> {
    let is_origin = |entry: &str| entry == "*" || PageOrigin::parse(entry).is_some();
    match list(text).find(|entry| !is_origin(entry)) {
        None => Ok(list(text).map(str::to_ascii_lowercase).collect()),
        Some(entry) => {
            Err(format!("must be a list of origins such as https://app.example.com, or *, not {entry:?}"))
        }
    }
}

/// Text that must be there.
pub(super) fn text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("must not be empty".into()) } else { Ok(text.to_owned()) }
}

/// Text, or nothing.
pub(super) fn optional_text(text: &str) -> Result<Option<String>, String> {
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// A URL with nothing secret in it, or nothing. Without a slash at its end.
pub(super) fn optional_url(text: &str, example: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    // What stood there is not shown: it may have held a password.
    let form = || format!("must be a URL such as {example}, without a user and a query");
    let url: Uri = text.parse().map_err(|_| form())?;
    let plain = url.query().is_none() && url.authority().is_some_and(|place| !place.as_str().contains('@'));
    match url.scheme_str() {
        Some("https" | "http") if plain => Ok(Some(text.trim_end_matches('/').to_owned())),
        _ => Err(form()),
    }
}

/// A path that must be there.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("must be a path, not empty".into()) } else { Ok(text.into()) }
}

/// A path, or nothing.
pub(super) fn optional_path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok((!text.is_empty()).then(|| text.into()))
}

/// Where a database URL leads. The URL is never shown: it may carry a password.
pub(super) fn database(text: &str) -> Result<Database, String> {
    if text.is_empty() {
        return Ok(Database::File(None));
    }
    let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
    let scheme = scheme.to_ascii_lowercase();
    if scheme == "postgres" || scheme == "postgresql" {
        let address = format!("{scheme}:{rest}").parse().map(Box::new);
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

/// A number of things, at least one.
pub(super) fn count(text: &str) -> Result<usize, String> {
    let number = text.replace('_', "").parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("must be a whole number of at least 1, not {text:?}"))
}

/// A number of days; 0 for none.
pub(super) fn days(text: &str) -> Result<Option<Duration>, String> {
    match text.parse::<u16>() {
        Ok(0) => Ok(None),
        Ok(days) => Ok(Some(Duration::from_secs(u64::from(days) * 24 * 60 * 60))),
        Err(_) => {
            Err(format!("must be a whole number of days from 0 (keep for ever) to 65535, not {text:?}"))
        }
    }
}

/// A number of bytes, at least one.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let size = with_unit(text, SIZES).filter(|size| *size > 0);
    size.ok_or_else(|| format!("must be a size such as 64MiB, or a number of bytes, not {text:?}"))
}

/// A number of bytes that live in memory.
pub(super) fn memory(text: &str) -> Result<usize, String> {
    size(text)?.try_into().map_err(|_| format!("must be a size that fits into memory, not {text:?}"))
}

/// A duration, at least a millisecond.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let millis = with_unit(text, DURATIONS).filter(|millis| *millis > 0);
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| format!("must be a duration such as 500ms, 60s or 30m, not {text:?}"))
}

/// On or off.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("must be true or false, not {text:?}"))
}

/// How log lines look.
pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("must be text or json, not {text:?}")),
    }
}

/// Which log lines appear.
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
