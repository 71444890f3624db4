//! Durable records that will never be stored because their content was deleted.

use std::collections::{HashMap, HashSet, VecDeque};

use talktrack_core::clock::Seq;
use uuid::Uuid;

/// The number of entries of each sort that are remembered. A caller asks within moments.
const REMEMBERED: usize = 65_536;

/// The newest dropped records, messages and claims.
#[derive(Debug, Default)]
pub(super) struct DroppedRecords {
    records: HashSet<Seq>,
    records_by_age: VecDeque<Seq>,
    /// Per message: the highest `seq` that a receipt of the dropped message can have, because the same message may be
    /// sent again later.
    messages: HashMap<Uuid, Seq>,
    messages_by_age: VecDeque<Uuid>,
    /// How many times records of a session were dropped for this user, or for all users.
    claims: HashMap<(Uuid, Option<Uuid>), u64>,
    claims_by_age: VecDeque<(Uuid, Option<Uuid>)>,
}

impl DroppedRecords {
    pub(super) fn add_records(&mut self, seqs: &[Seq], messages: &[Uuid], up_to: Seq) {
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

    pub(super) fn add_claim(&mut self, claim: (Uuid, Option<Uuid>)) {
        let times = self.claims.entry(claim).or_default();
        *times += 1;
        if *times == 1 {
            self.claims_by_age.push_back(claim);
        }
        while self.claims_by_age.len() > REMEMBERED {
            self.claims_by_age.pop_front().map(|claim| self.claims.remove(&claim));
        }
    }

    pub(super) fn contains(&self, seq: Seq, message_id: Uuid) -> bool {
        self.records.contains(&seq) || self.messages.get(&message_id).is_some_and(|up_to| seq <= *up_to)
    }

    /// Returns how many times records of the session were dropped that were accepted for this user, or for all users.
    pub(super) fn count_drops(&self, session_id: Uuid, user_id: Uuid) -> u64 {
        [Some(user_id), None].into_iter().filter_map(|owner| self.claims.get(&(session_id, owner))).sum()
    }
}
