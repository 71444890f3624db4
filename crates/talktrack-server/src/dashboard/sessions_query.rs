//! The filters of the list of conversations, as its form sends them. Links to a conversation carry them along, so that
//! its page leads back to the list and to the conversations next to it.

use serde::Deserialize;
use talktrack::store::SessionFilter;
use talktrack::{Status, Timestamp, UserId};

use crate::api::query::{Cursor, CursorPosition};
use crate::auth::Caller;
use crate::error::Problem;

const HOUR: std::time::Duration = std::time::Duration::from_secs(3_600);
const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// The fields of the form as sent. Browsers send empty fields too.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct SessionsQuery {
    pub(super) q: String,
    pub(super) user: String,
    pub(super) status: String,
    /// The first and the last day.
    pub(super) from: String,
    pub(super) to: String,
    /// The moments at which the first day begins and the last one ends in the reader's time zone. The script adds them;
    /// without them, the days are in UTC.
    from_at: String,
    to_at: String,
    pub(super) cursor: String,
}

impl SessionsQuery {
    /// Returns the filter for what the caller may see, without the words.
    ///
    /// # Errors
    /// If a field is invalid, if the last day is before the first, or if the caller may not see this user.
    pub(super) fn to_filter(&self, caller: &Caller) -> Result<SessionFilter, Problem> {
        let user = non_empty(&self.user).map(str::parse::<UserId>).transpose();
        let user = user.map_err(|_| Problem::invalid("User: must be a complete user id, 1 to 256 bytes"))?;
        let status = match non_empty(&self.status) {
            None => None,
            Some(word) => {
                Some(word.parse::<Status>().map_err(|_| Problem::invalid("Status: no such status"))?)
            }
        };
        let (from, to) = (parse_day(&self.from, "From")?, parse_day(&self.to, "To")?);
        if from.zip(to).is_some_and(|(from, to)| to < from) {
            let (from, to) = (self.from.trim(), self.to.trim());
            return Err(Problem::invalid(format_args!("To: {to} is before {from} (From)")));
        }
        Ok(SessionFilter::default()
            .with_user_id(caller.resolve_user(user)?)
            .with_status(status)
            .with_since(from.map(|day| in_zone(&self.from_at, day)))
            .with_until(to.map(|day| in_zone(&self.to_at, day.plus(DAY)))))
    }

    /// Returns the words that a conversation must contain.
    ///
    /// # Errors
    /// If they are not a query.
    pub(super) fn query_words(&self) -> Result<Option<talktrack::search::Query>, Problem> {
        let query = non_empty(&self.q).map(str::parse).transpose();
        query.map_err(|error| Problem::invalid(format_args!("Search: {error}")))
    }

    /// Returns the place in the list at which the page begins.
    ///
    /// # Errors
    /// If it is not a cursor.
    pub(super) fn start_cursor<T: CursorPosition>(&self) -> Result<Option<T>, Problem> {
        let cursor = non_empty(&self.cursor).map(str::parse::<Cursor<T>>).transpose();
        let cursor = cursor.map_err(|error| Problem::invalid(format_args!("cursor: {error}")))?;
        Ok(cursor.map(|Cursor(place)| place))
    }

    /// True if the list is filtered.
    pub(super) fn is_filtered(&self) -> bool {
        [&self.q, &self.user, &self.status, &self.from, &self.to]
            .into_iter()
            .any(|field| non_empty(field).is_some())
    }

    /// True if a conversation that begins now belongs on this page.
    pub(super) fn is_live(&self) -> bool {
        non_empty(&self.q).is_none() && self.is_first_page()
    }

    /// True if the page begins at the top of the list.
    pub(super) fn is_first_page(&self) -> bool {
        non_empty(&self.cursor).is_none()
    }

    /// Returns the query of the page of the list that begins at the cursor.
    pub(super) fn at_cursor(&self, cursor: &str) -> String {
        let mut query = self.fields();
        query.append_pair("cursor", cursor);
        query.finish()
    }

    /// Returns the filters for the end of an address, after `separator`; empty if the list is not filtered.
    pub(super) fn suffix(&self, separator: &str) -> String {
        let query = self.fields().finish();
        if query.is_empty() { query } else { format!("{separator}{query}") }
    }

    fn fields(&self) -> form_urlencoded::Serializer<'static, String> {
        let of_day = |day: &str, at| if non_empty(day).is_some() { at } else { "" };
        let fields = [
            ("q", self.q.as_str()),
            ("user", &self.user),
            ("status", &self.status),
            ("from", &self.from),
            ("from_at", of_day(&self.from, &self.from_at)),
            ("to", &self.to),
            ("to_at", of_day(&self.to, &self.to_at)),
        ];
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(fields.into_iter().filter(|(_, value)| non_empty(value).is_some()));
        query
    }
}

fn non_empty(field: &str) -> Option<&str> {
    Some(field.trim()).filter(|field| !field.is_empty())
}

/// Parses a day and returns its beginning in UTC. `name` is the field's name in the error.
pub(super) fn parse_day(field: &str, name: &str) -> Result<Option<Timestamp>, Problem> {
    let day = non_empty(field).map(|day| format!("{day}T00:00:00Z").parse::<Timestamp>()).transpose();
    day.map_err(|_| Problem::invalid(format_args!("{name}: must be a day such as 2026-11-23")))
}

/// Returns the midnight that the reader's browser gave if it is this one in some time zone, and otherwise this one in
/// UTC. Zones are between 12 hours behind UTC and 14 hours ahead of it.
fn in_zone(field: &str, midnight: Timestamp) -> Timestamp {
    let is_same = |at: &Timestamp| (midnight.minus(14 * HOUR)..=midnight.plus(13 * HOUR)).contains(at);
    field.parse().ok().filter(is_same).unwrap_or(midnight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_when_it_does_in_the_readers_time_zone() {
        let midnight: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
        for (field, begins) in [
            ("2026-11-22T10:00:00.000Z", "2026-11-22T10:00:00Z"),
            ("2026-11-22T23:00:00.000Z", "2026-11-22T23:00:00Z"),
            ("2026-11-23T12:00:00.000Z", "2026-11-23T12:00:00Z"),
            ("2026-11-24T12:00:00.000Z", "2026-11-23T00:00:00Z"),
            ("2026-11-22T09:59:59.000Z", "2026-11-23T00:00:00Z"),
            ("", "2026-11-23T00:00:00Z"),
            ("midnight", "2026-11-23T00:00:00Z"),
        ] {
            assert_eq!(in_zone(field, midnight), begins.parse().unwrap(), "{field}");
        }
    }

    #[test]
    fn filters_are_carried_along_and_the_place_in_the_list_is_not() {
        let query = SessionsQuery {
            q: "a b&c".into(),
            status: " ".into(),
            to_at: "2026-11-23T23:00:00Z".into(),
            cursor: "7".into(),
            ..SessionsQuery::default()
        };
        assert_eq!(query.suffix("?"), "?q=a+b%26c");
        assert_eq!(query.at_cursor("8"), "q=a+b%26c&cursor=8");
        assert_eq!(SessionsQuery::default().suffix("?"), "");
    }
}
