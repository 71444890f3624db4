//! The query parameters of a request, and the cursors in them.

use std::fmt;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use talktrack::Timestamp;
use talktrack::message::check_external_id;
use talktrack::search::SearchCursor;
use talktrack::store::{MessageCursor, SessionCursor};
use talktrack::stored::TimeKey;

use crate::error::Problem;

/// The number of rows in a page if the query has no `limit`.
const DEFAULT_LIMIT: usize = 50;
/// The maximum number of rows in a page.
pub(crate) const MAX_LIMIT: usize = 500;

/// The query, deserialised into `T`. Unknown parameters are refused: a caller would take them for filters that are
/// applied.
pub(crate) struct QueryParams<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(|rejection| Problem::invalid_query(&rejection))
    }
}

/// The query of an endpoint that has no parameters. Any parameter is refused, because a caller would take it for something
/// that has an effect.
pub(crate) struct NoQueryParams;

impl<S: Send + Sync> FromRequestParts<S> for NoQueryParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.uri.query() {
            None | Some("") => Ok(Self),
            Some(_) => Err(Problem::invalid("this address has no query parameters")),
        }
    }
}

/// The id that a caller gave to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExternalId(pub(crate) String);

impl<'de> Deserialize<'de> for ExternalId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = String::deserialize(deserializer)?;
        check_external_id(&id).map_err(|invalid| de::Error::custom(invalid.problem))?;
        // No session has an id with this character: it is replaced when the session starts.
        if id.contains('\0') { Err(de::Error::custom("must not contain U+0000")) } else { Ok(Self(id)) }
    }
}

/// The minimum length of an [`IdPrefix`]. A shorter one matches too many sessions.
const SHORTEST_PREFIX: usize = 8;

/// The first characters of a session's id, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdPrefix(pub(crate) String);

impl FromStr for IdPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let prefix = text.to_ascii_lowercase();
        let is_plausible = prefix.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if is_plausible && prefix.len() >= SHORTEST_PREFIX {
            return Ok(Self(prefix));
        }
        Err(format!(
            "must be a session's id, or at least its first {SHORTEST_PREFIX} characters, not {text:?}"
        ))
    }
}

impl<'de> Deserialize<'de> for IdPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A number of rows from 1 to [`MAX_LIMIT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) usize);

impl Default for Limit {
    fn default() -> Self {
        Self(DEFAULT_LIMIT)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let problem = || de::Error::custom(format_args!("must be a whole number from 1 to {MAX_LIMIT}"));
        let text = String::deserialize(deserializer)?;
        let limit = text.parse().map_err(|_| problem())?;
        if (1..=MAX_LIMIT).contains(&limit) { Ok(Self(limit)) } else { Err(problem()) }
    }
}

/// A position in a list, as the previous page returned it: numbers and an id, separated by dots. Its meaning is
/// internal to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor<T>(pub(crate) T);

/// A position that a cursor can stand for.
pub(crate) trait CursorPosition: Sized {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    fn read(parts: &[&str]) -> Option<Self>;
}

impl CursorPosition for SessionCursor {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", CursorTime(self.started_at), self.session_id.as_uuid().simple())
    }

    fn read(parts: &[&str]) -> Option<Self> {
        let [started_at, session_id] = parts else { return None };
        Some(Self { started_at: parse_time(started_at)?, session_id: session_id.parse().ok()? })
    }
}

impl CursorPosition for MessageCursor {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", CursorTime(self.created_at), self.seq, self.id.as_uuid().simple())
    }

    fn read(parts: &[&str]) -> Option<Self> {
        let [created_at, seq, id] = parts else { return None };
        Some(Self { created_at: parse_time(created_at)?, seq: seq.parse().ok()?, id: id.parse().ok()? })
    }
}

impl CursorPosition for SearchCursor {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.place, self.id.as_uuid().simple())
    }

    fn read(parts: &[&str]) -> Option<Self> {
        let [place, id] = parts else { return None };
        Some(Self { place: place.parse().ok()?, id: id.parse().ok()? })
    }
}

/// The time of a row within a cursor: microseconds since 1970; `p` and microseconds since 2000 for a year that only
/// PostgreSQL can represent; `r` if the time is to be taken from the row itself.
struct CursorTime(TimeKey);

impl fmt::Display for CursorTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.0.known()) {
            (_, Some(moment)) => moment.as_micros().fmt(f),
            (TimeKey::At(micros), None) => write!(f, "p{micros}"),
            (TimeKey::OfRow, None) => f.write_str("r"),
        }
    }
}

fn parse_time(text: &str) -> Option<TimeKey> {
    match text.strip_prefix('p') {
        Some(micros) => Some(TimeKey::At(micros.parse().ok()?)),
        None if text == "r" => Some(TimeKey::OfRow),
        None => Some(Timestamp::from_micros(text.parse().ok()?)?.into()),
    }
}

impl<T: CursorPosition> fmt::Display for Cursor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f)
    }
}

impl<T: CursorPosition> FromStr for Cursor<T> {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<_> = text.split('.').collect();
        T::read(&parts).map(Self).ok_or("is not a cursor of this list")
    }
}

impl<T: CursorPosition> Serialize for Cursor<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: CursorPosition> Deserialize<'de> for Cursor<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use talktrack::clock::Seq;
    use talktrack::{MessageId, SessionId};

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let moment = Timestamp::from_micros(-7).unwrap();
        let session =
            Cursor(SessionCursor { started_at: moment.into(), session_id: SessionId::from_u128(1) });
        for started_at in [moment.into(), TimeKey::At(i64::MAX), TimeKey::At(i64::MIN), TimeKey::OfRow] {
            let odd = Cursor(SessionCursor { started_at, ..session.0 });
            assert_eq!(odd.to_string().parse(), Ok(odd));
        }
        let message =
            Cursor(MessageCursor { created_at: moment.into(), seq: Seq::MIN, id: MessageId::from_u128(2) });
        assert_eq!(message.to_string().parse(), Ok(message));
        for text in ["", "1", "1.2", "1.2.3", &format!("{session}.x"), &format!("9{session}")] {
            assert!(text.parse::<Cursor<MessageCursor>>().is_err(), "{text}");
        }
        assert!(message.to_string().parse::<Cursor<SessionCursor>>().is_err());
    }
}
