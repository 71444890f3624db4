//! `GET /v1/ws`: each WebSocket connection is one session, or a feed of many. Errors in the request are answered over HTTP,
//! later errors with an error frame.

mod feed_connection;
mod feed_answers;
mod conversation;
mod link;
mod ending;
mod pending_acks;
mod ack_batch;
mod connection_guard;
mod peer;

use axum::extract::rejection::QueryRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use conversation::Conversation;
use feed_connection::FeedConnection;
use link::Link;
use peer::Peer;
use serde::Deserialize;
use talktrack::Invalid;
use talktrack::message::MAX_EXTERNAL_ID_BYTES;
use talktrack::{ErrorCode, NewSession, SessionId, UserId};

use crate::access::{self, SessionName};
use crate::auth::{Admission, Caller, Lease, LeasedUsers};
use crate::config::{MAX_FRAME_BYTES, Scope};
use crate::error::Problem;
use crate::limits::ClientAddress;
use crate::state::AppState;
use crate::turns::SenderId;

/// Bytes that are read from a socket at once. Each connection keeps this buffer for its whole life, and thousands of
/// connections are idle most of the time.
const READ_BUFFER: usize = 4 << 10;

/// Bytes that are collected before they are written.
const WRITE_BUFFER: usize = 4 << 10;

/// Bytes that may wait for a client that reads slowly. One ack frame must fit.
const MAX_WRITE_BUFFER: usize = 256 << 10;

/// The maximum number of frames that are handled before other events of the connection.
const BURST: usize = 64;

/// After how many seconds a refused client should retry.
const RETRY_AFTER: u32 = 1;

/// The WebSocket subprotocol of the server. A browser refuses a connection for which the server selects none of the
/// offered subprotocols. A browser that sends its token as a subprotocol therefore offers this one too.
const PROTOCOL: &str = "talktrack";

/// The query parameters of the request, not validated yet.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectParams {
    session_id: Option<String>,
    user_id: Option<String>,
    external_id: Option<String>,
    /// True for a connection that carries many sessions, which its frames name.
    #[serde(default)]
    feed: bool,
}

/// Begins a session, or a feed of many sessions, over a WebSocket.
pub(crate) async fn connect(
    State(state): State<AppState>,
    admission: Admission,
    client: Option<Extension<ClientAddress>>,
    headers: HeaderMap,
    query: Result<Query<ConnectParams>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    state.origins().check_origin(&headers)?;
    let caller = &admission.caller;
    caller.require(Scope::Write)?;
    let Query(params) = query.map_err(|rejection| Problem::invalid_query(&rejection))?;
    let purpose = params.into_purpose(&state, caller).await?;
    let upgrade = upgrade.map_err(|rejection| {
        Problem::new(
            rejection.status(),
            ErrorCode::InvalidMessage,
            format!("this address expects a WebSocket: {rejection}"),
        )
    })?;
    if state.is_stopping() {
        return Err(Problem::shutting_down());
    }
    let place = state.limits().acquire_connection(caller.account().as_ref())?;
    let Some(permit) = state.acquire_connection() else {
        let detail =
            format!("all {} connections are taken (max_connections)", state.config().max_connections);
        return Err(Problem::busy(StatusCode::SERVICE_UNAVAILABLE, detail, RETRY_AFTER));
    };
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_message_size(MAX_FRAME_BYTES);
    let address = client.map(|Extension(ClientAddress(address))| address);
    let meter = state.limits().new_meter(address, caller.account());
    let pace = state.turns().new_pace(caller.account(), address, purpose.sender());
    let caller = caller.clone();
    let lease = Lease::new(state.authenticator().clone(), admission, Scope::Write, purpose.leased());
    let response = upgrade.on_upgrade(async move |socket| {
        let peer = Peer::new(socket, state.config().peer_timeout, state.watch_stop());
        let link = Link::new(purpose.session_id(), peer, &state, caller, (meter, pace), lease);
        match purpose {
            Purpose::Session(session) => {
                if let Some(conversation) = Conversation::start(link, *session).await {
                    conversation.run().await;
                }
            }
            Purpose::Feed => FeedConnection::new(link).run().await,
        }
        drop((permit, place));
    });
    Ok(response.into_response())
}

/// What a connection is for.
enum Purpose {
    Session(Box<NewSession>),
    /// Frames start the sessions.
    Feed,
}

impl Purpose {
    fn session_id(&self) -> Option<SessionId> {
        match self {
            Self::Session(session) => Some(session.session_id),
            Self::Feed => None,
        }
    }

    /// Returns the sender that takes turns with others. All sessions of a feed together are one sender.
    fn sender(&self) -> SenderId {
        self.session_id().map_or_else(SenderId::new_feed, SenderId::Session)
    }

    /// Returns for whom the caller must be allowed to act as long as the connection is open.
    fn leased(&self) -> LeasedUsers {
        match self {
            Self::Session(session) => LeasedUsers::One(session.user_id.clone()),
            Self::Feed => LeasedUsers::SameAsAtFirst,
        }
    }
}

impl ConnectParams {
    /// Returns what the caller asks for.
    async fn into_purpose(self, state: &AppState, caller: &Caller) -> Result<Purpose, Problem> {
        if !self.feed {
            return self.into_session(state, caller).await.map(|session| Purpose::Session(Box::new(session)));
        }
        let named =
            [("session_id", self.session_id), ("user_id", self.user_id), ("external_id", self.external_id)];
        match named.into_iter().find(|(_, value)| value.is_some()) {
            Some((field, _)) => {
                Err(Problem::invalid(format_args!("{field}: leave it out; the frames of a feed name it")))
            }
            None => Ok(Purpose::Feed),
        }
    }

    /// Returns the session that the caller asks for: their own, or one of the named user if the caller may act for that
    /// user.
    async fn into_session(self, state: &AppState, caller: &Caller) -> Result<NewSession, Problem> {
        let RequestedSession { name, user_id, external_id } = self.parse(caller)?;
        access::to_start(state, caller, user_id, name.as_ref(), external_id).await
    }

    fn parse(self, caller: &Caller) -> Result<RequestedSession, Problem> {
        let named = self.user_id.as_deref().map(str::parse::<UserId>).transpose();
        let named =
            named.map_err(|problem| Problem::invalid(Invalid::new("user_id", problem.to_string())))?;
        let user_id = caller.resolve_user(named)?;
        let name = self.session_id.as_deref().map(SessionName::parse).transpose();
        let name = name.map_err(|problem| Problem::invalid(Invalid::new("session_id", problem)))?;
        let external_id = self.external_id.map(check_external_id).transpose().map_err(Problem::invalid)?;
        Ok(RequestedSession { name, user_id, external_id })
    }
}

/// The validated query parameters.
#[derive(Debug, PartialEq, Eq)]
struct RequestedSession {
    name: Option<SessionName>,
    /// `None` for a guest.
    user_id: Option<UserId>,
    external_id: Option<String>,
}

fn check_external_id(external_id: String) -> Result<String, Invalid> {
    if !(1..=MAX_EXTERNAL_ID_BYTES).contains(&external_id.len()) {
        return Err(Invalid::new("external_id", "must be 1 to 256 bytes"));
    }
    if external_id.contains('\0') {
        return Err(Invalid::new("external_id", "must not contain U+0000"));
    }
    Ok(external_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(
        session_id: Option<&str>,
        user_id: Option<&str>,
        external_id: Option<&str>,
    ) -> Result<RequestedSession, Problem> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let params = ConnectParams {
            session_id: own(session_id),
            user_id: own(user_id),
            external_id: own(external_id),
            feed: false,
        };
        params.parse(&Caller::Anyone)
    }

    const USER: Option<&str> = Some("00000000-0000-0000-0000-000000000002");

    #[test]
    fn a_session_is_asked_for_by_its_id_or_its_name_or_not_at_all() {
        let given = asked(Some("00000000-0000-0000-0000-000000000001"), USER, Some("call 7")).unwrap();
        assert_eq!(given.name, Some(SessionName::Id(SessionId::from_u128(1))));
        assert_eq!(
            (given.user_id, given.external_id.as_deref()),
            (Some(UserId::from_u128(2)), Some("call 7"))
        );
        let named = asked(Some("external:call 7"), USER, None).unwrap();
        assert_eq!(named.name, Some(SessionName::External("call 7".into())));
        assert_eq!(asked(None, USER, None).unwrap().name, None);
        assert_eq!(asked(None, None, None).unwrap().user_id, None);
    }

    #[test]
    fn what_is_wrong_with_the_query_is_named() {
        let long = "x".repeat(257);
        for (session_id, user_id, external_id, expected) in [
            (None, Some(""), None, "user_id: must be a text of 1 to 256 bytes without control characters"),
            (
                None,
                Some("a\nb"),
                None,
                "user_id: must be a text of 1 to 256 bytes without control characters",
            ),
            (Some("7"), USER, None, "session_id: must be a UUID or external:NAME"),
            (None, USER, Some(""), "external_id: must be 1 to 256 bytes"),
            (None, USER, Some(&*long), "external_id: must be 1 to 256 bytes"),
        ] {
            assert_eq!(asked(session_id, user_id, external_id), Err(Problem::invalid(expected)));
        }
    }
}
