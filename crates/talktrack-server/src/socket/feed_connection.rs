//! The task of a feed: one connection for many sessions. Each frame is answered as on a connection of one session, and
//! the answer names the session. A refusal concerns one frame, or one session; the connection stays open.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use axum::extract::ws::close_code;
use talktrack::{ClaimRefusal, ErrorCode, NotDurable, Refusals};
use talktrack_protocol::{ClientFrame, Frame, FrameRef, ServerFrame, SessionName};
use tokio::time::{Instant, sleep_until, timeout};

use super::BURST;
use super::ending::{DROPPED, Ending, LAST_WORDS};
use super::feed_answers::FeedAnswers;
use super::link::{Heard, Link, Wake};
use super::peer::{Disconnected, Received};
use crate::access;
use crate::error::Problem;
use crate::feed::{Feed, LookedUp, Order, Route, ended_frame, look_up_starts};
use crate::turns::Waiting;

/// How many bytes of frames are taken together at most, plus one frame.
const BURST_BYTES: usize = 64 << 10;

/// How often a feed looks at most for refusals of the store. Each look examines all of its sessions.
const LOOK: Duration = Duration::from_millis(250);

pub(super) struct FeedConnection {
    link: Link,
    feed: Feed,
    answers: FeedAnswers,
    refusals: Refusals,
    /// When the feed may look for refusals again.
    next_look: Instant,
}

/// What an error about a frame repeats of it.
struct Subject {
    reference: Option<FrameRef>,
    session_id: Option<SessionName>,
}

impl Subject {
    fn of_frame(frame: &Frame) -> Self {
        Self { reference: frame.reference.clone(), session_id: frame.session_id.clone() }
    }
}

impl FeedConnection {
    pub(super) fn new(link: Link) -> Self {
        let feed = Feed::open(&link.state, &link.caller, true);
        let refusals = link.state.tracker().refusals();
        Self { link, feed, answers: FeedAnswers::default(), refusals, next_look: Instant::now() }
    }

    /// Runs until the client or the server ends the connection.
    pub(super) async fn run(mut self) {
        let Err(ending) = self.serve().await;
        match ending {
            Ending::Disconnected => {}
            Ending::Close(code, reason) => self.link.peer.close(code, reason).await,
            Ending::Over(why) => {
                let _ = timeout(LAST_WORDS, async {
                    self.send_all_answers().await?;
                    self.link.close_unauthorized(why).await
                })
                .await;
            }
            Ending::Stopping => {
                if self.end_on_shutdown().await.is_ok() {
                    self.link.peer.close(close_code::AWAY, "shutting down").await;
                }
            }
        }
    }

    async fn serve(&mut self) -> Result<Infallible, Ending> {
        loop {
            tokio::select! {
                biased;
                () = self.link.stopping.wait() => return Err(Ending::Stopping),
                () = self.link.durability.changed(), if !self.answers.is_empty() => self.send_answers().await?,
                () = next_refusal(&mut self.refusals, self.next_look) => self.report_refusals().await?,
                () = self.link.alarm.as_mut() => self.link.check_timers().await?,
                received = self.link.peer.recv() => self.handle_received_burst(received).await?,
            }
        }
    }

    /// Handles a frame, and the frames that have already arrived after it.
    async fn handle_received_burst(&mut self, received: Received) -> Result<(), Ending> {
        self.link.last_heard = Instant::now();
        let mut frames = Vec::new();
        // The frames before the one that ends the connection count.
        let all_taken = self.take_burst(received, &mut frames).await;
        let subjects: Vec<Subject> = frames.iter().map(Subject::of_frame).collect();
        let (state, caller) = (self.link.state.clone(), self.link.caller.clone());
        let looked_up = self.wait_for(async move { look_up_starts(&state, &caller, frames).await }).await?;
        for (frame, subject) in looked_up.into_iter().zip(subjects) {
            match frame {
                LookedUp::Start(order) => self.carry_out(*order, subject).await?,
                LookedUp::Other(frame) => self.handle_frame(*frame, subject).await?,
            }
        }
        self.link.peer.flush().await?;
        all_taken
    }

    /// Parses a frame, and the frames that have already arrived after it, up to a limit.
    async fn take_burst(&mut self, first: Received, frames: &mut Vec<Frame>) -> Result<(), Ending> {
        let mut next = Some(first);
        let mut bytes = 0;
        while let Some(received) = next {
            // That the connection is alive says nothing of its sessions.
            if let Heard::Text(text) = self.link.take_text(received).await? {
                bytes += text.len();
                frames.extend(self.take_frame(&text).await?);
            }
            let has_room = frames.len() < BURST && bytes < BURST_BYTES;
            next = if has_room { self.link.peer.try_recv() } else { None };
        }
        Ok(())
    }

    /// Parses a frame and applies the limits. Returns `None` if the frame is refused.
    async fn take_frame(&mut self, text: &str) -> Result<Option<Frame>, Disconnected> {
        let frame = match Frame::parse(text) {
            Ok(frame) => frame,
            Err(error) => {
                let subject = Subject { reference: error.reference, session_id: error.session_id };
                return self.reject_frame(error.code, error.message, subject).await.map(|()| None);
            }
        };
        let writes = matches!(frame.body, ClientFrame::Message(_) | ClientFrame::SessionUpdate(_));
        let (code, message) = if let Err(wait) = self.link.meter.take(text.len()) {
            (ErrorCode::RateLimited, wait.describe())
        } else if writes && let Err(problem) = self.link.meter.check_dead_letters() {
            (problem.code(), problem.into_detail())
        } else {
            return Ok(Some(frame));
        };
        self.reject_frame(code, message, Subject::of_frame(&frame)).await.map(|()| None)
    }

    async fn handle_frame(&mut self, frame: Frame, subject: Subject) -> Result<(), Ending> {
        match frame.body {
            ClientFrame::Auth { token } => {
                Ok(self.link.renew_token(token.reveal(), subject.reference).await?)
            }
            ClientFrame::Ping => {
                subject.session_id.iter().for_each(|name| self.feed.keep_alive(name));
                Ok(self.link.send(&ServerFrame::Pong { reference: subject.reference }).await?)
            }
            _ => {
                let order = self.find_order(frame).await?;
                self.carry_out(order, subject).await
            }
        }
    }

    /// Does what a frame asks for in its session, or says why that is refused.
    async fn carry_out(&mut self, order: Result<Order, Problem>, subject: Subject) -> Result<(), Ending> {
        let order = match order {
            Ok(order) => order,
            Err(problem) => return Ok(self.refuse(problem, subject).await?),
        };
        let bytes = order.bytes();
        self.wait_for_turn(bytes).await?;
        match self.feed.hand_over(order) {
            Ok(pending) => match pending.seq() {
                Some(seq) => {
                    self.link.pace.record_sent(seq, bytes);
                    self.answers.push(pending);
                    // A repeated start may wait for a start that is durable already, so nothing would wake the feed.
                    if self.link.durability.outcome(seq).is_some() {
                        self.send_answers().await?;
                    }
                }
                // Nothing has to become durable, so nothing would wake the feed.
                None => {
                    let answer = pending.answer(&mut self.feed, &mut self.link.durability).await;
                    self.link.send(&answer).await?;
                }
            },
            Err(problem) => self.refuse(problem, subject).await?,
        }
        if self.answers.are_too_many() {
            self.send_all_answers().await?;
        }
        Ok(())
    }

    /// Finds the session of a frame. Meanwhile sends answers that become due.
    async fn find_order(&mut self, frame: Frame) -> Result<Result<Order, Problem>, Ending> {
        let inquiry = match self.feed.route(frame) {
            Ok(Route::Known(order)) => return Ok(Ok(order)),
            Ok(Route::Unknown(inquiry)) => inquiry,
            Err(problem) => return Ok(Err(problem)),
        };
        let (state, caller) = (self.link.state.clone(), self.link.caller.clone());
        self.wait_for(async move { inquiry.answer(&state, &caller).await }).await
    }

    /// Waits for the result of `work`. Meanwhile sends answers that become due.
    async fn wait_for<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Ending> {
        let mut work = pin!(work);
        loop {
            match self.link.wait_for(work.as_mut()).await? {
                Wake::Done(done) => return Ok(done),
                Wake::Durable => self.send_answers().await?,
            }
        }
    }

    /// Waits until the feed may hand over a record with this many bytes of text. Meanwhile sends answers that become due.
    async fn wait_for_turn(&mut self, bytes: usize) -> Result<(), Ending> {
        let waiting = Waiting::new(bytes);
        while let Some(wake) = self.link.wait_for_turn(&waiting).await? {
            if matches!(wake, Wake::Durable) {
                self.send_answers().await?;
            }
        }
        Ok(())
    }

    /// Sends every answer that is due.
    async fn send_answers(&mut self) -> Result<(), Disconnected> {
        let durability = &mut self.link.durability;
        while let Some(text) = self.answers.next_frame(&mut self.feed, durability).await {
            self.link.peer.feed(text).await?;
        }
        self.link.peer.flush().await
    }

    /// Waits for all pending answers and sends them.
    async fn send_all_answers(&mut self) -> Result<(), Disconnected> {
        self.send_answers().await?;
        while !self.answers.is_empty() {
            self.link.durability.changed().await;
            self.send_answers().await?;
        }
        self.link.last_heard = Instant::now();
        Ok(())
    }

    /// Tells the client what the store refused after it was durable. Only the sessions concerned are affected.
    async fn report_refusals(&mut self) -> Result<(), Disconnected> {
        self.next_look = Instant::now() + LOOK;
        for (session_id, refusal) in self.feed.find_refusals() {
            let (why, text) = match refusal {
                ClaimRefusal::Start(why) => (why, None),
                ClaimRefusal::Records => (NotDurable::Deleted, Some(DROPPED.to_owned())),
            };
            let why = access::mask_refusal(&self.link.caller, why);
            let text = text.unwrap_or_else(|| why.to_string());
            self.link.send_error(why.code(), text, None, Some(session_id.into())).await?;
        }
        self.link.peer.flush().await
    }

    /// Sends all pending answers, ends the open sessions and tells the client.
    async fn end_on_shutdown(&mut self) -> Result<(), Disconnected> {
        self.send_all_answers().await?;
        for (session_id, receipt) in self.feed.end_all() {
            if let Ok(ended) = receipt.durable().await {
                self.link.send(&ended_frame(session_id, ended, None)).await?;
            }
        }
        Ok(())
    }

    /// Answers a frame whose refusal is counted already.
    async fn refuse(&mut self, problem: Problem, subject: Subject) -> Result<(), Disconnected> {
        let Subject { reference, session_id } = subject;
        self.link.send_error(problem.code(), problem.into_detail(), reference, session_id).await
    }

    /// Answers a frame that never reached the feed's sessions, and counts the refusal.
    async fn reject_frame(
        &mut self,
        code: ErrorCode,
        message: String,
        Subject { reference, session_id }: Subject,
    ) -> Result<(), Disconnected> {
        self.link.reject_frame(code, message, reference, session_id).await
    }
}

/// Waits for the next refusal of the store, at least until `from`.
async fn next_refusal(refusals: &mut Refusals, from: Instant) {
    sleep_until(from).await;
    refusals.changed().await;
}
