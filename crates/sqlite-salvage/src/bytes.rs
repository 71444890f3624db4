//! Reads numbers and pieces from bytes that may be damaged.

use std::fs::File;
use std::io;

/// Reads a big-endian number of four bytes, or 0 if the bytes are missing.
pub(crate) fn read_be32(bytes: &[u8], place: usize) -> u32 {
    u32::try_from(big_endian(bytes, place, 4)).unwrap_or(0)
}

/// Reads a big-endian number of two bytes, or 0 if the bytes are missing.
pub(crate) fn read_be16(bytes: &[u8], place: usize) -> usize {
    usize::try_from(big_endian(bytes, place, 2)).unwrap_or(0)
}

fn big_endian(bytes: &[u8], place: usize, width: usize) -> u64 {
    let digits = bytes.get(place..place + width).unwrap_or_default();
    digits.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Reads a number in SQLite's encoding of 1 to 9 bytes. Returns the number and its length in bytes.
pub(crate) fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (index, byte) in bytes.iter().take(8).enumerate() {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number, index + 1));
        }
    }
    bytes.get(8).map(|last| (number << 8 | u64::from(*last), 9))
}

/// Reads into `bytes` from `place` on, up to the end of the file. Returns the number of bytes read.
pub(crate) fn read_available(file: &File, place: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        let Some(next) = place.checked_add(filled as u64) else { break };
        match read_at(file, &mut bytes[filled..], next) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], place: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, place)
}

#[cfg(windows)]
fn read_at(file: &File, bytes: &mut [u8], place: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, bytes, place)
}
