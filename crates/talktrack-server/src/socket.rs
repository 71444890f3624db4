//! `GET /v1/ws`: a WebSocket connection is one session. What is wrong with the request is answered over HTTP; what is
//! wrong later, with an error frame.

mod conversation;
mod owed;
mod presence;
mod peer;

use axum::extract::rejection::QueryRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use talktrack::NewSession;
use talktrack::error::Invalid;
use talktrack::message::MAX_EXTERNAL_ID_BYTES;
use uuid::Uuid;

use crate::auth::Caller;
use crate::config::{MAX_FRAME_BYTES, Scope};
use crate::error::Problem;
use crate::limits::ClientAddress;
use crate::state::AppState;
use conversation::Conversation;
use peer::Peer;

/// Bytes read from a socket at once, and kept for it as long as it lives: thousands of connections say nothing most of
/// the time.
const READ_BUFFER: usize = 4 << 10;

/// Bytes gathered before they are written.
const WRITE_BUFFER: usize = 4 << 10;

/// Bytes that may wait for a peer that reads slowly. An ack frame must fit in.
const MAX_WRITE_BUFFER: usize = 256 << 10;

/// Seconds after which somebody may have left.
const RETRY_AFTER: u32 = 1;

/// What we speak, as a subprotocol. A browser that puts its token among the subprotocols needs one that is no token, for
/// us to choose: it takes no connection without.
const PROTOCOL: &str = "talktrack";

/// The query of the request, as it comes.
#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    session_id: Option<String>,
    user_id: Option<String>,
    external_id: Option<String>,
}

/// Begins a session over a WebSocket.
pub(crate) async fn connect(
    State(state): State<AppState>,
    caller: Caller,
    client: Option<Extension<ClientAddress>>,
    headers: HeaderMap,
    query: Result<Query<Params>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    state.origins().check(&headers)?;
    caller.require(Scope::Write)?;
    let Query(params) = query.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    let session = params.session(&caller)?;
    let upgrade = upgrade.map_err(|rejection| {
        Problem::new(
            rejection.status(),
            "invalid_message",
            format!("this address speaks WebSocket: {rejection}"),
        )
    })?;
    if state.is_stopping() {
        return Err(Problem::shutting_down());
    }
    let Some(seat) = state.take_seat() else {
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
    let meter = state.limits().meter(address, caller.account());
    let response = upgrade.on_upgrade(async move |socket| {
        let peer = Peer::new(socket, state.config().peer_timeout, state.watch_stop());
        if let Some(conversation) = Conversation::start(peer, &state, session, meter).await {
            conversation.run().await;
        }
        drop(seat);
    });
    Ok(response.into_response())
}

impl Params {
    /// The session that the caller asks for, in their own name or, where they may, in that of the user they name.
    fn session(self, caller: &Caller) -> Result<NewSession, Problem> {
        let named = uuid("user_id", self.user_id.as_deref()).map_err(Problem::invalid)?;
        let missing = || Problem::invalid(Invalid::new("user_id", "missing"));
        let user_id = caller.speaks_for(named)?.ok_or_else(missing)?;
        self.session_of(user_id).map_err(Problem::invalid)
    }

    fn session_of(self, user_id: Uuid) -> Result<NewSession, Invalid> {
        let session_id = uuid("session_id", self.session_id.as_deref())?;
        match self.external_id {
            Some(name) if !(1..=MAX_EXTERNAL_ID_BYTES).contains(&name.len()) => {
                Err(Invalid::new("external_id", "must be 1 to 256 bytes"))
            }
            Some(name) if name.contains('\0') => Err(Invalid::new("external_id", "must not contain U+0000")),
            Some(name) => {
                let session = NewSession::named(name, user_id);
                Ok(NewSession { session_id: session_id.unwrap_or(session.session_id), ..session })
            }
            // Chance from its first character on: people tell sessions apart by the first eight.
            None => Ok(NewSession::new(session_id.unwrap_or_else(Uuid::new_v4), user_id)),
        }
    }
}

fn uuid(field: &'static str, text: Option<&str>) -> Result<Option<Uuid>, Invalid> {
    let parse = |text| Uuid::try_parse(text).map_err(|_| Invalid::new(field, "must be a UUID"));
    text.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(
        session_id: Option<&str>,
        user_id: Option<&str>,
        external_id: Option<&str>,
    ) -> Result<NewSession, Problem> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let params =
            Params { session_id: own(session_id), user_id: own(user_id), external_id: own(external_id) };
        params.session(&Caller::Anyone)
    }

    const USER: Option<&str> = Some("00000000-0000-0000-0000-000000000002");

    #[test]
    fn a_session_is_given_or_derived_or_minted() {
        let given = session(Some("00000000-0000-0000-0000-000000000001"), USER, Some("call 7")).unwrap();
        assert_eq!((given.session_id, given.external_id.as_deref()), (Uuid::from_u128(1), Some("call 7")));
        let derived = session(None, USER, Some("call 7")).unwrap();
        assert_eq!(derived, NewSession::named("call 7", Uuid::from_u128(2)));
        let minted = session(None, USER, None).unwrap();
        assert_eq!((minted.session_id.get_version_num(), minted.user_id), (4, Uuid::from_u128(2)));
    }

    #[test]
    fn what_is_wrong_with_the_query_is_named() {
        let long = "x".repeat(257);
        for (session_id, user_id, external_id, expected) in [
            (None, None, None, "user_id: missing"),
            (None, Some("me"), None, "user_id: must be a UUID"),
            (None, Some(""), None, "user_id: must be a UUID"),
            (Some("7"), USER, None, "session_id: must be a UUID"),
            (None, USER, Some(""), "external_id: must be 1 to 256 bytes"),
            (None, USER, Some(&*long), "external_id: must be 1 to 256 bytes"),
        ] {
            assert_eq!(session(session_id, user_id, external_id), Err(Problem::invalid(expected)));
        }
    }
}
