//! `GET /v1/events`: streams events as they become durable (server-sent events).

#![expect(unused_qualifications, reason = "in what the macro makes of the parameters")]

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use talktrack::clock::Seq;
use talktrack::{ErrorCode, SessionId, UserId};
use tokio::time::{Instant, Interval, interval_at, sleep_until};
use utoipa::IntoParams;

use super::query::QueryParams;
use crate::auth::{Admission, Lease, LeasedUsers, Notice};
use crate::config::Scope;
use crate::error::Problem;
use crate::events::{EventFilter, Listener, NextEvents, closing_event, gap_event, position_event};
use crate::limits::{Account, CountedPermit};
use crate::state::{AppState, Stopping};

/// The header with which a reconnecting client names the last event that it received.
const LAST_EVENT_ID: &str = "last-event-id";

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Only events of this session.
    #[param(value_type = Option<Uuid>)]
    session_id: Option<SessionId>,
    /// Only events of this user's sessions.
    #[param(value_type = Option<String>, min_length = 1, max_length = 256)]
    user_id: Option<UserId>,
    /// The id of the last event that you received: the stream begins with the event after it. By default, the stream begins with
    /// the next event. The header `Last-Event-ID` takes precedence, because clients send it by themselves when they reconnect.
    #[param(minimum = 0)]
    #[param(value_type = Option<i64>)]
    last_event_id: Option<Seq>,
}

/// Streams events as they become durable
///
/// The events come in the order in which they became durable, from now on or after the event that `last_event_id` names:
/// `session.started` (or resumed), `session.updated`, `session.ended`, `session.deleted` and `message` (also for a later
/// revision, with the same id and a higher `revision`). The data are the row as it is when the event is sent. `gap` reports that
/// some of the requested events have been removed. `closing` is the last event and has the reason: reconnect with the last id.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "events", tag = "reading",
    params(EventsQuery, ("Last-Event-ID" = Option<i64>, Header, description = "The same as `last_event_id`.")),
    responses(
        (status = 200, description = "A stream of events that stays open.", body = String, content_type = "text/event-stream"),
        Problem,
    )
)]
pub(crate) async fn stream_events(
    State(state): State<AppState>,
    admission: Admission,
    headers: HeaderMap,
    QueryParams(query): QueryParams<EventsQuery>,
) -> Result<Response, Problem> {
    let caller = &admission.caller;
    caller.require(Scope::Read)?;
    let filter = EventFilter { session_id: query.session_id, user_id: caller.resolve_user(query.user_id)? };
    let after = last_event_id(&headers)?.or(query.last_event_id);
    if after.is_some_and(|after| after < Seq::ZERO) {
        return Err(Problem::invalid("last_event_id: must not be negative"));
    }
    if state.is_stopping() {
        return Err(Problem::shutting_down());
    }
    let of_user = state.limits().acquire_connection(admission.caller.account().as_ref())?;
    let Some(place) = state.events().acquire_permit() else {
        let most = state.config().max_listeners;
        let detail = format!("all {most} allowed listeners are connected (max_listeners); try again later");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::RateLimited, detail));
    };
    let users = filter.user_id.clone().map_or(LeasedUsers::All, LeasedUsers::One);
    let lease = Lease::new(state.authenticator().clone(), admission, Scope::Read, users);
    let listener =
        Listener::start(place, filter, after).await.map_err(|error| Problem::read_failed(&error))?;
    let write_timeout = state.config().peer_timeout / 2;
    let period = state.config().ping_interval;
    let alive = interval_at(Instant::now() + period, period);
    let feed = Feed {
        listener,
        write_timeout,
        stopping: state.watch_stop(),
        alive,
        lease,
        offered: None,
        _place: of_user,
    };
    let body = Body::from_stream(stream::unfold(Some(feed), Feed::next_piece));
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        (header::CACHE_CONTROL.as_str(), "no-store"),
        // Proxies that buffer responses would delay the events.
        ("x-accel-buffering", "no"),
    ];
    Ok((headers, body).into_response())
}

/// Returns the event id in the header; `None` if the header is missing or empty.
fn last_event_id(headers: &HeaderMap) -> Result<Option<Seq>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    id.map(Some).ok_or_else(|| Problem::invalid("Last-Event-ID: is not an id of this stream"))
}

/// The event stream of one listener. The next event is read only after the client has taken the previous one, so at
/// most one piece per client is buffered.
struct Feed {
    listener: Listener,
    /// How long the client may take for one piece before the stream ends.
    write_timeout: Duration,
    stopping: Stopping,
    /// Ticks when no event was sent for this long: a heartbeat is due.
    alive: Interval,
    /// How long the listener may stay.
    lease: Lease,
    /// When the last piece was handed out, until the next one is requested.
    offered: Option<Instant>,
    /// Counts the listener among the connections of its user.
    _place: Option<CountedPermit<Account>>,
}

type FeedStep = Option<(Result<Bytes, Infallible>, Option<Feed>)>;

/// The last event of a stream.
struct Last(Bytes);

impl Feed {
    async fn next_piece(feed: Option<Self>) -> FeedStep {
        let mut feed = feed?;
        let is_late = feed.offered.take().is_some_and(|offered| offered.elapsed() > feed.write_timeout);
        let said = if is_late { Err(too_slow()) } else { feed.next().await };
        Some(match said {
            Ok(bytes) => {
                feed.offered = Some(Instant::now());
                (Ok(bytes), Some(feed))
            }
            Err(Last(bytes)) => (Ok(bytes), None),
        })
    }

    async fn next(&mut self) -> Result<Bytes, Last> {
        let Self { listener, stopping, alive, lease, .. } = self;
        let next = tokio::select! {
            biased;
            () = stopping.wait() => return Err(Last(closing_event(ErrorCode::ShuttingDown, "the server is shutting down"))),
            why = wait_until_over(lease) => return Err(Last(closing_event(ErrorCode::Unauthorized, &why))),
            next = listener.next() => next,
            _ = alive.tick() => return Ok(position_event(listener.untold_place())),
        };
        alive.reset();
        match next {
            NextEvents::Events(bytes) => Ok(bytes),
            NextEvents::Gap(after, place) => Ok(gap_event(after, place)),
            NextEvents::TooSlow => Err(too_slow()),
            NextEvents::Unknown => Err(Last(closing_event(
                ErrorCode::StoreUnavailable,
                "only the store knows the user of the next event, and it is unavailable; connect again later",
            ))),
        }
    }
}

/// Waits until the listener may no longer stay, and returns the reason.
async fn wait_until_over(lease: &mut Lease) -> String {
    loop {
        match lease.next_check() {
            Some(next) => sleep_until(next).await,
            None => std::future::pending().await,
        }
        // A listener cannot be warned that its token expires soon. It reconnects with another token.
        if let Some(Notice::Over(why)) = lease.check() {
            return why;
        }
    }
}

fn too_slow() -> Last {
    tracing::debug!("a listener reads events too slowly, and is disconnected");
    Last(closing_event(
        ErrorCode::Timeout,
        "you read events too slowly; connect again, and continue after your last event",
    ))
}
