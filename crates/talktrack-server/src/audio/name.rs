//! The name of a recording. The server generates it, so that nothing a client sends becomes part of a path.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::AudioFormat;

/// `<uuid>.<extension>`: unique and sorted by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordingName {
    id: Uuid,
    format: AudioFormat,
}

impl RecordingName {
    pub(crate) fn generate(format: AudioFormat) -> Self {
        Self { id: Uuid::now_v7(), format }
    }

    pub(crate) fn format(self) -> AudioFormat {
        self.format
    }
}

impl fmt::Display for RecordingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.format.extension())
    }
}

/// Parses a name. Only the exact spelling that the server generates is accepted.
impl FromStr for RecordingName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (id, extension) = text.split_once('.').ok_or(())?;
        let id = id.parse().map_err(|_| ())?;
        let name = Self { id, format: AudioFormat::from_extension(extension).ok_or(())? };
        if name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_minted_and_nothing_else_is_one() {
        let name = RecordingName::generate(AudioFormat::Mp4);
        assert_eq!(name.to_string().parse(), Ok(name));
        let id = Uuid::from_u128(0xabc);
        for text in [
            "",
            ".wav",
            "..",
            "../../etc/passwd",
            &format!("{id}"),
            &format!("{id}.exe"),
            &format!("{id}.wav#1"),
            &format!("{}.wav", id.simple()),
            &format!("{id}.wav").to_uppercase(),
            &format!("x/{id}.wav"),
        ] {
            assert_eq!(text.parse::<RecordingName>(), Err(()), "{text}");
        }
    }
}
