//! A conversation as one row of a list.

use std::collections::HashMap;

use talktrack::clock::{Clock as _, SystemClock};
use talktrack::store::{Glimpse, Rows, SessionRow};
use talktrack::{ReadError, Role, Status};
use uuid::Uuid;

use super::words::{Moment, count, duration, hue, short};

/// A row of the list, as the template shows it.
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) user_id: Uuid,
    pub(super) user: String,
    pub(super) hue: u128,
    pub(super) started: Moment,
    pub(super) duration: String,
    pub(super) messages: String,
    pub(super) status: Status,
    /// Who spoke last, and what.
    pub(super) last: Option<(&'static str, String)>,
    pub(super) interruptions: u64,
}

impl Row {
    fn new(session: &SessionRow, glimpse: Option<Glimpse>) -> Self {
        Self {
            id: session.session_id,
            user_id: session.user_id,
            user: short(session.user_id),
            hue: hue(session.user_id),
            started: Moment(session.started_at),
            duration: duration(seconds(session)),
            messages: count(session.message_count, "message", "messages"),
            status: session.status,
            interruptions: glimpse.as_ref().map_or(0, |glimpse| glimpse.interruptions),
            last: glimpse.map(|glimpse| (speaker(glimpse.last_role), glimpse.last_words)),
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.status == Status::Active
    }

    pub(super) fn interruptions(&self) -> String {
        count(self.interruptions, "interruption", "interruptions")
    }

    /// What the list is called for who cannot see it.
    pub(super) fn label(&self) -> String {
        let live = if self.is_live() { ", live" } else { "" };
        format!("Conversation of user {}, {}{live}", self.user, self.started.shown())
    }
}

/// The rows of these sessions, in their order.
pub(super) async fn rows(rows: &dyn Rows, sessions: Vec<SessionRow>) -> Result<Vec<Row>, ReadError> {
    let ids: Vec<_> = sessions.iter().map(|session| session.session_id).collect();
    let glimpses = rows.glimpses(&ids).await?;
    let mut glimpses: HashMap<_, _> =
        glimpses.into_iter().map(|glimpse| (glimpse.session_id, glimpse)).collect();
    let row = |session: SessionRow| {
        let glimpse = glimpses.remove(&session.session_id);
        Row::new(&session, glimpse)
    };
    Ok(sessions.into_iter().map(row).collect())
}

/// How long it has lasted, or lasts.
pub(super) fn seconds(session: &SessionRow) -> f64 {
    let until = session.ended_at.unwrap_or_else(|| SystemClock.now());
    session.duration_seconds.unwrap_or_else(|| until.seconds_since(session.started_at))
}

/// As people call who speaks.
pub(super) fn speaker(role: Role) -> &'static str {
    match role {
        Role::User => "User",
        Role::Assistant => "Agent",
        Role::System => "System",
        Role::Developer => "Developer",
        Role::Tool => "Tool",
    }
}
