//! Opens JSONL files. They may be compressed with gzip or Zstandard, which the first bytes tell.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, stdin};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use talktrack_protocol::jsonl::Lines;

/// How much of a file is read at once.
const BUFFER: usize = 1 << 16;

const GZIP: [u8; 2] = [0x1F, 0x8B];
const ZSTANDARD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// Opens a file; `-` is standard input.
///
/// # Errors
/// If the file cannot be read; the text names it.
pub(crate) fn open(path: &Path) -> io::Result<Lines<Box<dyn BufRead + Send>>> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "stdin".to_owned() } else { path.display().to_string() };
    let opened = if is_stdin { decompress(stdin()) } else { File::open(path).and_then(decompress) };
    match opened {
        Ok(input) => Ok(Lines::new(input, name)),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot read {name}: {error}"))),
    }
}

fn decompress(input: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let mut input = BufReader::with_capacity(BUFFER, input);
    let first = input.fill_buf()?;
    if first.starts_with(&GZIP) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(input))));
    }
    if first.starts_with(&ZSTANDARD) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, zstd::Decoder::with_buffer(input)?)));
    }
    Ok(Box::new(input))
}
