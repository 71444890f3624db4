//! `/health/letters/{seq}`, `/health/replay`, `/health/drop`: shows, replays and drops dead letters.

use std::time::{Duration, Instant};

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use talktrack::ErrorCode;
use talktrack::clock::Seq;

use super::format::{format_count, group_digits};
use super::letter_view::{LetterView, explain_reason};
use super::page::{ErrorPage, Layout, NavItem, render_page};
use super::visitor::{Operator, PageQuery, Visitor};
use crate::api::form::FormBody;
use crate::dead_letters::{DeadLetters, LetterOutcome, LetterRequest, LetterResult, MOST_AT_ONCE};
use crate::error::Problem;
use crate::state::AppState;

/// How long one request may replay or drop letters. The page tells how many are left after that.
const BUDGET: Duration = Duration::from_secs(10);

/// The maximum number of letters of one request.
const MOST: usize = 10_000;

/// The maximum number of letters whose outcome is shown individually.
const TOLD: usize = 20;

/// Which letters a request means: one, or all with the same reason.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct LetterSelection {
    letter: Option<Seq>,
    reason: String,
}

#[derive(Template)]
#[template(path = "dead_letter.html")]
struct LetterPage {
    layout: Layout,
    letter: LetterView,
}

#[derive(Template)]
#[template(path = "drop.html")]
struct DropPage {
    layout: Layout,
    selection: LetterSelection,
    /// The letter to drop, if it is a single one.
    letter: Option<LetterView>,
    /// The number of letters to drop.
    number: u64,
}

#[derive(Template)]
#[template(path = "settled.html")]
struct SettledPage {
    layout: Layout,
    heading: String,
    /// The number of letters with each outcome, in words.
    counts: Vec<(&'static str, u64)>,
    /// The letters that did not have the requested outcome, each with the reason.
    others: Vec<(Seq, String)>,
    /// The number of letters that there was no time for.
    left: u64,
}

/// Returns the page of one whole letter.
pub(super) async fn show_letter(
    State(state): State<AppState>,
    Operator(visitor): Operator,
    seq: Result<Path<Seq>, PathRejection>,
) -> Result<Response, ErrorPage> {
    let layout = || visitor.layout(NavItem::Health);
    let answer = async {
        let Path(seq) = seq.map_err(|_| not_there())?;
        let letter =
            state.local().dead_letters().get(seq).await.map_err(|error| Problem::read_failed(&error))?;
        let letter = LetterView::new(letter.ok_or_else(not_there)?);
        Ok(render_page(StatusCode::OK, &LetterPage { layout: layout(), letter }))
    };
    answer.await.map_err(|problem: Problem| ErrorPage::new(problem, layout()))
}

/// Shows what would be dropped and asks for confirmation.
pub(super) async fn confirm_drop(
    State(state): State<AppState>,
    Operator(visitor): Operator,
    PageQuery(selection): PageQuery<LetterSelection>,
) -> Result<Response, ErrorPage> {
    let layout = || visitor.layout(NavItem::Health);
    let answer = async {
        let seqs = selection.find_seqs(&state).await?;
        let first = *seqs.first().ok_or_else(not_there)?;
        let letter = match selection.letter {
            Some(_) => {
                state.local().dead_letters().get(first).await.map_err(|error| Problem::read_failed(&error))?
            }
            None => None,
        };
        let letter = letter.map(LetterView::new);
        let number = to_u64(seqs.len());
        Ok(render_page(StatusCode::OK, &DropPage { layout: layout(), selection, letter, number }))
    };
    answer.await.map_err(|problem: Problem| ErrorPage::new(problem, layout()))
}

/// Drops the letters.
pub(super) async fn drop_letters(
    State(state): State<AppState>,
    Operator(visitor): Operator,
    FormBody(selection): FormBody<LetterSelection>,
) -> Result<Response, ErrorPage> {
    settle_letters(&state, &visitor, selection, LetterRequest::Drop).await
}

/// Replays the letters.
pub(super) async fn replay_letters(
    State(state): State<AppState>,
    Operator(visitor): Operator,
    FormBody(selection): FormBody<LetterSelection>,
) -> Result<Response, ErrorPage> {
    settle_letters(&state, &visitor, selection, LetterRequest::Replay).await
}

async fn settle_letters(
    state: &AppState,
    visitor: &Visitor,
    selection: LetterSelection,
    request: fn(Vec<Seq>) -> LetterRequest,
) -> Result<Response, ErrorPage> {
    let layout = || visitor.layout(NavItem::Health);
    let answer = async {
        let seqs = selection.find_seqs(state).await?;
        let letters = DeadLetters::new(state.tracker().clone(), state.local().dead_letters());
        // Runs to its end even if the browser disconnects.
        let carried_out = tokio::spawn(execute_in_steps(letters, seqs, request)).await;
        let carried_out = carried_out.map_err(|error| internal_error(&error))?;
        let (outcomes, left) = carried_out.map_err(|failure| internal_error(&failure))?;
        let done = outcomes.iter().filter(|result| result.outcome.is_success()).count();
        tracing::info!(
            asked = outcomes.len(),
            done,
            left,
            "dead letters replayed or dropped from the dashboard"
        );
        Ok(render_page(StatusCode::OK, &SettledPage::new(layout(), &outcomes, left)))
    };
    answer.await.map_err(|problem: Problem| ErrorPage::new(problem, layout()))
}

/// Replays or drops the letters. Returns the outcome of each, and the number of letters that there was no time for.
async fn execute_in_steps(
    letters: DeadLetters,
    seqs: Vec<Seq>,
    request: fn(Vec<Seq>) -> LetterRequest,
) -> Result<(Vec<LetterResult>, usize), crate::error::Failure> {
    let began = Instant::now();
    let mut outcomes = Vec::with_capacity(seqs.len());
    for some in seqs.chunks(MOST_AT_ONCE) {
        if began.elapsed() > BUDGET {
            break;
        }
        outcomes.extend(letters.execute(request(some.to_vec())).await?);
    }
    let left = seqs.len() - outcomes.len();
    Ok((outcomes, left))
}

impl LetterSelection {
    /// Returns the `seq`s of the letters that the request means.
    async fn find_seqs(&self, state: &AppState) -> Result<Vec<Seq>, Problem> {
        let reason = Some(self.reason.clone()).filter(|reason| !reason.is_empty());
        match (self.letter, reason) {
            (Some(seq), _) => Ok(vec![seq]),
            (None, Some(reason)) => {
                let seqs = state.local().dead_letters().seqs_with_reason(Some(reason), MOST).await;
                seqs.map_err(|error| Problem::read_failed(&error))
            }
            (None, None) => Err(Problem::invalid("letter or reason: one of them is required")),
        }
    }
}

impl SettledPage {
    fn new(layout: Layout, outcomes: &[LetterResult], left: usize) -> Self {
        let mut counts: Vec<(&'static str, u64)> = Vec::new();
        for result in outcomes {
            let words = describe(&result.outcome);
            match counts.iter_mut().find(|(known, _)| *known == words) {
                Some((_, number)) => *number += 1,
                None => counts.push((words, 1)),
            }
        }
        let others =
            outcomes.iter().filter_map(|result| Some((result.seq, explain_failure(&result.outcome)?)));
        let others = others.take(TOLD).collect();
        let good = outcomes.iter().filter(|result| result.outcome.is_success()).count();
        let heading = match (outcomes.len(), good) {
            (0, _) => "There was no such letter".to_owned(),
            (all, good) if all == good => "Done".to_owned(),
            (_, 0) => "This did not work".to_owned(),
            (all, good) => format!("{good} of {all} done"),
        };
        Self { layout, heading, counts, others, left: to_u64(left) }
    }
}

fn describe(outcome: &LetterOutcome) -> &'static str {
    match outcome {
        LetterOutcome::Stored => "replayed and stored",
        LetterOutcome::OnItsWay => "replayed, and waiting for the database",
        LetterOutcome::DeadAgain { .. } => "replayed and refused again: now a new letter",
        LetterOutcome::Deleted => "removed: the content was deleted meanwhile",
        LetterOutcome::Dropped => "dropped",
        LetterOutcome::Stays { .. } => "not replayed, and unchanged",
        LetterOutcome::NotThere => "no longer there",
    }
}

/// Returns why a letter did not have the requested outcome; `None` if it did.
fn explain_failure(outcome: &LetterOutcome) -> Option<String> {
    match outcome {
        LetterOutcome::DeadAgain { letter, reason, detail } => {
            let detail = detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
            Some(format!("refused again, {reason}{detail}; it is now letter {letter}"))
        }
        LetterOutcome::Stays { why } => Some(why.clone()),
        LetterOutcome::NotThere => Some("it no longer exists".to_owned()),
        LetterOutcome::Stored | LetterOutcome::OnItsWay | LetterOutcome::Deleted | LetterOutcome::Dropped => {
            None
        }
    }
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn not_there() -> Problem {
    Problem::not_found("there is no such dead letter; it may have been replayed or dropped")
}

fn internal_error(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Internal, error.to_string())
}
