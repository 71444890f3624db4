//! Records of parked sessions. They stay in the table `journal`, outside the writer's windows, and are handed over from
//! there in order when the writer asks for them.

use rusqlite::Connection;
use talktrack_core::clock::Seq;
use talktrack_core::record::{DeadReason, Record, Verdict};

use crate::journal::outbox::Outbox;
use crate::local::tables::journal;
use crate::writer::{FedSession, Writer};

/// The maximum number of bytes of one session's text that are handed over at once. A single larger record is handed
/// over alone.
const MOST_BYTES: usize = 1 << 20;

impl Outbox {
    /// Holds back a record that waits behind others of its session. If too many wait, the record becomes a dead letter.
    pub(super) fn hold_back(&mut self, record: &Record) {
        if !self.writer().parking().hold_back(record) {
            self.answer_now(record.seq, Verdict::Dead(DeadReason::UnknownSession));
        }
    }

    /// Hands over the records of parked sessions that need not wait any longer. Records that cannot be read now are
    /// tried again.
    pub(super) fn feed_parked(&mut self, connection: &Connection) {
        if self.writer().parking().is_empty() {
            return;
        }
        self.writer().announce_due_sessions();
        for fed in self.writer().parking().fed_sessions() {
            if let Err(error) = self.feed_session(connection, fed) {
                let session_id = fed.session_id;
                tracing::warn!(%session_id, %error, "cannot read parked records; trying again later");
            }
        }
    }

    /// Hands over the oldest records of one session, at most `fed.most` at a time. Records above the `seq` up to which
    /// the lane was fed follow on the normal path.
    fn feed_session(&mut self, connection: &Connection, fed: FedSession) -> rusqlite::Result<()> {
        let lane = Writer::lane_of_session(fed.session_id);
        let waiting = self.find_waiting(connection, lane, fed)?;
        if waiting.is_empty() {
            self.writer().parking().unpark(fed.session_id);
        }
        let handed = waiting.iter().filter(|seq| self.was_handed(lane, **seq)).count();
        if handed == waiting.len() || fed.is_probe && handed > 0 || !self.writer().has_room(lane) {
            return Ok(());
        }
        let (mut records, mut bytes): (Vec<Record>, usize) = (Vec::new(), 0);
        for seq in waiting {
            if self.was_handed(lane, seq) {
                continue;
            }
            match journal::read(connection, seq)? {
                Some(record) => {
                    bytes += record.heap_bytes();
                    records.push(record);
                }
                None => self.answer_now(seq, Verdict::Dead(DeadReason::Corrupt)),
            }
            if bytes >= MOST_BYTES {
                break;
            }
        }
        self.hand_over_parked(lane, records);
        Ok(())
    }

    /// Returns the oldest records of a parked session. For a probe, the newest record takes the place of the last of
    /// them if it is a message, because a message may overtake other records of its session.
    fn find_waiting(
        &self,
        connection: &Connection,
        lane: usize,
        fed: FedSession,
    ) -> rusqlite::Result<Vec<Seq>> {
        let up_to = self.fed(lane);
        let mut waiting = journal::read_oldest_pending(connection, fed.session_id, up_to, fed.most)?;
        if fed.is_probe && waiting.len() == fed.most {
            let (seq, record) = journal::read_newest_pending(connection, fed.session_id, up_to)?;
            if record.is_some_and(|record| record.message().is_some()) {
                waiting.pop();
                waiting.push(seq);
            }
        }
        Ok(waiting)
    }
}
