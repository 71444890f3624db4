//! Generated recordings: a valid file header followed by noise.

/// Returns a WAV file of this many bytes.
pub(crate) fn wav(bytes: usize) -> Vec<u8> {
    noise(b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data", bytes)
}

pub(crate) fn ogg(bytes: usize) -> Vec<u8> {
    noise(b"OggS\0\x02\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead", bytes)
}

/// Returns an MP3 file whose ID3 tag comes before the sound.
pub(crate) fn mp3(bytes: usize) -> Vec<u8> {
    noise(b"ID3\x04\0\0\0\0\0\x23TSSE\0\0\0\x0f\0\0\x03Lavf58", bytes)
}

/// Appends pseudo-random bytes to the header. No two parts of a file are the same, so a misplaced part is noticed.
fn noise(head: &[u8], bytes: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    let mut recording = head.to_vec();
    recording.extend(std::iter::repeat_with(next).take(bytes - head.len()));
    recording
}
