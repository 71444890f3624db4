//! Counts what users read, for all endpoints: the size of a complete response, and the pieces of a streamed one as they
//! are sent. A stream waits while its user has read more than `read_bytes_per_user` allows.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::limits::{Account, Limits, Reading};
use crate::state::AppState;

/// Passes a request on, and counts the bytes of its response.
pub(crate) async fn meter_reading(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let is_reading = [Method::GET, Method::HEAD].contains(request.method());
    // Opening a WebSocket is never delayed by the read limit.
    if !is_reading || request.headers().contains_key(header::UPGRADE) {
        return next.run(request).await;
    }
    let reading = Reading::default();
    request.extensions_mut().insert(reading.clone());
    let answer = next.run(request).await;
    let Some((account, _permit)) = reading.end() else { return answer };
    let limits = state.limits().clone();
    match answer.body().size_hint().exact() {
        Some(bytes) => {
            limits.charge_reading(&account, usize::try_from(bytes).unwrap_or(usize::MAX));
            answer
        }
        None => answer.map(|body| Body::new(Paced { body, limits, account, rest: None })),
    }
}

/// A body whose pieces are counted, and wait while too much was read.
struct Paced {
    body: Body,
    limits: Limits,
    account: Account,
    rest: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        loop {
            if let Some(rest) = &mut this.rest {
                ready!(rest.as_mut().poll(context));
                this.rest = None;
            }
            match this.limits.reading_debt(&this.account) {
                Some(debt) => this.rest = Some(Box::pin(sleep(debt))),
                None => break,
            }
        }
        let piece = ready!(Pin::new(&mut this.body).poll_frame(context));
        if let Some(Ok(frame)) = &piece {
            this.limits.charge_reading(&this.account, frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
