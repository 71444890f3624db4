//! `/health`: the state of the pipeline, whether the books balance, how the database differs from the schema, and the
//! dead letters. Only for operators of the server.

use std::time::Duration;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use talktrack::Timestamp;
use talktrack::clock::{Clock as _, Seq, SystemClock};
use talktrack::store::postgres::Address;
use talktrack::store::postgres::schema::Difference;
use talktrack::store::sqlite::BooksCheck;
use tokio::time::timeout;

use super::figures::Figures;
use super::letter::{Letter, meaning};
use super::page::{Frame, Here, Trouble, shown};
use super::visitor::Operator;
use super::words::{Moment, count, grouped};
use crate::config::Database;
use crate::error::Problem;
use crate::schema;
use crate::state::AppState;

/// The number of dead letters on a page.
const PAGE: usize = 25;

/// How long the page waits for the counts and for the database.
const PATIENCE: Duration = Duration::from_secs(3);

/// Which dead letters are requested.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    reason: String,
    before: Option<Seq>,
}

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage {
    frame: Frame,
    figures: Figures,
    counted: Option<Counted>,
    schema: Schema,
    wanted: Wanted,
    letters: Vec<Letter>,
    /// The query of the next page of older letters.
    older: Option<String>,
}

/// The counts for this page, with the time at which they were taken.
struct Counted {
    tally: BooksCheck,
    at: Moment,
}

/// The state of the database schema.
enum Schema {
    /// The store is a local file, whose schema the program maintains itself.
    Kept,
    /// The differences from the expected schema; none if the schema is correct.
    Compared(Vec<Difference>),
    Unknown(String),
}

/// Returns the page.
pub(super) async fn page(
    State(state): State<AppState>,
    Operator(visitor): Operator,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Trouble> {
    let frame = Frame::of(&visitor, Here::Health);
    let reason = Some(wanted.reason.clone()).filter(|reason| !reason.is_empty());
    let (tally, schema, letters) = tokio::join!(
        timeout(PATIENCE, state.local().check_books()),
        compare(&state),
        state.local().newest_dead_letters(reason, wanted.before, PAGE),
    );
    let unreadable =
        |error| Trouble::of(Problem::store_unavailable(&error), Frame::of(&visitor, Here::Health));
    let letters = letters.map_err(unreadable)?;
    let counted = tally.ok().transpose().map_err(unreadable)?;
    let counted = counted.map(|tally| Counted { tally, at: Moment::new(now()) });
    let older = letters.last().filter(|_| letters.len() == PAGE).map(|letter| wanted.query(letter.seq));
    let letters = letters.into_iter().map(Letter::of).collect();
    let figures = Figures::of(&state);
    Ok(shown(StatusCode::OK, &HealthPage { frame, figures, counted, schema, wanted, letters, older }))
}

/// Returns the current state of the pipeline, for the script.
pub(super) async fn figures(State(state): State<AppState>, _: Operator) -> Result<Response, Trouble> {
    Ok(shown(StatusCode::OK, &Figures::of(&state)))
}

fn now() -> Timestamp {
    SystemClock.now()
}

async fn compare(state: &AppState) -> Schema {
    let Database::Postgres(address) = &state.config().database else { return Schema::Kept };
    match timeout(PATIENCE, ask(address)).await {
        Ok(compared) => compared,
        Err(_) => Schema::Unknown(format!("the database gave no answer within {PATIENCE:?}")),
    }
}

async fn ask(address: &Address) -> Schema {
    let compared = async { schema::differences(&schema::connect(address).await?).await };
    compared.await.map_or_else(|failure| Schema::Unknown(failure.to_string()), Schema::Compared)
}

impl Wanted {
    /// Returns the query for the letters before this one.
    fn query(&self, before: Seq) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.reason.is_empty() {
            query.append_pair("reason", &self.reason);
        }
        query.append_pair("before", &before.to_string()).finish()
    }
}
