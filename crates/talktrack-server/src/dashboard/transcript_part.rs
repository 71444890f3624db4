//! The part of a transcript that a page shows: where it begins, where it ends, and whether more messages are before and
//! after it.

use serde::Deserialize;
use talktrack::store::{MessageCursor, MessageRow, Page};
use talktrack::{MessageId, ReadError};

use crate::access::SessionView;
use crate::api::query::Cursor;
use crate::error::Problem;

/// The maximum number of messages on a page.
pub(super) const PAGE: usize = 1_000;

/// Which part of the transcript a page shows. Each field is a cursor.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct PartQuery {
    /// The part begins after this cursor, or at the first message (`start`).
    after: String,
    /// The part ends before this cursor, or at the last message (`end`).
    before: String,
}

/// Where a part begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
    After(MessageCursor),
    Before(MessageCursor),
    Last,
}

/// Consecutive messages of a transcript.
pub(super) struct TranscriptPart {
    /// The messages in the order in which they were said.
    pub(super) rows: Vec<MessageRow>,
    /// Every message of the part sorts after this cursor; `None` if the part begins at the first message.
    pub(super) after: Option<MessageCursor>,
    /// No message of the part sorts after this cursor; `None` if the part ends at the last message.
    pub(super) until: Option<MessageCursor>,
    /// True if the part was requested as the end of the transcript.
    pub(super) is_newest: bool,
}

impl PartQuery {
    /// Reads the part. Without a place, a live conversation is shown from its end, and any other from its beginning.
    pub(super) async fn read(&self, view: &SessionView, is_live: bool) -> Result<TranscriptPart, Problem> {
        let part = match self.place(is_live)? {
            Place::First => TranscriptPart::forwards(view, None).await,
            Place::After(cursor) => TranscriptPart::forwards(view, Some(cursor)).await,
            Place::Before(cursor) => TranscriptPart::backwards(view, Some(cursor)).await,
            Place::Last => TranscriptPart::backwards(view, None).await,
        };
        part.map_err(|error| Problem::read_failed(&error))
    }

    fn place(&self, is_live: bool) -> Result<Place, Problem> {
        Ok(match (self.after.as_str(), self.before.as_str()) {
            ("", "") if is_live => Place::Last,
            ("", "") | ("start", "") => Place::First,
            ("", "end") => Place::Last,
            (after, "") => Place::After(parse_cursor("after", after)?),
            ("", before) => Place::Before(parse_cursor("before", before)?),
            _ => return Err(Problem::invalid("before: a page begins after a message or ends before one")),
        })
    }
}

/// Parses a cursor. `name` is the parameter's name in the error.
pub(super) fn parse_cursor(name: &str, text: &str) -> Result<MessageCursor, Problem> {
    let cursor = text.parse::<Cursor<MessageCursor>>();
    cursor.map(|Cursor(place)| place).map_err(|error| Problem::invalid(format_args!("{name}: {error}")))
}

impl TranscriptPart {
    async fn forwards(view: &SessionView, after: Option<MessageCursor>) -> Result<Self, ReadError> {
        let mut page = view.messages(after, PAGE + 1).await?;
        let mut has_more = page.len() > PAGE;
        page.rows.truncate(PAGE);
        if let Some(last) = last_before_unknown(&page, has_more) {
            has_more = !view.messages(Some(last), 1).await?.is_empty();
        }
        let until = page.last().map(MessageRow::cursor).filter(|_| has_more);
        Ok(Self { rows: page.rows, after, until, is_newest: false })
    }

    async fn backwards(view: &SessionView, before: Option<MessageCursor>) -> Result<Self, ReadError> {
        let mut page = view.latest_messages(before, PAGE + 1).await?;
        let mut has_more = page.len() > PAGE;
        page.rows.truncate(PAGE);
        if let Some(first) = last_before_unknown(&page, has_more) {
            has_more = !view.latest_messages(Some(first), 1).await?.is_empty();
        }
        page.rows.reverse();
        let after = page.first().map(MessageRow::cursor).filter(|_| has_more).map(just_before);
        Ok(Self { rows: page.rows, after, until: before.map(just_before), is_newest: before.is_none() })
    }

    /// Returns the query of the part before this one, if there may be one.
    pub(super) fn earlier(&self) -> Option<String> {
        self.after?;
        let place = self.rows.first().map_or("end".to_owned(), |row| Cursor(row.cursor()).to_string());
        Some(format!("before={place}"))
    }

    /// Returns the query of the part after this one, if there may be one.
    pub(super) fn later(&self) -> Option<String> {
        self.until?;
        let place = self.rows.last().map_or("start".to_owned(), |row| Cursor(row.cursor()).to_string());
        Some(format!("after={place}"))
    }
}

/// Returns the last row of a page that is full in bytes: only another read tells whether there are more rows.
fn last_before_unknown(page: &Page<MessageRow>, has_more: bool) -> Option<MessageCursor> {
    page.last_before_more().filter(|_| !has_more).map(MessageRow::cursor)
}

/// Returns the greatest cursor that sorts before this one.
fn just_before(cursor: MessageCursor) -> MessageCursor {
    match cursor.id.as_uuid().as_u128().checked_sub(1) {
        Some(id) => MessageCursor { id: MessageId::from_u128(id), ..cursor },
        None => MessageCursor { seq: cursor.seq.previous(), id: MessageId::from_u128(u128::MAX), ..cursor },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(after: &str, before: &str, is_live: bool) -> Option<Place> {
        PartQuery { after: after.into(), before: before.into() }.place(is_live).ok()
    }

    #[test]
    fn a_live_conversation_is_shown_from_its_end_unless_a_place_is_named() {
        assert_eq!((place("", "", true), place("", "", false)), (Some(Place::Last), Some(Place::First)));
        assert_eq!(
            (place("start", "", true), place("", "end", false)),
            (Some(Place::First), Some(Place::Last))
        );
        let cursor = "1.2.00000000000000000000000000000003";
        assert!(matches!(place(cursor, "", true), Some(Place::After(_))));
        assert!(matches!(place("", cursor, true), Some(Place::Before(_))));
        for (after, before) in [("end", ""), ("", "start"), (cursor, cursor), ("x", "")] {
            assert_eq!(place(after, before, false), None, "{after} {before}");
        }
    }

    #[test]
    fn nothing_is_between_a_cursor_and_the_one_just_before_it() {
        let cursor = |text| parse_cursor("after", text).unwrap();
        let (zero, one) = ("5.7.00000000000000000000000000000000", "5.7.00000000000000000000000000000001");
        assert_eq!(just_before(cursor(one)), cursor(zero));
        assert_eq!(just_before(cursor(zero)), cursor("5.6.ffffffffffffffffffffffffffffffff"));
    }
}
