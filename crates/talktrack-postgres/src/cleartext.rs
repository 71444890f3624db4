//! A stream to a PostgreSQL server that inspects the server's messages until the authentication is
//! complete, and fails if the server asks for a cleartext password.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The type byte of an authentication request.
const AUTHENTICATION: u8 = b'R';
/// The number of the request for a cleartext password.
const CLEARTEXT: u32 = 3;
/// The number of the message that the authentication is complete.
const AUTHENTICATED: u32 = 0;
/// The size of a message's type and length, in bytes.
const HEAD: usize = 5;
/// The size of the head plus the number of the authentication request, in bytes.
const REQUEST: usize = HEAD + 4;

/// The server asks for a cleartext password, which any listener on the network could read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the server asks for the password in the clear over a connection that is not encrypted; the password was not sent: \
     let the server speak TLS (sslmode=require), or let it ask by scram-sha-256"
)]
pub(super) struct CleartextAsked;

/// The stream.
pub(super) struct NoCleartext {
    stream: TcpStream,
    /// `None` once no further message has to be inspected.
    inspector: Option<AuthInspector>,
}

impl NoCleartext {
    /// Wraps a stream. On the loopback interface nothing is inspected: no other machine can listen there.
    pub(super) fn new(stream: TcpStream) -> Self {
        let is_local = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
        Self { stream, inspector: (!is_local).then(AuthInspector::default) }
    }
}

/// The state of the inspection.
#[derive(Debug, Default)]
struct AuthInspector {
    /// The bytes of the current message so far.
    begun: Vec<u8>,
    /// The number of its remaining bytes, which are not inspected.
    skip: usize,
}

impl AuthInspector {
    /// Inspects further bytes. Returns true once the authentication is complete.
    ///
    /// # Errors
    /// [`CleartextAsked`], if the server asks for a cleartext password.
    fn read(&mut self, mut bytes: &[u8]) -> Result<bool, CleartextAsked> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                (self.skip, bytes) = (self.skip - skipped, &bytes[skipped..]);
                continue;
            }
            self.begun.push(bytes[0]);
            bytes = &bytes[1..];
            let wanted = if self.begun[0] == AUTHENTICATION { REQUEST } else { HEAD };
            if self.begun.len() < wanted {
                continue;
            }
            let number =
                |at: usize| self.begun[at..at + 4].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
            let length = usize::try_from(number(1)).unwrap_or(usize::MAX);
            if wanted == REQUEST {
                match number(HEAD) {
                    CLEARTEXT => return Err(CleartextAsked),
                    AUTHENTICATED => return Ok(true),
                    _ => {}
                }
            }
            // The length includes its own four bytes but not the type byte.
            self.skip = length.saturating_add(1).saturating_sub(wanted);
            self.begun.clear();
        }
        Ok(false)
    }
}

impl AsyncRead for NoCleartext {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if let Some(inspector) = &mut self.inspector {
            match inspector.read(&buffer.filled()[before..]) {
                Ok(true) => self.inspector = None,
                Ok(false) => {}
                Err(asked) => return Poll::Ready(Err(io::Error::other(asked))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for NoCleartext {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind][..], &length, body].concat()
    }

    /// Feeds the bytes in pieces of every size, because the network decides how many arrive at once.
    fn read(bytes: &[u8]) -> Vec<Result<bool, String>> {
        (1..=bytes.len())
            .map(|size| {
                let mut inspector = AuthInspector::default();
                for piece in bytes.chunks(size) {
                    match inspector.read(piece) {
                        Ok(false) => {}
                        read => return read.map_err(|asked| asked.to_string()),
                    }
                }
                Ok(false)
            })
            .collect()
    }

    #[test]
    fn a_request_for_the_password_is_found_wherever_it_stands() {
        let asked = message(b'R', &3u32.to_be_bytes());
        for before in [Vec::new(), message(b'v', b"12345678R\0\0\0\x08\0\0\0\x03"), message(b'N', b"RRRR\0")]
        {
            let bytes = [before, asked.clone()].concat();
            assert!(read(&bytes).iter().all(Result::is_err), "{bytes:?}");
        }
    }

    #[test]
    fn scram_and_everything_after_the_authentication_go_through() {
        let sasl = message(b'R', &[&10u32.to_be_bytes()[..], b"SCRAM-SHA-256\0\0"].concat());
        let done = message(b'R', &0u32.to_be_bytes());
        let bytes = [sasl.clone(), done.clone(), message(b'R', &3u32.to_be_bytes())].concat();
        assert!(read(&bytes).iter().all(|read| *read == Ok(true)), "what a row says is none of this");
        assert!(read(&sasl).iter().all(|read| *read == Ok(false)));
    }
}
