//! Bodies that are compressed with gzip.

use std::io::{self, Write};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use flate2::write::MultiGzDecoder;
use talktrack::ErrorCode;

use crate::error::Problem;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyEncoding {
    Identity,
    Gzip,
}

impl BodyEncoding {
    /// Returns the encoding that the request names.
    ///
    /// # Errors
    /// 415 for any other encoding.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let named = headers.get_all(header::CONTENT_ENCODING).iter();
        let named: Vec<_> = named.map(HeaderValue::as_bytes).collect();
        match &*named {
            [] => Ok(Self::Identity),
            [one] if one.eq_ignore_ascii_case(b"identity") || one.is_empty() => Ok(Self::Identity),
            [one] if one.eq_ignore_ascii_case(b"gzip") || one.eq_ignore_ascii_case(b"x-gzip") => {
                Ok(Self::Gzip)
            }
            _ => {
                let detail = "Content-Encoding must be gzip, or left out";
                Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::Unsupported, detail))
            }
        }
    }
}

/// Decodes a body piece by piece.
pub(super) enum BodyDecoder {
    Identity(LimitedBytes),
    Gzip(Box<MultiGzDecoder<LimitedBytes>>),
}

/// Why a body cannot be decoded.
#[derive(Debug)]
pub(super) struct DecodeError(io::Error);

/// The decoded bytes. More than the limit is an error.
pub(super) struct LimitedBytes {
    bytes: Vec<u8>,
    limit: usize,
}

impl BodyDecoder {
    pub(super) fn new(encoding: BodyEncoding, limit: usize) -> Self {
        let bytes = LimitedBytes { bytes: Vec::new(), limit };
        match encoding {
            BodyEncoding::Identity => Self::Identity(bytes),
            BodyEncoding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(bytes))),
        }
    }

    /// Decodes a piece.
    pub(super) fn write(&mut self, piece: &[u8]) -> Result<(), DecodeError> {
        let written = match self {
            Self::Identity(bytes) => bytes.write_all(piece),
            Self::Gzip(decoder) => decoder.write_all(piece),
        };
        written.map_err(DecodeError)
    }

    /// Returns the number of decoded bytes so far.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Identity(bytes) => bytes.bytes.len(),
            Self::Gzip(decoder) => decoder.get_ref().bytes.len(),
        }
    }

    /// Returns all bytes. Fails if the compressed data end too early.
    pub(super) fn finish(self) -> Result<Vec<u8>, DecodeError> {
        match self {
            Self::Identity(bytes) => Ok(bytes.bytes),
            Self::Gzip(decoder) => decoder.finish().map(|bytes| bytes.bytes).map_err(DecodeError),
        }
    }
}

impl Write for LimitedBytes {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + piece.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DecodeError {
    /// Returns the problem. `too_large` is its text if the body has too many bytes.
    pub(super) fn into_problem(self, too_large: &str) -> Problem {
        match self.0.kind() {
            io::ErrorKind::FileTooLarge => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge, too_large)
            }
            _ => Problem::invalid("the body is not valid gzip, or it ends early"),
        }
    }
}
