//! Splits a connection string into its parts. It is a URL, or pairs `key=value` as libpq reads them. No error
//! shows a part of the string, because that may be a part of the password.

use percent_encoding::percent_decode_str;

use crate::parameter_names::is_known;

/// The form that the connection string should have.
const EXAMPLE: &str = "postgres://USER:PASSWORD@HOST:5432/DATABASE";

/// The longest name of a parameter, in bytes.
const MAX_NAME: usize = 63;

/// A connection string that cannot be used. The error never contains the string, because that holds a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAddress(pub(super) String);

impl InvalidAddress {
    /// The string is not a connection string, for this reason.
    pub(super) fn unreadable(reason: &str) -> Self {
        Self(format!(
            "cannot be used as a connection string ({reason}); it should look like {EXAMPLE}, with special characters of \
             the password percent-encoded"
        ))
    }

    /// The parameter has another value than these.
    pub(super) fn not_one_of(name: &str, values: &str) -> Self {
        Self(format!("the parameter {name} must be one of {values}"))
    }

    fn second_at() -> Self {
        Self::unreadable("there is more than one @ in it")
    }
}

/// A parameter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    /// The name as it was written.
    pub(super) name: String,
    pub(super) value: Vec<u8>,
    /// False if the name may be a part of the password before it.
    is_name_certain: bool,
}

impl Parameter {
    /// Returns the name for messages, unless it may be a part of the password.
    pub(super) fn shown_name(&self) -> &str {
        if self.is_name_certain { &self.name } else { "after the password" }
    }
}

/// The parts of a connection string.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// The hosts before the path of a URL, each with its port. Parameters override them.
    pub(super) authority: Vec<(Vec<u8>, Option<String>)>,
    /// The parameters. User, password and database of a URL come first.
    pub(super) parameters: Vec<Parameter>,
}

impl Parts {
    fn push(&mut self, name: &str, value: Vec<u8>) -> Result<(), InvalidAddress> {
        if value.contains(&0) {
            return Err(InvalidAddress::unreadable("there is a NUL in it"));
        }
        // An unencoded & or quote ends the password too early.
        let follows_password =
            self.parameters.last().is_some_and(|last| is_password(&last.name) || !last.is_name_certain);
        let is_name_certain = is_known(name) || !follows_password;
        self.parameters.push(Parameter { name: name.to_owned(), value, is_name_certain });
        Ok(())
    }
}

/// True if the text is a URL of PostgreSQL or begins with a parameter of libpq.
pub(super) fn is_connection_string(text: &str) -> bool {
    let text = strip(text);
    let key = text.split('=').next().unwrap_or_default().trim_end();
    after_scheme(text).is_some() || key.len() < text.len() && is_known(key)
}

/// Splits the text into its parts.
///
/// # Errors
/// If it has neither form.
pub(super) fn split(text: &str) -> Result<Parts, InvalidAddress> {
    let text = strip(text);
    if text.contains("[YOUR-PASSWORD]") {
        let problem = "still holds the placeholder [YOUR-PASSWORD]; put the database password there";
        return Err(InvalidAddress(problem.into()));
    }
    match after_scheme(text) {
        Some(rest) => split_url(rest),
        None if text.is_empty() || is_connection_string(text) => split_pairs(text),
        None => Err(InvalidAddress::unreadable("it is neither a URL of PostgreSQL nor pairs of key=value")),
    }
}

/// Removes what a secret, a shell or a file adds around the string: spaces, a newline, a pair of quotes.
fn strip(text: &str) -> &str {
    let text = text.trim();
    let quoted = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote).map(str::trim);
    quoted('"').or_else(|| quoted('\'')).unwrap_or(text)
}

/// Returns what follows the scheme: `postgres://` or `postgresql://`, also with the name of a driver
/// (`postgresql+asyncpg://`).
fn after_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let (dialect, driver) = scheme.split_once('+').unwrap_or((&scheme, "driver"));
    let is_driver =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (matches!(dialect, "postgres" | "postgresql") && is_driver(driver)).then_some(rest)
}

fn split_url(rest: &str) -> Result<Parts, InvalidAddress> {
    let mut parts = Parts::default();
    let (credentials, rest) = split_credentials(rest);
    if let Some(credentials) = credentials {
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        parts.push("user", decode(user))?;
        parts.push("password", decode(password))?;
    }
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    if address.contains('@') {
        return Err(InvalidAddress::second_at());
    }
    let (authority, database) = address.split_once('/').unwrap_or((address, ""));
    for host in authority.split(',').map(str::trim).filter(|_| !authority.trim().is_empty()) {
        let (host, port) = split_port(host)?;
        parts.authority.push((decode(host), port.map(|port| decode_text(port).trim().to_owned())));
    }
    parts.push("dbname", decode(database.trim()))?;
    split_query(query, &mut parts)?;
    Ok(parts)
}

/// Splits off user and password. The password may contain a question mark, and so may the text before an @
/// in a parameter.
fn split_credentials(rest: &str) -> (Option<&str>, &str) {
    let Some(at) = rest.find('@').filter(|_| !rest.starts_with(['/', '?'])) else { return (None, rest) };
    let begins_query = |question: usize| {
        let pair = rest[question + 1..at].split_once('=');
        pair.is_some_and(|(name, _)| is_known(&decode_text(name.trim())))
    };
    match rest[..at].find('?') {
        Some(question) if begins_query(question) => (None, rest),
        _ => (Some(&rest[..at]), &rest[at + 1..]),
    }
}

/// Splits `HOST:PORT`. The brackets of an IPv6 address are removed.
fn split_port(host: &str) -> Result<(&str, Option<&str>), InvalidAddress> {
    let Some(bracketed) = host.strip_prefix('[') else {
        return Ok(host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))));
    };
    let invalid = || InvalidAddress::unreadable("invalid value for option `host`");
    let (host, rest) = bracketed.split_once(']').ok_or_else(invalid)?;
    match rest.strip_prefix(':') {
        None if !rest.is_empty() => Err(invalid()),
        port => Ok((host, port)),
    }
}

fn split_query(query: &str, parts: &mut Parts) -> Result<(), InvalidAddress> {
    for pair in query.split('&').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (written, value) = pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)));
        let name = decode_text(written.trim());
        if !is_known(&name) {
            if pair.contains('@') {
                return Err(InvalidAddress::second_at());
            }
            if value.is_none() || !is_name(&name) {
                return Err(InvalidAddress::unreadable("what follows the ? is not of the form key=value"));
            }
        }
        parts.push(&name, decode(value.unwrap_or_default().trim()))?;
    }
    Ok(())
}

/// True if a parameter could have this name, so that it may be shown.
fn is_name(name: &str) -> bool {
    let is_of_names = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(is_of_names)
}

/// Splits pairs `key=value` that are separated by spaces. A value with spaces is in single quotes; a
/// backslash precedes a quote or a backslash.
fn split_pairs(text: &str) -> Result<Parts, InvalidAddress> {
    let mut parts = Parts::default();
    let mut rest = text;
    let mut follows_bare_password = false;
    while !rest.is_empty() {
        let without_value =
            "a part of it is not of the form key=value, or a value with spaces is not in single quotes";
        let (name, value) = rest.split_once('=').ok_or_else(|| InvalidAddress::unreadable(without_value))?;
        let name = name.trim_end();
        // After a password with a space the "name" may be the rest of the password.
        if !is_name(name) || follows_bare_password && !is_known(name) {
            return Err(InvalidAddress::unreadable(without_value));
        }
        let value = value.trim_start();
        let quoted = value.strip_prefix('\'');
        let (value, after) = quoted.map_or_else(|| Ok(take_bare(value)), take_quoted)?;
        if !after.is_empty() && !after.starts_with(char::is_whitespace) {
            return Err(InvalidAddress::unreadable("there is no space after a closing quote"));
        }
        follows_bare_password = is_password(name) && quoted.is_none();
        parts.push(name, value.into_bytes())?;
        rest = after.trim_start();
    }
    Ok(parts)
}

/// Takes a value up to the next space, and returns what follows.
fn take_bare(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            _ if character.is_whitespace() => return (value, &text[place..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

/// Takes a value up to the closing quote, and returns what follows that.
fn take_quoted(text: &str) -> Result<(String, &str), InvalidAddress> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '\'' => return Ok((value, &text[place + 1..])),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    Err(InvalidAddress::unreadable("a quote is not closed"))
}

fn decode(text: &str) -> Vec<u8> {
    percent_decode_str(text).collect()
}

fn decode_text(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn is_password(name: &str) -> bool {
    name.eq_ignore_ascii_case("password")
}
