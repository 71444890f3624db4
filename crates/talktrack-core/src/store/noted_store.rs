//! What a data directory notes of the store whose outbox it is. Records in the outbox must reach no other store.

use uuid::Uuid;

/// The command that assigns an outbox to another store.
const REDIRECT: &str = "talktrack outbox redirect";

/// What a data directory notes of the store whose outbox it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotedStore {
    /// The store's id, or `None` if no store has been reached yet.
    pub id: Option<Uuid>,
    /// The address of the store, without the password.
    pub address: Option<String>,
    /// The number of records that wait for the store.
    pub waiting: u64,
    /// The number of records that the store recently confirmed. They are kept in case the store loses them (the re-send
    /// window).
    pub recent: u64,
}

impl NotedStore {
    /// True if the file holds no record that the store may need.
    pub fn is_drained(&self) -> bool {
        self.waiting == 0 && self.recent == 0
    }

    /// Returns the store's address, or a description if none is known.
    pub fn name(&self) -> &str {
        self.address.as_deref().unwrap_or("a PostgreSQL store that it has not reached yet")
    }

    /// Returns the message for settings that name no remote store.
    pub fn missing_address_message(&self) -> String {
        format!(
            "this data directory is the outbox of {}, but database_url is not set: records wait here and appear in no list until \
             it is set (DATABASE_URL, or --database-url); to make this file the store from now on, stop the server and run: \
             {REDIRECT} --local",
            self.name()
        )
    }

    /// Returns the message for settings that name another store, at this address.
    pub fn mismatch_message(&self, address: &str) -> String {
        format!(
            "database_url leads to another store ({address}) than the one whose outbox this data directory is ({}): records \
             wait here; set database_url back, or, to send the waiting records to the new store, run: {REDIRECT}",
            self.name()
        )
    }
}
