//! A request body as it arrives. The server gives up on a sender that stops, or that sends so slowly that the body
//! would never end.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::StatusCode;
use futures_util::StreamExt as _;
use talktrack::ErrorCode;
use tokio::time::{Instant, timeout};

use crate::error::Problem;

/// The minimum average rate in bytes per second: a tenth of what the most economical speech codec produces.
const MIN_BYTES_PER_SECOND: u64 = 64;

/// The pieces of a body.
pub(crate) struct Incoming {
    body: BodyDataStream,
    /// How long the sender may be silent.
    idle_timeout: Duration,
    received: u64,
    /// How long the server has waited for pieces, in total. The time to process them does not count.
    waited: Duration,
}

impl Incoming {
    pub(crate) fn new(body: Body, idle_timeout: Duration) -> Self {
        Self { body: body.into_data_stream(), idle_timeout, received: 0, waited: Duration::ZERO }
    }

    /// Returns how many bytes have arrived.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Returns the next piece; `None` at the end.
    ///
    /// # Errors
    /// 400 if the body breaks off; 408 if the sender takes too long.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let earned = self.idle_timeout + Duration::from_secs(self.received / MIN_BYTES_PER_SECOND);
        let left = earned.saturating_sub(self.waited).min(self.idle_timeout);
        let began = Instant::now();
        let piece = timeout(left, self.body.next()).await.map_err(|_| too_slow())?;
        self.waited += began.elapsed();
        let piece = piece.transpose().map_err(|_| Problem::invalid("the body ended early"))?;
        self.received += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Ok(piece)
    }
}

fn too_slow() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        ErrorCode::Timeout,
        "the body does not arrive, or arrives too slowly",
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use tokio::time::sleep;

    use super::*;

    /// A body of `pieces` pieces, each of `bytes` bytes and after this pause.
    fn body(pieces: u32, bytes: usize, pause: Duration) -> Body {
        Body::from_stream(stream::unfold(0, move |place| async move {
            sleep(pause).await;
            (place < pieces).then(|| (Ok::<_, Infallible>(Bytes::from(vec![0; bytes])), place + 1))
        }))
    }

    async fn read(body: Body) -> Result<u64, Problem> {
        let mut incoming = Incoming::new(body, Duration::from_secs(60));
        while incoming.next().await?.is_some() {}
        Ok(incoming.received())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_take_its_time_but_not_for_ever() {
        assert_eq!(
            read(body(100, 10_000, Duration::from_secs(59))).await,
            Ok(1_000_000),
            "slow, and going on"
        );
        assert_eq!(read(body(2, 10_000, Duration::from_secs(61))).await, Err(too_slow()), "silent");
        assert_eq!(read(body(1_000, 1, Duration::from_secs(1))).await, Err(too_slow()), "a byte at a time");
    }
}
