//! The sessions that a feed has started or resumed and that have not ended.

use std::collections::HashMap;

use talktrack::clock::Seq;
use talktrack::{Author, Claim, ClaimRefusal, SessionId, SessionRef, Tracker, UserId};

use super::order::Origin;

/// The maximum number of open sessions of a feed.
pub(super) const MAX_OPEN: usize = 10_000;

#[derive(Default)]
pub(super) struct OpenSessions(HashMap<SessionId, OpenSession>);

pub(super) struct OpenSession {
    /// The user for whom the feed started the session.
    pub(super) user_id: UserId,
    /// On whose authority the feed writes.
    author: Author,
    pub(super) started_seq: Seq,
    /// Reports if a remote store later refuses the start, or drops acknowledged records.
    claim: Claim,
    /// The end that the feed has handed over. The session is kept until the end is durable: until then, nothing else
    /// proves that the session may be used.
    ended_seq: Option<Seq>,
}

impl OpenSession {
    pub(super) fn new(user_id: UserId, author: Author, started_seq: Seq, claim: Claim) -> Self {
        Self { user_id, author, started_seq, claim, ended_seq: None }
    }

    /// Returns the session for an order.
    pub(super) fn origin(&self, session_id: SessionId) -> Origin {
        Origin {
            session: SessionRef::for_user(session_id, self.user_id.clone()),
            author: self.author.clone(),
            owner: Some(self.user_id.clone()),
            said_until: None,
        }
    }
}

impl OpenSessions {
    pub(super) fn get(&self, session_id: SessionId) -> Option<&OpenSession> {
        self.0.get(&session_id)
    }

    /// Returns false if the feed has [`MAX_OPEN`] other sessions that are active. Sessions that somebody else has ended do
    /// not count.
    pub(super) fn make_room(&mut self, session_id: SessionId, tracker: &Tracker) -> bool {
        if self.0.len() < MAX_OPEN || self.0.contains_key(&session_id) {
            return true;
        }
        self.0.retain(|session_id, session| {
            let session = SessionRef::for_user(*session_id, session.user_id.clone());
            let is_active =
                tracker.session_in_memory(session.clone()).is_some_and(|row| row.ended_at.is_none());
            if !is_active {
                tracker.detach(session);
            }
            is_active
        });
        self.0.len() < MAX_OPEN
    }

    pub(super) fn insert(&mut self, session_id: SessionId, session: OpenSession) {
        self.0.insert(session_id, session);
    }

    pub(super) fn note_end(&mut self, session_id: SessionId, seq: Seq) {
        if let Some(session) = self.0.get_mut(&session_id) {
            session.ended_seq = Some(seq);
        }
    }

    /// Removes the session if this is its latest start.
    pub(super) fn remove_started(&mut self, session_id: SessionId, seq: Seq) -> Option<OpenSession> {
        self.remove_if(session_id, |session| session.started_seq == seq)
    }

    /// Removes the session if this is its latest end, and no start came after it.
    pub(super) fn remove_ended(&mut self, session_id: SessionId, seq: Seq) -> Option<OpenSession> {
        self.remove_if(session_id, |session| session.ended_seq == Some(seq))
    }

    fn remove_if(
        &mut self,
        session_id: SessionId,
        is_meant: impl FnOnce(&OpenSession) -> bool,
    ) -> Option<OpenSession> {
        self.0.get(&session_id).is_some_and(is_meant).then(|| self.0.remove(&session_id)).flatten()
    }

    /// Returns what the store has refused since the last call.
    pub(super) fn find_refusals(&mut self) -> Vec<(SessionId, ClaimRefusal)> {
        let refused =
            |(id, session): (&SessionId, &mut OpenSession)| Some((*id, session.claim.find_refusal()?));
        self.0.iter_mut().filter_map(refused).collect()
    }

    /// Returns the sessions that the feed has not ended.
    pub(super) fn open(&self) -> impl Iterator<Item = (SessionId, &OpenSession)> {
        self.0.iter().filter(|(_, session)| session.ended_seq.is_none()).map(|(id, session)| (*id, session))
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = (SessionId, OpenSession)> {
        self.0.drain()
    }
}
