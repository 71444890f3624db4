//! The filters of the commands that list: which user, which time, which words.

use std::str::FromStr;

use talktrack::clock::{Clock as _, SystemClock};
use talktrack::search::{InvalidQuery, Query};
use talktrack::store::SessionFilter;
use talktrack::{Status, Timestamp, UserId};

use super::source::ServerQuery;
use crate::config::parse_duration;

/// Which sessions a command shows.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct FilterArgs {
    /// Only sessions of this user
    #[arg(long, value_name = "UUID")]
    pub(super) user: Option<UserId>,
    #[command(flatten)]
    period: PeriodArgs,
    /// Only sessions with a message that matches these words, as in `talktrack search`
    #[arg(short = 'q', long = "query", value_name = "WORDS")]
    words: Option<SearchWords>,
}

/// A period of time. For a list of sessions, it is when they began.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct PeriodArgs {
    /// From this time on: RFC 3339, a date (in UTC), or how long ago, such as 90m, 24h or 7d
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(super) since: Option<Timestamp>,
    /// Before this time, in the same forms
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(super) until: Option<Timestamp>,
}

/// A search query with its text, which a server parses again.
#[derive(Debug, Clone)]
pub(super) struct SearchWords {
    pub(super) text: String,
    pub(super) query: Query,
}

impl FromStr for SearchWords {
    type Err = InvalidQuery;

    fn from_str(text: &str) -> Result<Self, InvalidQuery> {
        Ok(Self { text: text.to_owned(), query: text.parse()? })
    }
}

/// A filter in both forms: for a store, and for the query of a server.
#[derive(Debug, Clone)]
pub(super) struct ListFilter {
    pub(super) of_store: SessionFilter,
    pub(super) of_server: ServerQuery,
}

impl FilterArgs {
    /// Returns the filter, which also selects sessions with this status.
    pub(super) fn with_status(&self, status: Option<Status>) -> ListFilter {
        let Self { user, period: PeriodArgs { since, until }, words } = self;
        let of_store = SessionFilter::default()
            .with_user_id(user.clone())
            .with_status(status)
            .with_since(*since)
            .with_until(*until)
            .with_matching(words.as_ref().map(|words| words.query.clone()));
        let mut of_server = ServerQuery::default();
        of_server.add("user_id", user.as_ref());
        of_server.add("status", status.as_ref());
        of_server.add("since", since.as_ref());
        of_server.add("until", until.as_ref());
        of_server.add("q", words.as_ref().map(|words| &words.text));
        ListFilter { of_store, of_server }
    }

    /// True if every session is selected.
    pub(super) fn is_empty(&self) -> bool {
        let Self { user, period: PeriodArgs { since, until }, words } = self;
        user.is_none() && since.is_none() && until.is_none() && words.is_none()
    }
}

/// Parses a moment: RFC 3339, a date, which means its beginning in UTC, or a duration before now.
pub(super) fn parse_moment(text: &str) -> Result<Timestamp, String> {
    let exact = || text.parse().ok();
    let date = || format!("{text}T00:00:00Z").parse().ok();
    let ago = || Some(SystemClock.now().minus(parse_duration(text).ok()?));
    exact().or_else(date).or_else(ago).ok_or_else(|| {
        format!("must be a time such as 2026-11-23T08:00:00Z, a date such as 2026-11-23, or how long ago, such as 24h, not {text:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_a_date_or_how_long_ago() {
        let at = |text: &str| parse_moment(text).unwrap().to_string();
        assert_eq!(at("2026-11-23T08:00:00+01:00"), "2026-11-23T07:00:00.000000Z");
        assert_eq!(at("2026-11-23"), "2026-11-23T00:00:00.000000Z");
        let before = SystemClock.now();
        let week = before.seconds_since(parse_moment("7d").unwrap());
        assert!((604_799.0..604_801.0).contains(&week), "{week}");
        for wrong in ["", "yesterday", "2026-13-01", "7", "-7d"] {
            assert!(parse_moment(wrong).unwrap_err().contains("2026-11-23"), "{wrong}");
        }
    }
}
