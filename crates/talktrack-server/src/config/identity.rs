//! The settings of authentication: API keys for servers, and the source of users' tokens.

use std::path::PathBuf;

use talktrack_protocol::Secret;

use super::api_key::ApiKey;
use super::layers::Layers;
use crate::error::Failure;

/// The minimum length of the HS256 secret. HMAC with SHA-256 is only as strong as its secret, and a shorter secret can
/// be guessed from a single token.
const MIN_SECRET_BYTES: usize = 32;

/// What callers are authenticated with. If nothing is set, no identity is checked, and only this machine can connect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Identity {
    pub(crate) api_keys: Vec<ApiKey>,
    /// The file with further API keys. If it is set, every caller must authenticate, even while the file contains no
    /// keys.
    pub(crate) api_keys_file: Option<PathBuf>,
    /// The Supabase project whose published keys sign the users' tokens, without a slash at its end.
    pub(crate) supabase_url: Option<String>,
    /// The secret with which older Supabase projects sign tokens.
    pub(crate) supabase_jwt_secret: Option<Secret>,
    pub(crate) jwt_audience: String,
    /// The required issuer of tokens; `None` accepts every issuer that has the key.
    pub(crate) jwt_issuer: Option<String>,
    /// What the server allows tokens of users to do.
    pub(crate) user_access: UserAccess,
}

impl Identity {
    /// True if callers must authenticate.
    pub(crate) fn is_configured(&self) -> bool {
        !self.api_keys.is_empty() || self.api_keys_file.is_some() || self.takes_users()
    }

    /// True if tokens of users are accepted.
    pub(crate) fn takes_users(&self) -> bool {
        self.supabase_url.is_some() || self.supabase_jwt_secret.is_some()
    }
}

/// The settings that locate API keys. They can be read separately, because keys are created before the other settings
/// are complete.
#[derive(Debug)]
pub(crate) struct KeySettings {
    pub(crate) data_dir: PathBuf,
    pub(crate) api_keys: Vec<ApiKey>,
    pub(crate) api_keys_file: Option<PathBuf>,
}

impl KeySettings {
    pub(super) fn read(layers: &Layers) -> Result<Self, Failure> {
        Ok(Self {
            data_dir: layers.get("data_dir", super::parse::path)?,
            api_keys: layers.get("api_keys", parse_api_keys)?,
            api_keys_file: layers.get("api_keys_file", super::parse::optional_path)?,
        })
    }
}

/// What tokens of users may do with the users' own conversations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum UserAccess {
    /// Reading only.
    Read,
    /// Reading and writing. A token revises only messages that a token wrote.
    #[default]
    Write,
    /// Reading, writing and deleting.
    Delete,
}

/// Parses `read`, `read+write` or `read+write+delete`.
pub(super) fn parse_user_access(text: &str) -> Result<UserAccess, String> {
    match text {
        "read" => Ok(UserAccess::Read),
        "read+write" => Ok(UserAccess::Write),
        "read+write+delete" => Ok(UserAccess::Delete),
        _ => Err("must be read, read+write or read+write+delete".into()),
    }
}

/// Parses the list of API keys. Names must be unique, so that a name in a log line identifies one key.
pub(super) fn parse_api_keys(text: &str) -> Result<Vec<ApiKey>, String> {
    let mut keys: Vec<ApiKey> = Vec::new();
    for entry in super::parse::list(text) {
        let key: ApiKey = entry.parse()?;
        if keys.iter().any(|other| other.name == key.name) {
            return Err(format!("two keys are called {}", key.name));
        }
        keys.push(key);
    }
    Ok(keys)
}

/// Parses the URL of a Supabase project.
pub(super) fn parse_supabase_url(text: &str) -> Result<Option<String>, String> {
    super::parse::optional_url(text, "https://PROJECT.supabase.co")
}

/// Parses the secret of HS256 tokens.
pub(super) fn parse_jwt_secret(text: &str) -> Result<Option<Secret>, String> {
    match text.len() {
        0 => Ok(None),
        MIN_SECRET_BYTES.. => Ok(Some(text.into())),
        _ => Err(format!(
            "must be at least {MIN_SECRET_BYTES} bytes: a shorter secret can be guessed from a token"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_one_key() {
        let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let twice = format!("a:read:{hash}, a:write:{hash}");
        assert_eq!(parse_api_keys(&twice).unwrap_err(), "two keys are called a");
    }

    #[test]
    fn a_supabase_url_has_nothing_but_a_place() {
        let url = |text| parse_supabase_url(text).map(|url| url.unwrap_or_default());
        assert_eq!(url("https://x.supabase.co/").unwrap(), "https://x.supabase.co");
        assert_eq!(url("http://127.0.0.1:54321").unwrap(), "http://127.0.0.1:54321");
        assert_eq!(url("").unwrap(), "");
        for text in
            ["x.supabase.co", "ftp://x", "https://me:hunter2@x", "https://x?hunter2=1", "https://", "hunter2"]
        {
            assert!(!url(text).unwrap_err().contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_short_secret_is_refused_and_none_is_shown() {
        assert!(!parse_jwt_secret("hunter2").unwrap_err().contains("hunter2"));
        let secret = parse_jwt_secret(&"hunter2".repeat(6)).unwrap().unwrap();
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
