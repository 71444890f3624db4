//! The life cycle of a session in the tracker: it starts, its metadata change, or it ends.

use std::sync::Arc;
use std::time::Duration;

use dashmap::mapref::entry::Entry;
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::error::{NotDurable, Reason, Refused};
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::json::MAX_SESSION_METADATA;
use talktrack_core::message;
use talktrack_core::record::{Body, Ended, SessionEnd, SessionUpdate, Status};
use tokio::sync::oneshot;

use crate::event_log;
use crate::queue::Admission;
use crate::receipt::{self, RecordReceipt, Reply, SessionReceipt, Started};
use crate::session::{Claims, KnownMetadata, MemberSizes, Session, SessionRef};
use crate::store::SessionRow;
use crate::tracker::{Inner, NewSession, SessionChanges, Tracker};

/// The clocks of two nodes are assumed to differ by less than this.
const MOST_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// How a session ended, for [`Tracker::end_session_as`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Closing<'a> {
    /// [`Status::Ended`], or [`Status::Abandoned`], which puts the end at the session's last event.
    pub status: Status,
    /// The reason, in one word.
    pub reason: &'a str,
    /// When the session ended. The current time if this is more than 60 s ahead; more than a day ahead is refused.
    pub ended_at: Timestamp,
    /// The duration and the message count, if the caller knows them. The receipt returns them if this process does not
    /// know the session and the remote store has not answered yet.
    pub known: Option<Ended>,
}

impl<'a> Closing<'a> {
    /// Creates the end of a session at this time.
    pub fn new(status: Status, reason: &'a str, ended_at: Timestamp) -> Self {
        Self { status, reason, ended_at, known: None }
    }

    /// Sets the duration and the message count, if the caller knows them.
    #[must_use]
    pub fn with_known(self, known: impl Into<Option<Ended>>) -> Self {
        Self { known: known.into(), ..self }
    }
}

impl Tracker {
    /// Starts a session, or resumes it if it is known. [`NewSession::with_resume`] can keep a known session as it is.
    ///
    /// # Errors
    /// Returns the session with a [`Reason`] if it cannot be accepted now.
    #[expect(clippy::result_large_err, reason = "the refusal hands the session back")]
    pub fn start_session(&self, session: NewSession) -> Result<SessionReceipt<Started>, Refused<NewSession>> {
        let started = self.inner.start_session(session);
        started.inspect_err(|refused| self.count_refusal(refused.reason.code()))
    }

    /// Checks a start without accepting it, and replaces a `started_at` that is too far in the future.
    ///
    /// # Errors
    /// The [`Reason`] for which [`Self::start_session`] would refuse it now. The queue may be full then all the same.
    #[doc(hidden)]
    pub fn check_start(&self, session: &mut NewSession) -> Result<(), Reason> {
        let checked = self.inner.check_start(session, self.inner.now().at);
        checked.inspect_err(|reason| self.count_refusal(reason.code()))
    }

    /// Changes the metadata and the dimensions of a session. Keys of the metadata alone are changes as well.
    ///
    /// # Errors
    /// Returns the changes with a [`Reason`] if they cannot be accepted now.
    pub fn update_session(
        &self,
        session: impl Into<SessionRef>,
        changes: impl Into<SessionChanges>,
    ) -> Result<RecordReceipt, Refused<SessionChanges>> {
        let updated = self.inner.update_session(&session.into(), changes.into());
        updated.inspect_err(|refused| self.count_refusal(refused.reason.code()))
    }

    /// Ends a session, even if other connections use it. Ending it again changes nothing.
    ///
    /// # Errors
    /// Only while the tracker is shutting down, because it then ends every session itself.
    pub fn end_session(
        &self,
        session: impl Into<SessionRef>,
        reason: &str,
    ) -> Result<SessionReceipt<Ended>, Reason> {
        self.end_session_as(
            session,
            Closing { status: Status::Ended, reason, ended_at: self.inner.options.clock.now(), known: None },
        )
    }

    /// Ends a session with everything that the caller knows of its end, for example from a recording. This replaces the
    /// end of an abandoned session. Any other earlier end stays as it is.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if the time is before 1970 or more than a day ahead. Any other error only while the tracker is
    /// shutting down, because it then ends every session itself.
    pub fn end_session_as(
        &self,
        session: impl Into<SessionRef>,
        closing: Closing<'_>,
    ) -> Result<SessionReceipt<Ended>, Reason> {
        let ended_at = self.end_time(closing.ended_at)?;
        self.inner.end_session(&session.into(), Closing { ended_at, ..closing })
    }

    /// Returns the owner of a session if memory holds exactly one claim to it. Memory holds sessions that are active on
    /// this node and sessions that have just ended. A claim proves nothing until its start is durable: see
    /// [`Self::is_proven`].
    pub fn owner_of(&self, session_id: SessionId) -> Option<UserId> {
        self.inner.registry.with_claim(&session_id.into(), |claim| claim.map(|claim| claim.user_id.clone()))
    }

    /// Returns the users whose start of this session is durable here and was not refused by the store. Only claims in
    /// memory are considered. There can be more than one user only until the store has answered.
    pub fn proven_owners(&self, session_id: SessionId) -> Vec<UserId> {
        let proven = |session: &Session| self.inner.is_proven(session).then(|| session.user_id.clone());
        self.inner.registry.map_claims(session_id, proven).into_iter().flatten().collect()
    }

    /// True if a start of this session by this user is durable here and was not refused by the store. Only claims in
    /// memory are considered.
    pub fn is_proven(&self, session_id: SessionId, user_id: &UserId) -> bool {
        self.inner.registry.with_claim(&SessionRef::for_user(session_id, user_id.clone()), |session| {
            session.is_some_and(|session| self.inner.is_proven(session))
        })
    }

    /// Returns the row of a session that is active on this node or has just ended, from memory. The row lacks
    /// `external_id`, `end_reason` and `metadata`, and everything that only other nodes know. The complete row is in
    /// the store.
    pub fn session_in_memory(&self, session: impl Into<SessionRef>) -> Option<SessionRow> {
        let session = session.into();
        self.inner.registry.with_claim(&session, |claim| claim.map(|claim| claim.to_row(session.session_id)))
    }

    /// Says that the session's connection is alive although it sends no messages, so that the session is not idle.
    pub fn keep_alive(&self, session: impl Into<SessionRef>) {
        self.inner.registry.keep_alive(&session.into(), self.inner.now());
    }

    /// Forgets a user's claim to a session whose start was refused.
    #[doc(hidden)]
    pub fn forget_claim(&self, session_id: SessionId, user_id: &UserId) {
        self.inner.registry.forget_claim(session_id, user_id);
    }

    /// Removes sessions whose grace period is over from memory, and abandons sessions that have been idle for
    /// `idle_timeout`. A background thread does this several times per period.
    #[doc(hidden)]
    pub fn sweep(&self) {
        self.inner.sweep();
    }

    /// Returns the number of sessions in memory: active ones and those in their grace period.
    pub fn sessions_in_memory(&self) -> usize {
        self.inner.registry.len()
    }
}

impl Inner {
    #[expect(clippy::result_large_err, reason = "the refusal hands the session back")]
    fn start_session(&self, mut session: NewSession) -> Result<SessionReceipt<Started>, Refused<NewSession>> {
        session.replace_nul();
        let now = self.now();
        let bytes = session.heap_bytes();
        if let Err(reason) = self.check_start(&mut session, now.at) {
            return Err(Refused { reason, returned: session });
        }
        let sizes = session.metadata.as_ref().map(MemberSizes::from_object).unwrap_or_default();
        let mut entry = self.registry.entry(session.session_id);
        // Another user's claim is kept as well: the store decides between the two.
        let known = match &mut entry {
            Entry::Occupied(claims) => {
                claims.get_mut().find(Some(&session.user_id)).filter(|claim| !self.is_refused(claim))
            }
            Entry::Vacant(_) => None,
        };
        let is_known = known.is_some();
        let size = known.map_or_else(
            || KnownMetadata::default().size_with(&sizes),
            |claim| claim.metadata().size_with(&sizes),
        );
        // An update rewrites all of the session's metadata, so the queue counts their full size.
        let admitted = size.and_then(|size| self.queue.reserve(now.at, bytes.max(size), Admission::IfRoom));
        let permit = match admitted {
            Ok(permit) => permit,
            Err(reason) => return Err(Refused { reason, returned: session }),
        };
        let said_after = session.said_until.and_then(|said_until| self.said_after(said_until, now.at));
        let start = session.into_start(now.at, is_known);
        let user_id = start.user_id.clone();
        let start_time = start.start_time();
        let reopens = start.reopens;
        let (reply, answer) = oneshot::channel();
        let seq = permit.send(Body::Start(start), Reply::Started(reply));
        let claim = || {
            let mut claim = Session::new(user_id.clone(), start_time, now, seq);
            claim.metadata().merge(&sizes);
            claim.say_after(said_after);
            claim
        };
        match entry {
            Entry::Vacant(place) => drop(place.insert(Claims::new(claim()))),
            Entry::Occupied(mut claims) => match claims.get_mut().find(Some(&user_id)) {
                Some(known) if is_known => {
                    known.start_again(now, seq, reopens);
                    known.say_after(said_after);
                    known.metadata().merge(&sizes);
                }
                _ => claims.get_mut().add(claim(), |claim| self.is_refused(claim)),
            },
        }
        Ok(SessionReceipt::new(answer, seq, &self.shared.progress))
    }

    /// Returns the first moment after `said_until`, or `None` if `said_until` is too far ahead to be correct.
    pub(super) fn said_after(&self, said_until: Timestamp, now: Timestamp) -> Option<Timestamp> {
        (said_until < now.plus(MOST_AHEAD)).then(|| said_until.plus(Duration::from_micros(1)))
    }

    fn check_start(&self, session: &mut NewSession, now: Timestamp) -> Result<(), Reason> {
        self.check_room()?;
        self.check_size(session.heap_bytes())?;
        session.external_id.as_deref().map_or(Ok(()), message::check_external_id)?;
        session.dimensions.validate()?;
        let started_at = session.started_at.map(|claimed| self.start_time(claimed, now));
        session.started_at = started_at.transpose()?;
        Ok(())
    }

    fn update_session(
        &self,
        session: &SessionRef,
        mut changes: SessionChanges,
    ) -> Result<RecordReceipt, Refused<SessionChanges>> {
        changes.replace_nul();
        match self.enqueue_update(session, &mut changes) {
            Ok(seq) => Ok(RecordReceipt::new(None, seq, Arc::clone(&self.shared.progress))),
            Err(reason) => Err(Refused { reason, returned: changes }),
        }
    }

    /// Takes the changes, unless they are refused.
    fn enqueue_update(&self, session: &SessionRef, changes: &mut SessionChanges) -> Result<Seq, Reason> {
        let now = self.now();
        let session_id = session.session_id;
        self.check_changes(changes)?;
        let sizes = MemberSizes::from_object(&changes.metadata);
        let seq = self.registry.with_claim(session, |mut claim| {
            let owner = claim.as_ref().map(|claim| claim.user_id.clone()).or_else(|| session.user_id.clone());
            // An update rewrites all of the session's metadata. For an unknown session their size is unknown, so the
            // queue counts the maximum.
            let size = match &mut claim {
                Some(claim) => claim.metadata().size_with(&sizes),
                None => KnownMetadata::default().size_with(&sizes).map(|_| MAX_SESSION_METADATA),
            };
            let permit = self.queue.reserve(now.at, size?, Admission::IfRoom)?;
            let session_started_at = claim.map(|claim| {
                claim.metadata().merge(&sizes);
                claim.started_at()
            });
            let SessionChanges { metadata, dimensions } = std::mem::take(changes);
            let dimensions = *dimensions;
            let update = SessionUpdate { session_id, metadata, dimensions, owner, session_started_at };
            Ok::<Seq, Reason>(permit.send(Body::Update(update), Reply::None))
        })?;
        self.registry.keep_alive(session, now);
        Ok(seq)
    }

    fn check_changes(&self, changes: &SessionChanges) -> Result<(), Reason> {
        self.check_room()?;
        self.check_size(changes.heap_bytes())?;
        Ok(changes.dimensions.validate()?)
    }

    /// True if the claim's start is durable here and the store has refused neither that start nor a later one.
    fn is_proven(&self, claim: &Session) -> bool {
        let started = self.shared.progress.outcome_of(claim.started_seq());
        matches!(started, Some(Ok(()) | Err(NotDurable::Forgotten))) && !self.is_refused(claim)
    }

    /// True if the journal or the store refused a start of the claim.
    pub(super) fn is_refused(&self, claim: &Session) -> bool {
        let outcome = |seq| self.shared.progress.outcome_of(seq);
        [claim.started_seq(), claim.resumed_seq()]
            .into_iter()
            .any(|seq| matches!(outcome(seq), Some(Err(why)) if receipt::voids_claim(why)))
    }

    fn end_session(
        &self,
        session: &SessionRef,
        closing: Closing<'_>,
    ) -> Result<SessionReceipt<Ended>, Reason> {
        let ended = self.registry.with_claim(session, |claim| {
            let is_known = claim.is_some();
            self.enqueue_end(session, claim, closing, false).map(|receipt| (receipt, is_known))
        });
        ended.map(|(receipt, is_known)| {
            if !is_known {
                event_log::log_unknown_session(session.session_id);
            }
            receipt
        })
    }

    /// Enqueues the end. If the session is known, the caller holds its lock, so that ends and starts have the same
    /// order in the queue as in the registry.
    pub(super) fn enqueue_end(
        &self,
        session: &SessionRef,
        claim: Option<&mut Session>,
        closing: Closing<'_>,
        inferred: bool,
    ) -> Result<SessionReceipt<Ended>, Reason> {
        let Closing { status, reason, ended_at, known } = closing;
        let now = self.now();
        let closed =
            claim.map(|claim| (claim.end(now, ended_at, status), claim.seen_until(), claim.user_id.clone()));
        let known = closed.as_ref().map(|(figures, _, _)| *figures).or(known);
        let seen_until = closed.as_ref().map(|(_, seen_until, _)| *seen_until).filter(|_| inferred);
        let owner = closed.map(|(_, _, user_id)| user_id).or_else(|| session.user_id.clone());
        let mut reason = reason.to_owned();
        message::replace_nul_in(&mut reason);
        let permit = self.queue.reserve(now.at, reason.len(), Admission::Always)?;
        let (reply, answer) = oneshot::channel();
        let session_id = session.session_id;
        let end = SessionEnd { session_id, status, reason, ended_at, known, seen_until, owner };
        let seq = permit.send(Body::End(end), Reply::Ended(reply));
        Ok(SessionReceipt::new(answer, seq, &self.shared.progress))
    }
}
