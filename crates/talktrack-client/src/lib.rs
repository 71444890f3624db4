//! The client of a talktrack server: records conversations over WebSocket, and reads them over HTTP.
//!
//! # Example
//!
//! ```no_run
//! use talktrack_client::{ServerFrame, UserId};
//! use talktrack_client::socket::{Server, SessionIdentity};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::new("ws://127.0.0.1:8080", None)?;
//! let mut identity = SessionIdentity::default();
//! identity.user_id = Some(UserId::from_u128(1));
//! let (mut connection, _started) = server.connect(&identity).await?;
//!
//! connection.send(r#"{"type":"message","ref":1,"role":"user","content":"Hello"}"#).await?;
//! if let ServerFrame::Ack { acks } = connection.next_frame().await? {
//!     println!("on disk: {}", acks[0].id);
//! }
//! connection.close().await?; // ends the session
//! # Ok(()) }
//! ```
//!
//! # Modules
//!
//! | module | contents |
//! |---|---|
//! | [`socket`] | one WebSocket connection, which records one session; the frames are those of `talktrack-protocol` |
//! | [`api`] | requests to the HTTP API, which retry while the server asks for it |
//! | [`events`] | the live events of `GET /v1/events` |
//! | [`retry`] | which refusals of a frame are temporary, and the pause before the next attempt |
//! | [`address`] | what is wrong with a URL or a token |
//! | [`tls`] | TLS with the root certificates of this system |
//!
//! # Errors
//!
//! | error | when | what to do |
//! |---|---|---|
//! | [`InvalidServer`](address::InvalidServer) | a URL or a token cannot be used | correct it |
//! | [`ConnectError`](socket::ConnectError) | a connection was not established | try again if it is [temporary](socket::ConnectError::is_temporary) |
//! | [`Disconnected`](socket::Disconnected) | a connection has ended | connect again, and send again what was not acknowledged, with the same ids |
//! | [`RequestError`](api::RequestError) | a request has no answer, or the server refused it | depends on the variant |
//! | [`Refusal`](api::Refusal) | a response is an error | its `detail` says what is wrong |
//! | [`NoEvents`](api::NoEvents) | the server does not stream its events | try again if it is `Unavailable` |
//!
//! All clients need a tokio runtime with I/O and time.

pub mod socket;
pub mod api;
pub mod events;
pub mod retry;
pub mod address;
pub mod tls;

#[doc(no_inline)]
pub use talktrack_core::{MessageId, SessionId, UserId};
#[doc(no_inline)]
pub use talktrack_protocol::{Secret, ServerFrame};

/// Compiles the example in the crate's README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
