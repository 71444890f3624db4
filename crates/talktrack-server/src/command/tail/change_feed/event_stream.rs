//! The events of `GET /v1/events`, as a client reads them.

use futures_util::StreamExt as _;
use reqwest::{Body, Response};
use sse_stream::SseStream;
use talktrack::clock::Seq;

use super::FeedItem;

/// The stream of a response.
pub(super) struct EventStream(SseStream<Body>);

/// An event, as far as a follower of messages needs it.
pub(super) struct StreamItem {
    /// The place of the event. `None` if it has none.
    pub(super) place: Option<Seq>,
    /// `None` for an event that is no message, and for a message that this version cannot read.
    pub(super) item: Option<FeedItem>,
}

impl EventStream {
    pub(super) fn new(response: Response) -> Self {
        Self(SseStream::new(Body::from(response)))
    }

    /// Returns the next event, or `None` if the connection has ended.
    pub(super) async fn next(&mut self) -> Option<StreamItem> {
        let event = self.0.next().await?.ok()?;
        let place = event.id.and_then(|id| id.parse().ok());
        let data = event.data.unwrap_or_default();
        let item = match event.event.as_deref() {
            Some("message") => serde_json::from_str(&data).ok().map(FeedItem::Message),
            Some("gap") => Some(FeedItem::Gap),
            // The server says why it ends the stream. The next connection shows whether it still admits the caller.
            Some("closing") => return None,
            _ => None,
        };
        Some(StreamItem { place, item })
    }
}
