//! `/health`: the state of the pipeline, whether the books balance, how the database differs from the schema, and the
//! dead letters. Only for operators of the server.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use talktrack::Timestamp;
use talktrack::clock::{Clock as _, Seq, SystemClock};
use talktrack::store::postgres::Address;
use talktrack::store::postgres::schema::Difference;
use talktrack::store::sqlite::BooksCheck;
use tokio::time::timeout;

use super::format::{Moment, format_count, group_digits};
use super::letter_view::{LetterView, explain_reason};
use super::page::{ErrorPage, Layout, NavItem, render_page};
use super::pipeline_status::PipelineStatus;
use super::visitor::{Operator, PageQuery};
use crate::config::Database;
use crate::error::Problem;
use crate::schema;
use crate::state::AppState;

/// The number of dead letters on a page.
const PAGE: usize = 25;

/// How long the page waits for the counts and for the database.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(3);

/// Which dead letters are requested.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HealthQuery {
    reason: String,
    before: Option<Seq>,
}

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage {
    layout: Layout,
    pipeline: PipelineStatus,
    counted: Option<JournalCount>,
    schema: Schema,
    query: HealthQuery,
    letters: Vec<LetterView>,
    /// The query of the next page of older letters.
    older: Option<String>,
}

/// The counts for this page, with the time at which they were taken.
struct JournalCount {
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
pub(super) async fn show_health(
    State(state): State<AppState>,
    Operator(visitor): Operator,
    PageQuery(query): PageQuery<HealthQuery>,
) -> Result<Response, ErrorPage> {
    let layout = visitor.layout(NavItem::Health);
    let reason = Some(query.reason.clone()).filter(|reason| !reason.is_empty());
    let dead_letters = state.local().dead_letters();
    let (tally, schema, letters) = tokio::join!(
        timeout(DATABASE_TIMEOUT, state.local().check_books()),
        compare_schema(&state),
        dead_letters.newest(reason, query.before, PAGE),
    );
    let unreadable = |error| ErrorPage::new(Problem::read_failed(&error), visitor.layout(NavItem::Health));
    let letters = letters.map_err(unreadable)?;
    let counted = tally.ok().transpose().map_err(unreadable)?;
    let counted = counted.map(|tally| JournalCount { tally, at: Moment::new(now()) });
    let older = letters.last().filter(|_| letters.len() == PAGE).map(|letter| query.older_than(letter.seq));
    let letters = letters.into_iter().map(LetterView::new).collect();
    let pipeline = PipelineStatus::new(&state);
    Ok(render_page(StatusCode::OK, &HealthPage { layout, pipeline, counted, schema, query, letters, older }))
}

/// Returns the current state of the pipeline, for the script.
pub(super) async fn show_pipeline_status(
    State(state): State<AppState>,
    _: Operator,
) -> Result<Response, ErrorPage> {
    Ok(render_page(StatusCode::OK, &PipelineStatus::new(&state)))
}

fn now() -> Timestamp {
    SystemClock.now()
}

async fn compare_schema(state: &AppState) -> Schema {
    let Database::Postgres(address) = &state.config().database else { return Schema::Kept };
    match timeout(DATABASE_TIMEOUT, read_differences(address)).await {
        Ok(compared) => compared,
        Err(_) => Schema::Unknown(format!("the database gave no answer within {DATABASE_TIMEOUT:?}")),
    }
}

async fn read_differences(address: &Address) -> Schema {
    let compared = async { schema::differences(&schema::connect_to_database(address).await?).await };
    compared.await.map_or_else(|failure| Schema::Unknown(failure.to_string()), Schema::Compared)
}

impl HealthQuery {
    /// Returns the query for the letters before this one.
    fn older_than(&self, before: Seq) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.reason.is_empty() {
            query.append_pair("reason", &self.reason);
        }
        query.append_pair("before", &before.to_string()).finish()
    }
}
