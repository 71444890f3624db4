//! The settings of the store of recordings.

use talktrack_protocol::Secret;

use super::layers::Layers;
use super::limits::unless_off;
use super::parse;
use crate::error::Failure;

/// The S3 endpoint of Supabase Storage, as an example.
const EXAMPLE: &str = "https://PROJECT.supabase.co/storage/v1/s3";

/// Where recordings are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AudioStore {
    /// In the data directory.
    Folder,
    S3(S3),
}

/// A bucket, and how to access it. Values that are `None` come from the usual AWS variables, or are the defaults of
/// AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct S3 {
    pub(crate) bucket: String,
    /// The common prefix of all recordings; may be empty.
    pub(crate) prefix: String,
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    /// The id of the access key, and its secret.
    pub(crate) keys: Option<(String, Secret)>,
}

/// The maximum bytes of stored recordings; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AudioQuotas {
    /// For each user who uploads with a token.
    pub(crate) per_user: Option<u64>,
    /// For all users together.
    pub(crate) total: Option<u64>,
}

impl AudioQuotas {
    pub(super) fn read(layers: &Layers) -> Result<Self, Failure> {
        let bytes = |key| layers.get(key, |text| unless_off(text, parse::size));
        Ok(Self { per_user: bytes("max_audio_bytes_per_user")?, total: bytes("max_audio_bytes_total")? })
    }
}

impl AudioStore {
    pub(super) fn read(layers: &Layers) -> Result<Self, Failure> {
        let place = layers.get("audio_store", parse_bucket)?;
        let endpoint = layers.get("audio_endpoint", |text| parse::optional_url(text, EXAMPLE))?;
        let region = layers.get("audio_region", parse::optional_text)?;
        let id = layers.get("audio_access_key_id", parse::optional_text)?;
        let secret = layers.get("audio_secret_access_key", |text| match (&id, text) {
            (None, "") => Ok(None),
            (Some(id), secret) if !secret.is_empty() => Ok(Some((id.clone(), secret.into()))),
            _ => Err("must be set if audio_access_key_id is set, and only then".to_owned()),
        });
        let keys = secret?;
        let s3 = |(bucket, prefix)| Self::S3(S3 { bucket, prefix, endpoint, region, keys });
        Ok(place.map_or(Self::Folder, s3))
    }
}

/// Parses the bucket and the prefix.
fn parse_bucket(text: &str) -> Result<Option<(String, String)>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let (bucket, prefix) =
        text.strip_prefix("s3://").map(|rest| rest.split_once('/').unwrap_or((rest, ""))).unwrap_or_default();
    let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let prefix = prefix.trim_matches('/');
    if bucket.is_empty()
        || !is_plain(bucket)
        || !is_plain(prefix)
        || prefix.contains("//")
        || prefix.contains("..")
    {
        // The text is not repeated in the error: it may be a URL with a password.
        return Err("must be s3://BUCKET or s3://BUCKET/PREFIX, with only letters, digits, '-', '_' and '.'; the address of the \
                    server belongs in audio_endpoint"
            .into());
    }
    Ok(Some((bucket.to_owned(), prefix.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_may_have_a_prefix_and_nothing_else() {
        let named = |bucket: &str, prefix: &str| Ok(Some((bucket.to_owned(), prefix.to_owned())));
        assert_eq!(parse_bucket(""), Ok(None));
        assert_eq!(parse_bucket("s3://calls"), named("calls", ""));
        assert_eq!(parse_bucket("s3://calls/eu/live/"), named("calls", "eu/live"));
        for text in [
            "calls",
            "s3://",
            "s3:///x",
            "https://x/y",
            "s3://me:hunter2@calls",
            "s3://a/../b",
            "s3://a?x=hunter2",
        ] {
            assert!(!parse_bucket(text).unwrap_err().contains("hunter2"), "{text}");
        }
    }
}
