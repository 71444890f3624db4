//! The identity of a store. `migrate` gives a database an id that survives upgrades and dumps, and each new
//! connection compares it with the id that the data directory notes. So no statement reaches another
//! database, even if `database_url` points to one.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError};
use parking_lot::Mutex;
use talktrack_core::store::NotedStore;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use crate::connect::Address;

/// The longest wait for the id. A caller waits for the connection that is being opened.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

const SELECT: &str = "SELECT id FROM public.conversation_store";

/// The only store that may be used; `None` if any may be.
pub(super) type ExpectedStore = Arc<Mutex<Option<NotedStore>>>;

/// Returns the id of the database; `None` if `migrate` has not written one, or if the role may not see it.
pub(super) async fn read_id(client: &Client) -> Result<Option<Uuid>, Error> {
    let rows = client.query_typed(SELECT, &[]).await?;
    rows.first().map(|row| row.try_get(0)).transpose()
}

/// Refuses new connections to a store other than the expected one.
pub(super) fn check_identity(expected: &ExpectedStore, address: &Address) -> Hook {
    let expected = Arc::clone(expected);
    let place = address.to_string();
    Hook::async_fn(move |client, _| {
        let expected = expected.lock().clone();
        let place = place.clone();
        Box::pin(async move {
            let Some(expected) = expected else { return Ok(()) };
            match tokio::time::timeout(READ_TIMEOUT, read_id(client)).await {
                Ok(Ok(found)) if found == expected.id => Ok(()),
                Ok(Ok(_)) => Err(HookError::message(expected.mismatch_message(&place))),
                Ok(Err(error)) => Err(HookError::Backend(error)),
                Err(_) => {
                    let seconds = READ_TIMEOUT.as_secs();
                    Err(HookError::message(format!("the database has not answered for {seconds} s")))
                }
            }
        })
    })
}
