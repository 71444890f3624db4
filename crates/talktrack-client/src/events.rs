//! The events of `GET /v1/events`, as a client reads them.

use futures_util::StreamExt as _;
use reqwest::{Body, Response};
use sse_stream::SseStream;
use talktrack_core::clock::Seq;
use talktrack_core::store::MessageRow;

/// An error of another crate.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The stream of events of a server. [`ApiClient::open_events`](crate::api::ApiClient::open_events) opens one.
pub struct EventStream(SseStream<Body>);

/// An event, as far as a follower of messages needs it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The place of the event, after which a later stream can begin. `None` if it has none.
    pub place: Option<Seq>,
    /// What has happened. `None` for an event of another type, such as `session.started`, and for a heartbeat.
    pub item: Option<EventItem>,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum EventItem {
    /// A message was added or revised. This is its row as it is when the server sends the event.
    Message(Box<MessageRow>),
    /// A message was added or revised, and this version of the client cannot read its row. Update the client.
    UnreadableMessage {
        /// What is wrong with the row.
        problem: String,
    },
    /// Some of the requested events are no longer kept.
    Gap,
}

/// Why a stream of events broke off. Open another one after the place of the last event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventsError {
    /// The connection is lost.
    #[error("the connection is lost")]
    Lost {
        /// The cause.
        source: Cause,
    },
    /// What the server sent is not a stream of events. Check the URL.
    #[error("the server sent an invalid event")]
    Invalid {
        /// The cause.
        source: Cause,
    },
}

impl EventStream {
    pub(crate) fn new(response: Response) -> Self {
        Self(SseStream::new(Body::from(response)))
    }

    /// Waits for the next event. Returns `None` if the server has ended the stream: a later one may continue after the
    /// place of the last event.
    ///
    /// # Errors
    /// Says why the stream broke off.
    pub async fn next(&mut self) -> Result<Option<Event>, EventsError> {
        let Some(event) = self.0.next().await else { return Ok(None) };
        let event = event.map_err(explain_end)?;
        let place = event.id.and_then(|id| id.parse().ok());
        let data = event.data.unwrap_or_default();
        let item = match event.event.as_deref() {
            Some("message") => Some(read_message(&data)),
            Some("gap") => Some(EventItem::Gap),
            // The server says why it ends the stream. The next connection shows whether it still admits the caller.
            Some("closing") => return Ok(None),
            _ => None,
        };
        Ok(Some(Event { place, item }))
    }
}

fn read_message(data: &str) -> EventItem {
    match serde_json::from_str(data) {
        Ok(row) => EventItem::Message(row),
        Err(error) => EventItem::UnreadableMessage { problem: error.to_string() },
    }
}

fn explain_end(error: sse_stream::Error) -> EventsError {
    match error {
        sse_stream::Error::Body(source) => EventsError::Lost { source },
        sse_stream::Error::Utf8Parse(error) => EventsError::Invalid { source: error.into() },
        error => EventsError::Invalid { source: error.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(text: &'static str) -> EventStream {
        EventStream::new(http::Response::new(text).into())
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_read_keeps_its_place() {
        let mut events =
            stream("id: 7\nevent: message\ndata: {\"id\":3}\n\nid: 8\nevent: session.ended\ndata: {}\n\n");
        let event = events.next().await.unwrap().unwrap();
        assert_eq!(event.place, Some("7".parse().unwrap()));
        assert!(matches!(event.item, Some(EventItem::UnreadableMessage { .. })), "{event:?}");
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.place, event.item), (Some("8".parse().unwrap()), None));
        assert!(events.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn the_last_event_ends_the_stream() {
        let mut events =
            stream("event: closing\ndata: {\"code\":\"shutting_down\"}\n\nevent: gap\ndata: {}\n\n");
        assert!(events.next().await.unwrap().is_none());
    }
}
