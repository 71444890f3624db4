//! `GET /v1/sessions/{session_id}/export`: a conversation as a document, streamed.

#![expect(unused_qualifications, reason = "in what the macro makes of the parameters")]

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use talktrack::ReadError;
use talktrack::store::{MessageCursor, MessageRow, Rows, SessionRow};
use utoipa::IntoParams;

use super::access::{self, SessionId};
use super::query::Params;
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;
use crate::transcript::{Document, Format};

/// Rows that are held at once. Each may be as large as the largest message.
const PAGE: usize = 100;

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// `json`, `jsonl` (which `talktrack import` reads, and the default), `text`, `vtt` (subtitles) or `openai` (the array
    /// of messages that chat models take).
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^(json|jsonl|text|vtt|openai)$")]
    format: Format,
}

/// Exports a conversation
///
/// As a file, written while it is read: as long as the conversation is. What is said meanwhile may still come in. Where the
/// store fails in the middle, the answer breaks off without its end, which HTTP tells from a whole one.
#[utoipa::path(
    get, path = "/v1/sessions/{session_id}/export", operation_id = "export", tag = "reading",
    params(("session_id" = Uuid, Path), Wanted),
    responses(
        (status = 200, description = "The conversation.", content(
            (String = "application/jsonl"), (String = "text/plain"), (String = "text/vtt"), (Value = "application/json"),
        )),
        Problem,
    )
)]
pub(crate) async fn answer(
    State(state): State<AppState>,
    caller: Caller,
    SessionId(session_id): SessionId,
    Params(Wanted { format }): Params<Wanted>,
) -> Result<Response, Problem> {
    let rows = access::rows(&state, &caller)?;
    let session = access::session(&*rows, session_id).await?;
    let first = rows.messages(session_id, None, PAGE).await.map_err(access::unreadable)?;
    let name = format!("attachment; filename=\"{session_id}.{}\"", format.extension());
    let headers = [(header::CONTENT_TYPE, format.content_type()), (header::CONTENT_DISPOSITION, &name)];
    let export = Export { rows, session, document: format.document(), next: Next::First(first) };
    Ok((headers, Body::from_stream(stream::try_unfold(export, Export::piece))).into_response())
}

/// A document on its way.
struct Export {
    rows: Arc<dyn Rows>,
    session: SessionRow,
    document: Box<dyn Document>,
    next: Next,
}

enum Next {
    First(Vec<MessageRow>),
    After(MessageCursor),
    Nothing,
}

impl Export {
    /// The next piece of the document: a page of messages. The one behind it is read when the reader has taken this one.
    async fn piece(mut self) -> Result<Option<(Bytes, Self)>, ReadError> {
        let mut piece = String::new();
        let page = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::First(page) => {
                self.document.begin(&self.session, &mut piece);
                page
            }
            Next::After(place) => {
                let page = self.rows.messages(self.session.session_id, Some(place), PAGE).await;
                page.inspect_err(|error| tracing::warn!(%error, "an export breaks off"))?
            }
            Next::Nothing => return Ok(None),
        };
        page.iter().for_each(|row| self.document.message(row, &mut piece));
        match page.last() {
            Some(last) if page.len() == PAGE => self.next = Next::After(last.cursor()),
            _ => self.document.end(&self.session, &mut piece),
        }
        Ok(Some((piece.into(), self)))
    }
}
