//! Talkers: clients as people write them. They keep some messages under way, come back when the connection breaks, send
//! again what was not acknowledged or was refused, revise what they said, end their session and begin another.

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

/// How long a client waits before it tries again what was refused.
const PAUSE: Duration = Duration::from_millis(20);
/// A server that is asked to stop, or has no room, says one of these. Anything else is not for a client that does all right.
const REFUSALS: [&str; 3] = ["queue_full", "journal_full", "shutting_down"];

/// Begins the mark of an update of the session.
const UPDATE: &str = "update ";

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How much is talked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Connections that talk at the same time.
    pub(crate) talkers: usize,
    /// Messages that each has under way at once.
    pub(crate) ahead: usize,
    /// A pause before each message.
    pub(crate) pause: Duration,
    /// Messages in a session before it ends and another begins.
    pub(crate) per_session: usize,
}

impl Default for Manner {
    fn default() -> Self {
        Self { talkers: 4, ahead: 50, pause: Duration::ZERO, per_session: 2_000 }
    }
}

/// The nodes that take connections just now; none while the only server is being started again.
pub(crate) type Door = watch::Receiver<Vec<Place>>;

/// Talkers at work. They never give up; [`Talkers::fall_silent`] ends them.
pub(crate) struct Talkers {
    tasks: Vec<JoinHandle<()>>,
    silence: watch::Sender<bool>,
}

impl Talkers {
    /// Everybody begins to talk.
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

    /// Nothing new is said; returns when everything that was is acknowledged, on a server that must be there.
    pub(crate) async fn fall_silent(self) {
        self.silence.send_replace(true);
        for task in self.tasks {
            let patience = Duration::from_secs(120);
            tokio::time::timeout(patience, task).await.expect("every message is answered").unwrap();
        }
    }
}

/// One session, as far as its talker knows it.
struct Conversation {
    session: Uuid,
    /// How much of it was begun to be said; revisions count too.
    step: usize,
    /// Not acknowledged; `None` until it is sent on the connection that is there now.
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
    /// The update was refused, and is not said again: what was sent after it does not speak for it.
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
    /// The node that it talks to.
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

    /// Everything is said and answered.
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

    /// Talks until the connection breaks (`None`), or until nothing is left to say on it.
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

    /// Fills up what is under way.
    async fn say_more(&mut self, socket: &mut Socket) -> Option<()> {
        while let Some(saying) = self.next() {
            if !self.manner.pause.is_zero() {
                tokio::time::sleep(self.manner.pause).await;
            }
            let conversation = &mut self.conversation;
            if saying.number % 50 == 49 {
                let (at, mark) = (conversation.step, format!("{UPDATE}{}", conversation.step));
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

    /// What is to be sent now: first again what was not answered, then something new.
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

    /// Takes an answer; says whether the session is over.
    async fn hear(&mut self, frame: &Value) -> bool {
        match frame["type"].as_str().unwrap() {
            "session.started" => drop(self.oracle.notes().begun.insert(self.conversation.session)),
            "ack" => self.acknowledged(frame),
            // A server that stops ends every session; whoever has more to say comes back.
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

    /// A refusal hands the message back: it is sent again a little later.
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

/// What this mark stands for.
fn saying(session: Uuid, reference: &Value) -> Saying {
    Saying::marked(session, reference.as_str().unwrap()).unwrap()
}
