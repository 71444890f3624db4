//! Talkers: clients like those of real agents. They keep some messages in flight, reconnect, repeat what was refused or
//! not acknowledged, revise messages, end their session and start another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use uuid::Uuid;

use super::oracle::Oracle;
use super::saying::Saying;
use super::stand::Place;
use crate::harness::acks_in;

/// How long a client waits before it connects again or repeats a refused message.
const PAUSE: Duration = Duration::from_millis(20);
/// The errors of a server that is stopping or has no room. A correct client gets no other errors.
const REFUSALS: [&str; 3] = ["queue_full", "journal_full", "shutting_down"];

/// The prefix of the `ref` of a session update.
const UPDATE: &str = "update ";

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The load of the talkers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// The number of connections at the same time.
    pub(crate) talkers: usize,
    /// Messages of each talker in flight at once.
    pub(crate) ahead: usize,
    /// The pause before each message.
    pub(crate) pause: Duration,
    /// Messages in a session before it ends and the next one starts.
    pub(crate) per_session: usize,
}

impl Default for Manner {
    fn default() -> Self {
        Self { talkers: 4, ahead: 50, pause: Duration::ZERO, per_session: 2_000 }
    }
}

/// The nodes that accept connections at the moment; empty while the only server restarts.
pub(crate) type Door = watch::Receiver<Vec<Place>>;

/// Running talkers. They never stop by themselves; [`Talkers::fall_silent`] ends them.
pub(crate) struct Talkers {
    tasks: Vec<JoinHandle<()>>,
    silence: watch::Sender<bool>,
}

impl Talkers {
    /// Starts all talkers.
    pub(crate) fn begin(manner: Manner, user: Uuid, door: &Door, oracle: &Arc<Oracle>) -> Self {
        let silence = watch::Sender::new(false);
        let talker = |_| Talker {
            manner,
            user,
            door: door.clone(),
            node: 0,
            oracle: Arc::clone(oracle),
            silence: silence.subscribe(),
            conversation: Conversation::new(),
        };
        let tasks = (0..manner.talkers).map(|place| tokio::spawn(talker(place).talk())).collect();
        Self { tasks, silence }
    }

    /// Stops new messages and waits until all messages are acknowledged. A server must be running.
    pub(crate) async fn fall_silent(self) {
        self.silence.send_replace(true);
        for task in self.tasks {
            let patience = Duration::from_secs(120);
            tokio::time::timeout(patience, task).await.expect("every message is answered").unwrap();
        }
    }
}

/// A session as its talker knows it.
struct Conversation {
    session: Uuid,
    /// The number of messages sent so far, revisions included.
    step: usize,
    /// The messages without an acknowledgement; `None` if the message was not sent on the current connection.
    under_way: BTreeMap<Saying, Option<Sent>>,
    /// The newest update of the session that was sent on this connection.
    update: Option<usize>,
    end_is_sent: bool,
}

#[derive(Clone, Copy)]
struct Sent {
    at: Instant,
    after_update: Option<usize>,
}

impl Conversation {
    fn new() -> Self {
        Self {
            session: Uuid::new_v4(),
            step: 0,
            under_way: BTreeMap::new(),
            update: None,
            end_is_sent: false,
        }
    }
}

impl Conversation {
    /// Forgets an update that was refused and is not repeated: the ack of a later message does not prove that it is
    /// durable.
    fn forget_update(&mut self, step: usize) {
        let sent = self.under_way.values_mut().flatten().map(|sent| &mut sent.after_update);
        sent.chain([&mut self.update])
            .filter(|update| **update == Some(step))
            .for_each(|update| *update = None);
    }
}

struct Talker {
    manner: Manner,
    user: Uuid,
    door: Door,
    /// The node of the current connection.
    node: usize,
    oracle: Arc<Oracle>,
    silence: watch::Receiver<bool>,
    conversation: Conversation,
}

impl Talker {
    async fn talk(mut self) {
        while !self.is_done() {
            if let Some(socket) = self.connect().await {
                let broken = self.converse(socket).await;
                if broken.is_some() {
                    continue;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// True if everything was sent and acknowledged.
    fn is_done(&self) -> bool {
        *self.silence.borrow() && self.conversation.under_way.is_empty()
    }

    async fn connect(&mut self) -> Option<Socket> {
        let places = self.door.wait_for(|places| !places.is_empty()).await.ok()?.clone();
        let Place { node, address } = fastrand::choice(places).expect("waited for");
        self.node = node;
        let session = self.conversation.session;
        let url = format!("ws://{address}/v1/ws?session_id={session}&user_id={}", self.user);
        Some(connect_async(url).await.ok()?.0)
    }

    /// Sends messages until the connection breaks (`None`) or nothing is left to send.
    async fn converse(&mut self, mut socket: Socket) -> Option<()> {
        let conversation = &mut self.conversation;
        conversation.under_way.values_mut().for_each(|sent| *sent = None);
        (conversation.end_is_sent, conversation.update) = (false, None);
        while !self.is_done() {
            self.say_more(&mut socket).await?;
            let Message::Text(text) = socket.next().await?.ok()? else { continue };
            let frame = serde_json::from_str(&text).unwrap();
            if self.hear(&frame).await {
                break;
            }
        }
        socket.close(None).await.ok()
    }

    /// Sends messages until the limit in flight is reached.
    async fn say_more(&mut self, socket: &mut Socket) -> Option<()> {
        while let Some(saying) = self.next() {
            if !self.manner.pause.is_zero() {
                tokio::time::sleep(self.manner.pause).await;
            }
            let conversation = &mut self.conversation;
            if saying.number % 50 == 49 {
                let at = conversation.step;
                let mark = format!("{UPDATE}{}", conversation.step);
                let update = json!({"type": "session.update", "metadata": {"at": at}, "ref": mark});
                socket.send(Message::text(update.to_string())).await.ok()?;
                conversation.update = Some(conversation.step);
            }
            self.oracle.notes().sent(saying);
            let sent = Sent { at: Instant::now(), after_update: conversation.update };
            conversation.under_way.insert(saying, Some(sent));
            socket.send(Message::text(saying.frame().to_string())).await.ok()?;
        }
        let conversation = &mut self.conversation;
        let is_over = conversation.step >= self.manner.per_session && conversation.under_way.is_empty();
        if is_over && !conversation.end_is_sent {
            socket.send(Message::text(r#"{"type":"session.end","ref":"end"}"#)).await.ok()?;
            conversation.end_is_sent = true;
        }
        Some(())
    }

    /// Returns the next message to send: first unacknowledged messages again, then new ones.
    fn next(&mut self) -> Option<Saying> {
        let conversation = &mut self.conversation;
        let unsent = conversation.under_way.iter().find(|(_, sent)| sent.is_none());
        if let Some((&saying, _)) = unsent {
            return Some(saying);
        }
        let is_over = conversation.step >= self.manner.per_session || *self.silence.borrow();
        if is_over || conversation.under_way.len() >= self.manner.ahead {
            return None;
        }
        conversation.step += 1;
        Some(Saying::at(conversation.session, conversation.step))
    }

    /// Handles a frame of the server. True if the session has ended.
    async fn hear(&mut self, frame: &Value) -> bool {
        match frame["type"].as_str().unwrap() {
            "session.started" => drop(self.oracle.notes().begun.insert(self.conversation.session)),
            "ack" => self.acknowledged(frame),
            // A server that stops ends every connection; the talker connects again.
            "session.ended" if frame["ref"] != "end" => {}
            "session.ended" => {
                self.oracle.notes().ended.insert(self.conversation.session);
                self.conversation = Conversation::new();
                return true;
            }
            "error" => self.refused(frame).await,
            _ => panic!("a frame that nobody asked for: {frame}"),
        }
        false
    }

    fn acknowledged(&mut self, frame: &Value) {
        let conversation = &mut self.conversation;
        for ack in acks_in(frame) {
            let saying = saying(conversation.session, &ack.reference);
            assert_eq!(ack.id, saying.id(), "{frame}");
            let sent = conversation.under_way.remove(&saying).flatten().expect("an ack for what was sent");
            self.oracle.notes().heard(saying, self.node, sent.at.elapsed(), sent.after_update);
        }
    }

    /// Handles a refusal: the message is sent again a little later.
    async fn refused(&mut self, frame: &Value) {
        let code = frame["code"].as_str().unwrap();
        assert!(REFUSALS.contains(&code), "{frame}");
        *self.oracle.notes().refused.entry(code.to_owned()).or_default() += 1;
        let conversation = &mut self.conversation;
        if let Some(step) = frame["ref"].as_str().and_then(|mark| mark.strip_prefix(UPDATE)) {
            conversation.forget_update(step.parse().unwrap());
        } else if frame["ref"] == "end" {
            conversation.end_is_sent = false;
        } else if !frame["ref"].is_null() {
            let refused = saying(conversation.session, &frame["ref"]);
            if *self.silence.borrow() && code == "journal_full" {
                conversation.under_way.remove(&refused);
            } else {
                conversation.under_way.insert(refused, None);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns the message with this `ref`.
fn saying(session: Uuid, reference: &Value) -> Saying {
    Saying::marked(session, reference.as_str().unwrap()).unwrap()
}
