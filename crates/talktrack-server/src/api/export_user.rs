//! `GET /v1/users/{user_id}/export`: streams everything that is kept of a user.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use talktrack::store::{Page, Rows, SessionCursor, SessionFilter, SessionRow};
use talktrack::{ReadError, SessionId, UserId};

use super::export::Export;
use super::query::NoQueryParams;
use crate::access::{self, SessionName, SessionView, UserInPath};
use crate::auth::Caller;
use crate::error::Problem;
use crate::limits::{Account, CountedPermit};
use crate::state::AppState;
use crate::transcript::TranscriptFormat;

/// The maximum number of sessions on one page.
const PAGE: usize = 100;

/// Exports everything of a user
///
/// Returns all sessions of the user with their messages, newest first, as JSON Lines that `talktrack import` reads. The server
/// streams the file while it reads the rows. Users export their own data; an API key needs the scope `read`. Recordings are not
/// part of it: `audio_url` of the messages leads to them. If there is nothing of the user, the file is empty. If the store fails
/// in the middle, the answer breaks off without its end, which HTTP clients report as an error.
#[utoipa::path(
    get, path = "/v1/users/{user_id}/export", operation_id = "export_user", tag = "reading", params(("user_id" = String, Path, min_length = 1, max_length = 256, description = "The user's id, percent-encoded.")),
    responses(
        (status = 200, description = "The sessions and messages of the user.", content_type = "application/jsonl", body = String),
        Problem,
    )
)]
pub(crate) async fn export_user(
    State(state): State<AppState>,
    caller: Caller,
    UserInPath(user_id): UserInPath,
    _: NoQueryParams,
) -> Result<Response, Problem> {
    let rows = access::open_rows(&state, &caller)?;
    caller.resolve_user(Some(user_id.clone()))?;
    let place = state.limits().begin_export(caller.account().as_ref())?;
    let mut export = UserExport::new(state, caller, rows, user_id, place);
    export.read_page(None).await.map_err(|error| Problem::read_failed(&error))?;
    let headers = [
        (header::CONTENT_TYPE, TranscriptFormat::Jsonl.content_type()),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"user.jsonl\""),
    ];
    Ok((headers, Body::from_stream(stream::try_unfold(export, UserExport::next_piece))).into_response())
}

/// An export in progress.
struct UserExport {
    state: AppState,
    caller: Caller,
    rows: Arc<dyn Rows>,
    user_id: UserId,
    /// The sessions of the current page that are not exported yet.
    sessions: VecDeque<SessionId>,
    /// Where the next page begins; `None` if this page is the last.
    after: Option<SessionCursor>,
    current: Option<Box<Export>>,
    /// Counts the export against its caller until it is dropped.
    _place: Option<CountedPermit<Account>>,
}

impl UserExport {
    fn new(
        state: AppState,
        caller: Caller,
        rows: Arc<dyn Rows>,
        user_id: UserId,
        place: Option<CountedPermit<Account>>,
    ) -> Self {
        let sessions = VecDeque::new();
        Self { state, caller, rows, user_id, sessions, after: None, current: None, _place: place }
    }

    async fn read_page(&mut self, after: Option<SessionCursor>) -> Result<(), ReadError> {
        let filter = SessionFilter::default().with_user_id(self.user_id.clone());
        let page: Page<SessionRow> = self.rows.sessions(filter, after, PAGE).await?;
        self.after = page.last_before_more().map(SessionRow::cursor);
        self.sessions.extend(page.iter().map(|row| row.session_id));
        Ok(())
    }

    /// Returns the next piece of a session; `None` at the end.
    async fn next_piece(mut self) -> Result<Option<(Bytes, Self)>, ReadError> {
        loop {
            if let Some(current) = self.current.take()
                && let Some((piece, rest)) = current.next_piece().await?
            {
                self.current = Some(Box::new(rest));
                return Ok(Some((piece, self)));
            }
            if let Some(session_id) = self.sessions.pop_front() {
                self.current = open_session(&self.state, &self.caller, session_id).await?.map(Box::new);
            } else if let Some(after) = self.after.take() {
                self.read_page(Some(after)).await?;
            } else {
                return Ok(None);
            }
        }
    }
}

/// Begins the export of a session; `None` if it was deleted meanwhile.
async fn open_session(
    state: &AppState,
    caller: &Caller,
    session_id: SessionId,
) -> Result<Option<Export>, ReadError> {
    match SessionView::open(state, caller, &SessionName::from(session_id)).await {
        Ok(view) => Export::begin(view, state, TranscriptFormat::Jsonl.new_writer(), None).await.map(Some),
        Err(gone) if matches!(gone.status(), StatusCode::NOT_FOUND | StatusCode::GONE) => Ok(None),
        Err(problem) => Err(ReadError::unavailable(problem.into_detail())),
    }
}
