//! The client of a talktrack server: records conversations over WebSocket, and reads them over HTTP.
//!
//! # Example
//!
//! ```no_run
//! use talktrack_client::{ServerFrame, UserId};
//! use talktrack_client::socket::{SessionIdentity, SocketClient};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = SocketClient::new("ws://127.0.0.1:8080", None)?;
//! let mut identity = SessionIdentity::default();
//! identity.user_id = Some(UserId::from_u128(1));
//! let (mut connection, _started) = server.connect(&identity).await?;
//!
//! connection.send(r#"{"type":"message","ref":1,"role":"user","content":"Hello"}"#).await?;
//! match connection.next_frame().await? {
//!     ServerFrame::Ack { acks } => println!("on disk: {}", acks[0].id),
//!     ServerFrame::Error { code, message, .. } => return Err(format!("{code}: {message}").into()),
//!     other => println!("something else: {other:?}"),
//! }
//! connection.send(r#"{"type":"session.end","reason":"completed"}"#).await?;
//! if let ServerFrame::Error { code, message, .. } = connection.next_frame().await? {
//!     return Err(format!("the session has not ended: {code}: {message}").into());
//! }
//! connection.close().await?; // without session.end, the session would end with the reason "disconnect"
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
//! | [`retry`] | the pause before the next attempt |
//! | [`address`] | what is wrong with a URL or a token |
//! | [`tls`] | why TLS cannot be set up on this system |
//!
//! # Errors
//!
//! | error | when | what to do |
//! |---|---|---|
//! | [`InvalidServer`](address::InvalidServer) | a URL or a token cannot be used | correct it |
//! | [`ConnectError`](socket::ConnectError) | a connection was not established | try again if it is [temporary](socket::ConnectError::is_temporary) |
//! | [`Disconnected`](socket::Disconnected) | a connection has ended | connect again, and send again what was not acknowledged, with the same ids |
//! | [`RequestError`](api::RequestError) | a request has no answer, or the server refused it | depends on the variant |
//! | `Error` frame ([`ServerFrame`]) | the server refused a frame | send it again if its code [is retryable](ErrorCode::is_retryable) |
//! | [`Refusal`](api::Refusal) | a response is an error | its `detail` says what is wrong |
//! | [`OpenEventsError`](api::OpenEventsError) | the server does not stream its events | try again if it is `Unavailable` |
//! | [`EventsError`](events::EventsError) | a stream of events broke off | open another one after the place of the last event |
//!
//! All clients need a tokio runtime with I/O and time.

pub mod socket;
pub mod api;
pub mod events;
pub mod retry;
pub mod address;
pub mod tls;

#[doc(no_inline)]
pub use talktrack_core::{ErrorCode, MessageId, SessionId, UserId};
#[doc(no_inline)]
pub use talktrack_protocol::{Ack, FrameRef, Secret, ServerFrame};

/// Compiles the example in the crate's README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
