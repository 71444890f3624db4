//! Where a command looks: in the store of a data directory, in a database, or at a running server.

mod server;

use talktrack::clock::{Clock as _, SystemClock};
use talktrack::search::{Hit, SearchCursor, SearchError, SearchFilter};
use talktrack::stats::{Stats, TimeRange};
use talktrack::store::{MessageCursor, MessageRow, Page, SessionCursor, SessionRow};
use talktrack::{SessionId, Timestamp, UserId};
use talktrack_client::api::ApiClient;
use talktrack_protocol::Secret;

pub(super) use server::{ServerQuery, ServerReader};

use super::filter::{ListFilter, SearchWords};
use super::server_url::{self, variable_url};
use crate::api::stats::{Statistics, Step};
use crate::config::{Config, DataLocation, TOKEN_VARIABLE};
use crate::error::Failure;
use crate::store::{self, PAGE, StoreReader};

/// Where to look. `--url` and the flags of the location exclude each other; without either, `TALKTRACK_URL` decides.
#[derive(Debug, clap::Args)]
pub(super) struct SourceArgs {
    /// Ask the server at this URL instead of reading a data directory or a database [env: TALKTRACK_URL]
    #[arg(long, value_name = "URL", conflicts_with_all = ["data_dir", "database_url", "config"])]
    url: Option<String>,
    /// The API key or user token to authenticate with at a server
    #[arg(long, value_name = "TOKEN", env = TOKEN_VARIABLE, hide_env_values = true)]
    token: Option<Secret>,
    #[command(flatten)]
    location: DataLocation,
}

impl SourceArgs {
    /// Returns the location of the data, which is meaningful if [`Self::server`] returns `None`.
    pub(super) fn location(&self) -> &DataLocation {
        &self.location
    }

    /// Returns the token for a server.
    pub(super) fn token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }

    /// Returns the server to ask; `None` if the command reads the data itself.
    ///
    /// # Errors
    /// Fails if the URL or the token is invalid.
    pub(super) fn server(&self) -> Result<Option<ApiClient>, Failure> {
        let from_environment = || if self.location.is_named_by_flags() { None } else { variable_url() };
        let url = self.url.clone().or_else(from_environment);
        Ok(url.map(|url| server_url::api_client(&url, self.token.clone())).transpose()?)
    }

    /// Opens the source.
    ///
    /// # Errors
    /// Fails if the URL is invalid or the file does not exist. A server or a database is connected to later.
    pub(super) fn open(&self) -> Result<Source, Failure> {
        match self.server()? {
            Some(api) => Ok(Source::Server(ServerReader::new(api))),
            None => Source::of_config(self.location.load()?),
        }
    }

    /// Opens the source as [`Self::open`] does, unless the settings name a store other than the one whose outbox the data
    /// directory is.
    ///
    /// # Errors
    /// Fails as [`Self::open`] does, or names the store and the setting.
    pub(super) async fn open_right_store(&self) -> Result<Source, Failure> {
        match self.server()? {
            Some(api) => Ok(Source::Server(ServerReader::new(api))),
            None => {
                let config = self.location.load()?;
                store::refuse_other_store(&config).await?;
                Source::of_config(config)
            }
        }
    }
}

/// Where a command reads.
pub(super) enum Source {
    /// The store that the settings name.
    Store(Box<Config>, StoreReader),
    /// A running server.
    Server(ServerReader),
}

/// The period and the user of statistics.
pub(super) struct StatsQuery<'a> {
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    pub(super) step: Option<Step>,
    pub(super) user: Option<&'a UserId>,
}

impl Source {
    /// Opens the store that the settings name.
    ///
    /// # Errors
    /// Fails if the file does not exist. A database is connected to later.
    pub(super) fn of_config(config: Config) -> Result<Self, Failure> {
        let reader = StoreReader::open(&config)?;
        Ok(Self::Store(Box::new(config), reader))
    }

    /// Returns one session; `None` if it does not exist.
    pub(super) async fn session(&self, session_id: SessionId) -> Result<Option<SessionRow>, Failure> {
        match self {
            Self::Store(_, store) => Ok(store.rows().session(session_id).await?),
            Self::Server(server) => server.session(session_id).await,
        }
    }

    /// Returns a page of sessions, newest first, after the cursor.
    pub(super) async fn sessions(
        &self,
        filter: &ListFilter,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Page<SessionRow>, Failure> {
        match self {
            Self::Store(_, store) => Ok(store.rows().sessions(filter.of_store.clone(), after, limit).await?),
            Self::Server(server) => server.sessions(&filter.of_server, after, limit).await,
        }
    }

    /// Returns sessions whose id begins with this text, ordered by id.
    pub(super) async fn sessions_by_prefix(
        &self,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<SessionRow>, Failure> {
        match self {
            Self::Store(_, store) => Ok(store.rows().sessions_by_prefix(prefix, limit).await?),
            Self::Server(server) => server.sessions_by_prefix(prefix, limit).await,
        }
    }

    /// Returns a page of a session's messages in the order in which they were said, after the cursor.
    pub(super) async fn messages(
        &self,
        session_id: SessionId,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, Failure> {
        match self {
            Self::Store(_, store) => Ok(store.rows().messages(session_id, after, limit).await?),
            Self::Server(server) => server.messages(session_id, after, limit).await,
        }
    }

    /// Returns a page of messages that match the words, newest first, after the cursor.
    pub(super) async fn search(
        &self,
        words: &SearchWords,
        user: Option<&UserId>,
        session: Option<SessionId>,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Page<Hit>, Failure> {
        match self {
            Self::Store(_, store) => {
                let filter = SearchFilter::new(words.query.clone());
                let filter = filter.with_user_id(user.cloned()).with_session_id(session);
                store.rows().search(filter, after, limit).await.map_err(|error| match error {
                    SearchError::Read(error) => error.into(),
                    error => Failure::new(error),
                })
            }
            Self::Server(server) => server.search(words, user, session, after, limit).await,
        }
    }

    /// Returns statistics, as `GET /v1/stats` does.
    pub(super) async fn stats(&self, query: &StatsQuery<'_>) -> Result<serde_json::Value, Failure> {
        match self {
            Self::Store(config, store) => count(config, store, query).await,
            Self::Server(server) => server.stats(query).await,
        }
    }
}

/// The pages of a list of sessions, newest first, up to a number of sessions.
pub(super) struct SessionPages<'a> {
    source: &'a Source,
    filter: &'a ListFilter,
    cursor: Option<SessionCursor>,
    /// How many more sessions are wanted.
    wanted: usize,
}

impl<'a> SessionPages<'a> {
    pub(super) fn new(source: &'a Source, filter: &'a ListFilter, wanted: usize) -> Self {
        Self { source, filter, cursor: None, wanted }
    }

    /// Returns the next page; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Page<SessionRow>>, Failure> {
        if self.wanted == 0 {
            return Ok(None);
        }
        let page = self.source.sessions(self.filter, self.cursor, PAGE.min(self.wanted)).await?;
        self.cursor = page.last_before_more().map(SessionRow::cursor);
        self.wanted = if page.more { self.wanted - page.len() } else { 0 };
        Ok(Some(page))
    }
}

/// Counts as a server does for a caller who acts for all users.
async fn count(
    config: &Config,
    store: &StoreReader,
    query: &StatsQuery<'_>,
) -> Result<serde_json::Value, Failure> {
    let StatsQuery { since, until, step, user } = *query;
    let range =
        TimeRange::new(since, until, step.map(Into::into), SystemClock.now()).map_err(Failure::usage)?;
    let stats: Stats = match user {
        Some(user) => store.rows().user_stats(user, &range).await,
        None => store.rows().stats(&range).await,
    }
    .map_err(Failure::new)?;
    let file = config.local_file();
    let letters = match user {
        None if file.is_file() => Some(store::open_file(&file)?.dead_letters().count_over(&range).await?),
        _ => None,
    };
    serde_json::to_value(Statistics::new(&stats, letters.as_deref())).map_err(Failure::new)
}
