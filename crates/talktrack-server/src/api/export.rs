//! `GET /v1/sessions/{session_id}/export`: streams a conversation as a document.

#![expect(unused_qualifications, reason = "in what the macro makes of the parameters")]

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use talktrack::ReadError;
use talktrack::store::{MessageCursor, MessageRow, Page};
use tokio::task::spawn_blocking;
use utoipa::IntoParams;

use super::query::QueryParams;
use crate::access::{SessionName, SessionView};
use crate::auth::Caller;
use crate::error::Problem;
use crate::limits::{Account, CountedPermit, Limits};
use crate::state::AppState;
use crate::transcript::{TranscriptFormat, TranscriptWriter};

/// The maximum number of rows in memory at once. Pages are also bounded in bytes, so fewer large rows fit.
const PAGE: usize = 100;

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// `jsonl` (the default; `talktrack import` reads it), `json`, `text`, `vtt` (subtitles), `openai` (the array of messages
    /// that chat models take) or `csv` (a table for spreadsheets, one row a message).
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^(json|jsonl|text|vtt|openai|csv)$")]
    format: TranscriptFormat,
}

/// Exports a conversation
///
/// Returns the conversation as a file, however long it is: the server streams the file while it reads the rows. Messages that
/// arrive during the export may be included. If the store fails in the middle, the answer breaks off without its end, which
/// HTTP clients report as an error.
#[utoipa::path(
    get, path = "/v1/sessions/{session_id}/export", operation_id = "export", tag = "reading",
    params(("session_id" = String, Path, pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|external:[A-Za-z0-9._~@+-]{1,200})$", description = "The session's UUID, or `external:NAME` (percent-encoded) with its `external_id`."), ExportQuery),
    responses(
        (status = 200, description = "The conversation.", content(
            (String = "application/jsonl"), (String = "text/plain"), (String = "text/vtt"), (String = "text/csv"), (Value = "application/json"),
        )),
        Problem,
    )
)]
pub(crate) async fn export_session(
    State(state): State<AppState>,
    caller: Caller,
    name: SessionName,
    QueryParams(ExportQuery { format }): QueryParams<ExportQuery>,
) -> Result<Response, Problem> {
    let view = SessionView::open(&state, &caller, &name).await?;
    let place = state.limits().begin_export(caller.account().as_ref())?;
    let session_id = view.session.session_id;
    let export = Export::begin(view, &state, format.new_writer(), place).await;
    let export = export.map_err(|error| Problem::read_failed(&error))?;
    let name = format!("attachment; filename=\"{session_id}.{}\"", format.extension());
    let headers = [(header::CONTENT_TYPE, format.content_type()), (header::CONTENT_DISPOSITION, &name)];
    Ok((headers, Body::from_stream(stream::try_unfold(export, Export::next_piece))).into_response())
}

/// Reads one page. Reading from the local file takes processor time and needs a permit. A remote database may take long
/// to answer and needs none, so that other exports do not wait for it.
async fn read(
    view: &SessionView,
    after: Option<MessageCursor>,
    limits: &Limits,
    is_remote: bool,
) -> Result<Page<MessageRow>, ReadError> {
    let _turn = if is_remote { None } else { limits.export_turn().await };
    view.messages(after, PAGE).await
}

/// An export in progress.
pub(super) struct Export {
    view: SessionView,
    is_remote: bool,
    document: Box<dyn TranscriptWriter>,
    next: NextPage,
    limits: Limits,
    /// Counts the export against its caller until it is dropped.
    _place: Option<CountedPermit<Account>>,
}

enum NextPage {
    First(Page<MessageRow>),
    After(MessageCursor),
    Nothing,
}

impl Export {
    /// Reads the first page. `place` counts the export against its caller.
    ///
    /// # Errors
    /// Fails if the store cannot answer.
    pub(super) async fn begin(
        view: SessionView,
        state: &AppState,
        document: Box<dyn TranscriptWriter>,
        place: Option<CountedPermit<Account>>,
    ) -> Result<Self, ReadError> {
        let limits = state.limits().clone();
        let is_remote = state.is_remote();
        let first = read(&view, None, &limits, is_remote).await?;
        Ok(Self { view, is_remote, document, next: NextPage::First(first), limits, _place: place })
    }

    /// Returns the next piece of the document: one page of messages. The page after it is read when the client has
    /// taken this one.
    pub(super) async fn next_piece(mut self) -> Result<Option<(Bytes, Self)>, ReadError> {
        let (page, is_first) = match std::mem::replace(&mut self.next, NextPage::Nothing) {
            NextPage::First(page) => (page, true),
            NextPage::After(place) => {
                let page = read(&self.view, Some(place), &self.limits, self.is_remote).await;
                (
                    page.inspect_err(
                        |error| tracing::warn!(%error, "an export breaks off, because the store failed"),
                    )?,
                    false,
                )
            }
            NextPage::Nothing => return Ok(None),
        };
        if let Some(last) = page.last_before_more() {
            self.next = NextPage::After(last.cursor());
        }
        // Formatting megabytes of text takes a while. It runs on another thread, so that it delays no acknowledgement.
        let limits = self.limits.clone();
        let _turn = limits.export_turn().await;
        let written = spawn_blocking(move || {
            let piece = self.write(&page, is_first);
            (piece, self)
        });
        let (piece, export) = written.await.map_err(ReadError::unavailable)?;
        Ok(Some((piece.into(), export)))
    }

    fn write(&mut self, page: &[MessageRow], is_first: bool) -> String {
        let mut piece = String::new();
        if is_first {
            self.document.write_start(&self.view.session, &mut piece);
        }
        page.iter().for_each(|row| self.document.write_if_final(row, &mut piece));
        if matches!(self.next, NextPage::Nothing) {
            self.document.write_end(&self.view.session, &mut piece);
        }
        piece
    }
}
