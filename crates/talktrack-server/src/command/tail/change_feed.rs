//! The change feed that `talktrack tail` follows: the events of a server, or the changes in the file of a data directory.
//! Both have the same places in the order of changes, so one continues after the other.

mod file_feed;

use std::time::Duration;

use file_feed::FileFeed;
use talktrack::ReadError;
use talktrack::clock::Seq;
use talktrack::store::MessageRow;
use talktrack_client::api::{ApiClient, OpenEventsError};
use talktrack_client::events::{EventItem, EventStream};

use super::TailArgs;
use crate::error::Failure;
use crate::serve;

/// How often the file is read: often enough for a person, and rarely enough to cost nothing.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The pause before the next connection to a server.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// What comes next in the feed.
pub(super) enum FeedItem {
    /// A message was added or revised. This is its row as it is now.
    Message(Box<MessageRow>),
    /// A message was added or revised, and this version cannot read the row that the server sent.
    UnreadableMessage { place: Option<Seq>, problem: String },
    /// Some of the requested changes are no longer kept.
    Gap,
}

pub(super) enum ChangeFeed {
    /// The events of the server that `--url` names.
    Server(ServerFeed),
    /// The changes of a data directory: the events of the server that uses it, then those in its file.
    DataDir { server: Option<ServerFeed>, file: Box<FileFeed> },
}

impl ChangeFeed {
    /// Opens the feed after the newest change, or before the oldest one that is kept.
    ///
    /// # Errors
    /// Fails if there is no such server, or no such data directory.
    pub(super) async fn open(args: &TailArgs) -> Result<Self, Failure> {
        let place = args.since_start.then_some(Seq::ZERO);
        if let Some(client) = args.source.server()? {
            let mut server = ServerFeed::new(client, place);
            server.connect().await?;
            return Ok(Self::Server(server));
        }
        let config = args.source.location().load()?;
        let file = Box::new(FileFeed::open(&config, place).await?);
        let server = match serve::read_listen_address(&config.data_dir) {
            None => None,
            Some(address) => {
                let client = ApiClient::new(&format!("http://{address}"), args.source.token().cloned())?;
                let mut server = ServerFeed::new(client, Some(file.place));
                // The server may be gone, or admit nobody without a token. The file has the same changes.
                server.connect().await.is_ok().then_some(server)
            }
        };
        Ok(Self::DataDir { server, file })
    }

    /// True if it is known that there is no conversation yet.
    pub(super) async fn has_no_conversation(&self) -> Result<bool, ReadError> {
        match self {
            Self::Server(_) => Ok(false),
            Self::DataDir { file, .. } => file.has_no_conversation().await,
        }
    }

    /// Waits for the next item.
    pub(super) async fn next(&mut self) -> Result<FeedItem, Failure> {
        match self {
            Self::Server(server) => loop {
                if let Some(item) = server.next().await {
                    return Ok(item);
                }
                tokio::time::sleep(RECONNECT_PAUSE).await;
                if let Err(OpenEventsError::Refused(refusal)) = server.connect().await {
                    return Err(refusal.into());
                }
            },
            Self::DataDir { server, file } => {
                if let Some(following) = server {
                    if let Some(item) = following.next().await {
                        return Ok(item);
                    }
                    file.place = following.place.unwrap_or(file.place);
                    *server = None;
                }
                loop {
                    if let Some(item) = file.next().await? {
                        return Ok(item);
                    }
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            }
        }
    }
}

/// The events of a server.
pub(super) struct ServerFeed {
    client: ApiClient,
    /// The place of the last event. `None`: the feed begins with the next event.
    place: Option<Seq>,
    /// `None` if the connection has ended.
    stream: Option<EventStream>,
}

impl ServerFeed {
    fn new(client: ApiClient, place: Option<Seq>) -> Self {
        Self { client, place, stream: None }
    }

    async fn connect(&mut self) -> Result<(), OpenEventsError> {
        self.stream = Some(self.client.open_events(self.place).await?);
        Ok(())
    }

    /// Returns the next item, or `None` if the stream has ended.
    async fn next(&mut self) -> Option<FeedItem> {
        loop {
            // A stream that broke off is continued as one that has ended is.
            let Ok(Some(event)) = self.stream.as_mut()?.next().await else {
                self.stream = None;
                return None;
            };
            self.place = event.place.or(self.place);
            match event.item {
                Some(EventItem::Message(row)) => return Some(FeedItem::Message(row)),
                Some(EventItem::UnreadableMessage { problem }) => {
                    return Some(FeedItem::UnreadableMessage { place: event.place, problem });
                }
                Some(EventItem::Gap) => return Some(FeedItem::Gap),
                _ => {}
            }
        }
    }
}
