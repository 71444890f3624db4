//! The events of `GET /v1/events`, as a client reads them.

use futures_util::StreamExt as _;
use reqwest::{Body, Response};
use sse_stream::SseStream;
use talktrack_core::clock::Seq;
use talktrack_core::store::MessageRow;

/// The stream of events of a server. [`ApiClient::open_events`](crate::api::ApiClient::open_events) opens one.
pub struct EventStream(SseStream<Body>);

/// An event, as far as a follower of messages needs it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The place of the event, after which a later stream can begin. `None` if it has none.
    pub place: Option<Seq>,
    /// What has happened. `None` for an event that is no message, and for a message that this version cannot read.
    pub item: Option<EventItem>,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum EventItem {
    /// A message was added or revised. This is its row as it is when the server sends the event.
    Message(Box<MessageRow>),
    /// Some of the requested events are no longer kept.
    Gap,
}

impl EventStream {
    pub(crate) fn new(response: Response) -> Self {
        Self(SseStream::new(Body::from(response)))
    }

    /// Returns the next event, or `None` if the connection has ended.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.0.next().await?.ok()?;
        let place = event.id.and_then(|id| id.parse().ok());
        let data = event.data.unwrap_or_default();
        let item = match event.event.as_deref() {
            Some("message") => serde_json::from_str(&data).ok().map(EventItem::Message),
            Some("gap") => Some(EventItem::Gap),
            // The server says why it ends the stream. The next connection shows whether it still admits the caller.
            Some("closing") => return None,
            _ => None,
        };
        Some(Event { place, item })
    }
}
