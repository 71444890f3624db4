//! Detects the format of audio from its first bytes. The sender's content type is not trusted: browsers play what is
//! stored here, and an HTML page must not be served under the name of a recording.

/// A format that is stored and played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AudioFormat {
    Wav,
    /// Ogg with Opus, Vorbis and others, as most speech services send it.
    Ogg,
    /// What Chrome and Firefox record.
    WebM,
    Mp3,
    /// What Safari and phones record.
    Mp4,
    Flac,
    Aac,
}

/// The brands of MP4 files that contain audio. MP4 files with pictures have other brands.
const MP4_BRANDS: &[&[u8]] =
    &[b"M4A ", b"M4B ", b"mp41", b"mp42", b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"dash", b"F4A "];

/// The element in the head of a Matroska file that marks it as WebM: its id, the length of its text, and the text.
const WEBM: &[u8] = b"\x42\x82\x84webm";

impl AudioFormat {
    /// How many bytes of the beginning suffice to detect the format.
    pub(crate) const HEAD: usize = 64;

    const ALL: [Self; 7] = [Self::Wav, Self::Ogg, Self::WebM, Self::Mp3, Self::Mp4, Self::Flac, Self::Aac];

    /// Returns the format of a file that begins with these bytes.
    pub(crate) fn detect(head: &[u8]) -> Option<Self> {
        let head = &head[..head.len().min(Self::HEAD)];
        let at = |place: usize, length: usize| head.get(place..place + length).unwrap_or_default();
        let contains = |part: &[u8]| head.windows(part.len()).any(|window| window == part);
        match at(0, 4) {
            b"RIFF" | b"RF64" if at(8, 4) == b"WAVE" => Some(Self::Wav),
            b"OggS" => Some(Self::Ogg),
            b"\x1a\x45\xdf\xa3" if contains(WEBM) => Some(Self::WebM),
            b"fLaC" => Some(Self::Flac),
            _ if at(4, 4) == b"ftyp" && MP4_BRANDS.contains(&at(8, 4)) => Some(Self::Mp4),
            _ if at(0, 3) == b"ID3" && head.len() > 10 => Some(Self::Mp3),
            frame if is_mp3_frame(frame) => Some(Self::Mp3),
            frame if is_adts_frame(frame) => Some(Self::Aac),
            _ => None,
        }
    }

    /// Returns the file name extension, without the dot.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Ogg => "ogg",
            Self::WebM => "webm",
            Self::Mp3 => "mp3",
            Self::Mp4 => "m4a",
            Self::Flac => "flac",
            Self::Aac => "aac",
        }
    }

    /// Returns the format of files with this extension.
    pub(crate) fn from_extension(extension: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.extension() == extension)
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Wav => "audio/wav",
            Self::Ogg => "audio/ogg",
            Self::WebM => "audio/webm",
            Self::Mp3 => "audio/mpeg",
            Self::Mp4 => "audio/mp4",
            Self::Flac => "audio/flac",
            Self::Aac => "audio/aac",
        }
    }
}

/// True if the bytes are the header of an MP3 frame: eleven one bits, then version, layer III, and valid codes for the
/// bit rate and the sample rate.
fn is_mp3_frame(frame: &[u8]) -> bool {
    let &[first, second, third, _] = frame else { return false };
    let version = second >> 3 & 0b11;
    let layer = second >> 1 & 0b11;
    let bit_rate = third >> 4;
    let sample_rate = third >> 2 & 0b11;
    let is_synchronous = first == 0xff && second >= 0xe0;
    is_synchronous && version != 0b01 && layer == 0b01 && bit_rate != 0b1111 && sample_rate != 0b11
}

/// True if the bytes are the header of an ADTS frame: twelve one bits, a layer of 0, and a valid code for the sample
/// rate.
fn is_adts_frame(frame: &[u8]) -> bool {
    let &[first, second, third, _] = frame else { return false };
    first == 0xff && second & 0b1111_0110 == 0b1111_0000 && third >> 2 & 0b1111 < 13
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_told_by_its_first_bytes() {
        let webm = b"\x1a\x45\xdf\xa3\x01\0\0\0\0\0\0\x1f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm\x42\x87";
        for (head, format) in [
            (&b"RIFF\x24\0\0\0WAVEfmt "[..], AudioFormat::Wav),
            (b"OggS\0\x02\0\0\0\0\0\0\0\0", AudioFormat::Ogg),
            (webm, AudioFormat::WebM),
            (b"\0\0\0\x20ftypM4A \0\0\0\0", AudioFormat::Mp4),
            (b"\0\0\0\x1cftypisom\0\0\x02\0", AudioFormat::Mp4),
            (b"fLaC\0\0\0\x22", AudioFormat::Flac),
            (b"ID3\x04\0\0\0\0\0\x23TSSE", AudioFormat::Mp3),
            (b"\xff\xfb\x90\x64", AudioFormat::Mp3),
            (b"\xff\xf3\x40\xc4", AudioFormat::Mp3),
            (b"\xff\xf1\x50\x80", AudioFormat::Aac),
            (b"\xff\xf9\x4c\x80", AudioFormat::Aac),
        ] {
            assert_eq!(AudioFormat::detect(head), Some(format), "{head:?}");
            assert_eq!(AudioFormat::from_extension(format.extension()), Some(format));
        }
    }

    #[test]
    fn what_is_no_audio_is_not_taken_for_one_however_it_begins() {
        let matroska = b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\x01\x42\x82\x88matroska";
        for head in [
            &b""[..],
            b"R",
            b"RIFF\x24\0\0\0AVI LIST",
            b"<!doctype html><script>",
            b"<svg xmlns=",
            b"ID3",
            b"\0\0\0\x18ftypheic",
            b"\0\0\0\x14ftypqt  ",
            b"\xff\xd8\xff\xe0",
            b"\xff\xfe<\0",
            b"\xff\xff\xff\xff",
            b"\x89PNG\r\n\x1a\n",
            b"MZ\x90\0",
            matroska,
        ] {
            assert_eq!(AudioFormat::detect(head), None, "{head:?}");
        }
    }
}
