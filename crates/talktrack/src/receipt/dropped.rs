//! Durable records that will never be stored because their content was deleted.

use std::collections::{HashMap, HashSet, VecDeque};

use talktrack_core::clock::Seq;
use talktrack_core::ids::{MessageId, SessionId, UserId};

/// The number of entries of each sort that are remembered. A caller asks within moments.
const REMEMBERED: usize = 65_536;

/// The newest dropped records, messages and claims.
#[derive(Debug, Default)]
pub(super) struct DroppedRecords {
    records: HashSet<Seq>,
    records_by_age: VecDeque<Seq>,
    /// Per message: the highest `seq` that a receipt of the dropped message can have, because the same message may be
    /// sent again later.
    messages: HashMap<MessageId, Seq>,
    messages_by_age: VecDeque<MessageId>,
    /// How many times records of a session were dropped for this user, or for all users.
    claims: HashMap<(SessionId, Option<UserId>), u64>,
    claims_by_age: VecDeque<(SessionId, Option<UserId>)>,
}

impl DroppedRecords {
    pub(super) fn add_records(&mut self, seqs: &[Seq], messages: &[MessageId], up_to: Seq) {
        for seq in seqs {
            if self.records.insert(*seq) {
                self.records_by_age.push_back(*seq);
            }
        }
        for id in messages {
            if self.messages.insert(*id, up_to).is_none() {
                self.messages_by_age.push_back(*id);
            }
        }
        while self.records_by_age.len() > REMEMBERED {
            self.records_by_age.pop_front().map(|seq| self.records.remove(&seq));
        }
        while self.messages_by_age.len() > REMEMBERED {
            self.messages_by_age.pop_front().map(|id| self.messages.remove(&id));
        }
    }

    pub(super) fn add_claim(&mut self, claim: (SessionId, Option<UserId>)) {
        let times = self.claims.entry(claim.clone()).or_default();
        *times += 1;
        if *times == 1 {
            self.claims_by_age.push_back(claim);
        }
        while self.claims_by_age.len() > REMEMBERED {
            self.claims_by_age.pop_front().map(|claim| self.claims.remove(&claim));
        }
    }

    pub(super) fn contains(&self, seq: Seq, message_id: Option<MessageId>) -> bool {
        let up_to = message_id.and_then(|id| self.messages.get(&id));
        self.records.contains(&seq) || up_to.is_some_and(|up_to| seq <= *up_to)
    }

    /// Returns how many times records of the session were dropped that were accepted for this user, or for all users.
    pub(super) fn count_drops(&self, session_id: SessionId, user_id: &UserId) -> u64 {
        [Some(user_id.clone()), None]
            .into_iter()
            .filter_map(|owner| self.claims.get(&(session_id, owner)))
            .sum()
    }
}
