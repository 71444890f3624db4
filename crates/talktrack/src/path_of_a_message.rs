//! How one message gets from the caller to the store.
//!
//! Each stage calls the next and never looks back: a module imports only modules listed after it in `lib.rs` (a test
//! enforces this). The names without a link are private modules.
//!
//! ```text
//!   caller's thread                      journal's thread            writer's thread (remote store only)
//!   tracker > session > queue    ||      journal                     writer > retry > store
//!                  accepted      ||      durable                                      stored
//! ```
//!
//! 1. The [`Tracker`](crate::Tracker) checks the message ([`Tracker::track_message`](crate::Tracker::track_message)) and
//!    stamps it with its id, its time and its session's user.
//! 2. `session` is the registry of active sessions. The tracker looks up the session's user there in O(1).
//! 3. `queue` is a bounded queue in memory, and the only boundary between callers and the disk. It assigns the message
//!    its `seq`, the place in the order of acceptance. From here on the message is **accepted**, and the caller can
//!    continue. A full queue refuses the message at once and returns it to the caller.
//! 4. `journal` runs one thread that takes everything in the queue, writes it in one SQLite transaction and commits
//!    with `synchronous=FULL` (group commit). The message is now **durable**, and its [`Receipt`](crate::Receipt)
//!    resolves. A failed commit is retried; nothing is acknowledged meanwhile.
//! 5. `writer` delivers the message if a remote store is configured. The journal is then its outbox. All records of a
//!    session go through one of the writer's lanes, so their order is kept. If the store refuses a batch because of a
//!    bad row, the writer bisects the batch until it has found the row, and makes that row a dead letter.
//! 6. `retry` spaces the attempts with backoff. Their number is not limited.
//! 7. [`store`](crate::store) commits the row. The message is **stored** once the journal has noted that. With the
//!    SQLite store, steps 5 to 7 do not exist: the journal's own transaction writes the row.
//!
//! After a crash between the store's commit and the journal's note, the store gets the same record again. That is why
//! [`Store::write`](crate::store::Store::write) must be idempotent.
//!
//! In the background, `projections` maintains the full-text search index and the statistics. No caller waits for it.
//!
//! The other modules hold the types and helpers that these stages share.
