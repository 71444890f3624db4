//! Counts how much space the dead letters take: in total, which counts like the records that wait in the journal, and
//! of each user who writes with a token.
//!
//! Only a store that refuses rows causes dead letters, so no write waits for them to be counted. They are counted every
//! few seconds, and what a user adds in between is bounded by the rate limit of bytes.

use std::time::{Duration, Instant};

use talktrack::{Books, ReadError};
use tokio::time::sleep;

use crate::state::AppState;

/// The minimum time between two counts. If there are many dead letters they are counted less often, so that counting
/// takes at most a tenth of the time.
const INTERVAL: Duration = Duration::from_secs(2);

/// Counts the dead letters whenever they change, until the server stops.
pub(crate) async fn run(state: AppState) {
    let mut counted = None;
    loop {
        let books = state.tracker().health().books;
        let begun = Instant::now();
        let changes = |books: &Books| (books.dead_lettered, books.letters_taken_out, books.deleted);
        if counted != Some(changes(&books)) {
            match count_bytes(&state).await {
                Ok(()) => counted = Some(changes(&books)),
                Err(error) => tracing::debug!(%error, "the dead letters cannot be counted now"),
            }
        }
        sleep(INTERVAL.max(begun.elapsed() * 10)).await;
    }
}

/// Counts the dead letters of all users together and of each user. A record that was written with a token names its
/// user.
async fn count_bytes(state: &AppState) -> Result<(), ReadError> {
    let letters = state.local().dead_letters().bytes_by_user().await?;
    state.tracker().set_dead_letter_bytes(letters.iter().map(|(_, bytes)| bytes).sum());
    let of_users = letters.into_iter().filter_map(|(user, bytes)| Some((user?, bytes)));
    state.limits().note_dead_letters(of_users.collect());
    Ok(())
}
