//! A conversation as one row of a list.

use std::collections::HashMap;

use talktrack::clock::{Clock as _, SystemClock};
use talktrack::store::{Rows, SessionPreview, SessionRow};
use talktrack::{ReadError, Role, SessionId, Status, Stored};

use super::format::{
    Moment, encode_user, format_count, format_duration, format_stored_count, short_user, user_hue,
};

/// A row of the list for the template.
pub(super) struct ListedSession {
    pub(super) id: SessionId,
    pub(super) user_id: String,
    pub(super) user: String,
    /// The user for the query of an address.
    pub(super) user_query: String,
    pub(super) hue: u128,
    pub(super) started: Moment,
    pub(super) duration: String,
    pub(super) messages: String,
    pub(super) status: Stored<Status>,
    /// Who said the last message, and the beginning of its text.
    pub(super) last: Option<(String, String)>,
    pub(super) interruptions: u64,
}

impl ListedSession {
    fn new(session: &SessionRow, preview: Option<SessionPreview>) -> Self {
        Self {
            id: session.session_id,
            user_id: session.user_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            user: short_user(session.user_id.as_ref()),
            user_query: encode_user(session.user_id.as_ref()),
            hue: user_hue(session.user_id.as_ref()),
            started: Moment::new(session.started_at.clone()),
            duration: format_duration(duration_seconds(session)),
            messages: format_stored_count(session.message_count, "message", "messages"),
            status: session.status.clone(),
            interruptions: preview.as_ref().map_or(0, |preview| preview.interruptions),
            last: preview.map(|preview| (speaker_name(&preview.last_role).to_owned(), preview.last_words)),
        }
    }

    /// Returns the status if another program wrote it and it is not a known one.
    pub(super) fn odd_status(&self) -> Option<&str> {
        self.status.known().is_none().then(|| self.status.as_str())
    }

    pub(super) fn is_live(&self) -> bool {
        self.status == Status::Active
    }

    pub(super) fn interruptions(&self) -> String {
        format_count(self.interruptions, "interruption", "interruptions")
    }

    /// Returns the label of the row for screen readers.
    pub(super) fn label(&self) -> String {
        let live = if self.is_live() { ", live" } else { "" };
        format!("Conversation of user {}, {}{live}", self.user, self.started.to_short())
    }
}

/// Returns the rows of these sessions, in the same order.
pub(super) async fn load_rows(
    rows: &dyn Rows,
    sessions: Vec<SessionRow>,
) -> Result<Vec<ListedSession>, ReadError> {
    let ids: Vec<_> = sessions.iter().map(|session| session.session_id).collect();
    let previews = rows.session_previews(&ids).await?;
    let mut previews: HashMap<_, _> =
        previews.into_iter().map(|preview| (preview.session_id, preview)).collect();
    let row = |session: SessionRow| {
        let preview = previews.remove(&session.session_id);
        ListedSession::new(&session, preview)
    };
    Ok(sessions.into_iter().map(row).collect())
}

/// Returns how long the session lasted, or has lasted so far, in seconds.
pub(super) fn duration_seconds(session: &SessionRow) -> f64 {
    let until = session.ended_at.clone().unwrap_or_else(|| SystemClock.now().into());
    let known = until.known().zip(session.started_at.known());
    let counted = known.map_or(0.0, |(until, start)| until.seconds_since(start));
    session.duration_seconds.unwrap_or(counted)
}

/// Returns the name of a role for people. A role that another program wrote is returned unchanged.
pub(super) fn speaker_name(role: &Stored<Role>) -> &str {
    match role.known() {
        Some(Role::User) => "User",
        Some(Role::Assistant) => "Agent",
        Some(Role::System) => "System",
        Some(Role::Developer) => "Developer",
        Some(Role::Tool) => "Tool",
        _ => role.as_str(),
    }
}
