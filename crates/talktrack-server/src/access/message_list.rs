//! Lists of a session's messages that a caller narrows down.

use std::time::{Duration, Instant};

use serde::Deserialize;
use talktrack::clock::Seq;
use talktrack::message::Kind;
use talktrack::store::{MessageCursor, MessageRow};
use talktrack::{MessageId, MessageStatus, ReadError, Stored, Timestamp};

use super::SessionView;
use super::pending_messages::ListOrder;

/// The number of messages that are read at once, and the limits for one page of a list: it may be short, or even empty,
/// and then has a cursor from which the list continues.
const READ_AT_ONCE: usize = 500;
const MOST_EXAMINED: usize = 20_000;
const LONGEST: Duration = Duration::from_millis(200);

/// Selects messages of a session. A field that is `None` does not restrict the list.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MessageFilter {
    /// Only messages that were said at this moment or later.
    pub(crate) since: Option<Timestamp>,
    /// Only messages that were said before this moment.
    pub(crate) until: Option<Timestamp>,
    /// Only entries of this kind.
    pub(crate) kind: Option<Kind>,
    /// Which messages are listed by how far they have come.
    pub(crate) status: ListedStatus,
}

/// Selects messages by their status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ListedStatus {
    /// All but discarded messages.
    #[default]
    #[serde(skip_deserializing)]
    Shown,
    All,
    InProgress,
    Final,
    Discarded,
}

impl ListedStatus {
    fn selects(self, status: &Stored<MessageStatus>) -> bool {
        match self {
            Self::Shown => *status != MessageStatus::Discarded,
            Self::All => true,
            Self::InProgress => *status == MessageStatus::InProgress,
            Self::Final => *status == MessageStatus::Final,
            Self::Discarded => *status == MessageStatus::Discarded,
        }
    }
}

/// A page of a list.
#[derive(Debug, Default)]
pub(crate) struct MessageList {
    pub(crate) rows: Vec<MessageRow>,
    /// The place from which the list continues; `None` at its end.
    pub(crate) next: Option<MessageCursor>,
}

impl MessageFilter {
    fn is_empty(&self) -> bool {
        let is_of_shown = matches!(self.status, ListedStatus::Shown | ListedStatus::All);
        is_of_shown && self.since.is_none() && self.until.is_none() && self.kind.is_none()
    }

    fn selects(&self, row: &MessageRow) -> bool {
        let said_at = row.created_at.known();
        self.since.is_none_or(|since| said_at.is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| said_at.is_some_and(|at| at < until))
            && self.kind.is_none_or(|kind| row.kind == kind)
            && self.status.selects(&row.status)
    }

    /// Returns the place at which a list has to begin: the cursor, or the first place in the range of time.
    fn start(&self, order: ListOrder, cursor: Option<MessageCursor>) -> Option<MessageCursor> {
        // No message has the nil id, so the first message of this moment comes after this place.
        let place_at =
            |at: Timestamp| MessageCursor { created_at: at.into(), seq: Seq::MIN, id: MessageId::nil() };
        match order {
            ListOrder::OldestFirst => cursor.max(self.since.map(place_at)),
            ListOrder::NewestFirst => {
                let until = self.until.map(place_at);
                match (cursor, until) {
                    (Some(cursor), Some(until)) => Some(cursor.min(until)),
                    (cursor, until) => cursor.or(until),
                }
            }
        }
    }

    /// True if no later message of the list can be selected.
    fn ends_at(&self, order: ListOrder, row: &MessageRow) -> bool {
        let Some(said_at) = row.created_at.known() else { return false };
        match order {
            ListOrder::OldestFirst => self.until.is_some_and(|until| said_at >= until),
            ListOrder::NewestFirst => self.since.is_some_and(|since| said_at < since),
        }
    }
}

impl SessionView {
    /// Returns up to `limit` of the selected messages after the cursor, in this order.
    ///
    /// # Errors
    /// As for [`messages`](Self::messages).
    pub(crate) async fn list(
        &self,
        order: ListOrder,
        filter: &MessageFilter,
        cursor: Option<MessageCursor>,
        limit: usize,
    ) -> Result<MessageList, ReadError> {
        let began = Instant::now();
        let mut place = filter.start(order, cursor);
        let mut found = MessageList::default();
        let mut examined = 0;
        let at_once = if filter.is_empty() { limit } else { READ_AT_ONCE };
        loop {
            let page = self.page(order, place, at_once).await?;
            place = page.last_before_more().map(MessageRow::cursor);
            examined += page.len();
            for row in page {
                if filter.ends_at(order, &row) {
                    return Ok(found);
                }
                let at = row.cursor();
                found.rows.extend(Some(row).filter(|row| filter.selects(row)));
                if found.rows.len() == limit {
                    // Another request shows whether the list has ended.
                    found.next = Some(at);
                    return Ok(found);
                }
            }
            let is_over = filter.is_empty() || examined >= MOST_EXAMINED || began.elapsed() >= LONGEST;
            if place.is_none() || is_over {
                return Ok(MessageList { next: place, ..found });
            }
        }
    }
}
