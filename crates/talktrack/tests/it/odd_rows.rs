//! Rows that other programs wrote: every value that a column's type allows is shown as it is, and all
//! other rows are unaffected.
//!
//! A test clones a good row with one odd value in one column, for every column and many values, some of them
//! random. Then every reader reads, page by page with several page sizes, and the tracker continues to write.

mod backwards;
mod values;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use talktrack::search::{SearchCursor, SearchError, SearchFilter};
use talktrack::stats::{Resolution, StatsError, TimeRange};
use talktrack::store::{MessageRow, Read, SessionCursor, SessionFilter, SessionRow, Store};
use talktrack::{MessageId, NewSession, Options, Role, SessionId, Tracker};
use talktrack_testbed::Database;
use talktrack_testkit::PATIENCE;
use uuid::Uuid;
use values::{Odd, Table, every_odd};

use crate::properties::{draws, hold};
use crate::support::{SESSION, USER, dir, message, new_session, sqlite, within};

/// The session whose row and message are cloned with odd values.
const ODD: SessionId = SessionId::from_u128(0xa1);

/// A database that gets odd rows.
trait Harmed {
    fn tracker(&self) -> Tracker;
    /// Writes clones of the session `ODD` or of its message with SQL, each with an odd value. Returns
    /// how many of them the store took.
    fn write(&self, odd: &[Odd]) -> usize;
    /// Returns the ids that a reader can name, selected with SQL.
    fn readable(&self, table: Table) -> BTreeSet<Uuid>;
}

struct File<'d>(&'d Path);

impl Harmed for File<'_> {
    fn tracker(&self) -> Tracker {
        Tracker::open(Options::new(self.0)).expect("the tracker opens on odd rows")
    }

    fn write(&self, odd: &[Odd]) -> usize {
        let file = sqlite(self.0);
        file.execute_batch("PRAGMA ignore_check_constraints = 1; PRAGMA foreign_keys = 0; BEGIN").unwrap();
        let write = |odd: &&Odd| odd.in_sqlite.iter().any(|sql| file.execute_batch(sql).is_ok());
        let taken = odd.iter().filter(write).count();
        file.execute_batch("COMMIT").unwrap();
        taken
    }

    fn readable(&self, table: Table) -> BTreeSet<Uuid> {
        let file = sqlite(self.0);
        let mut ids = file.prepare(&table.ids()).unwrap();
        let ids = ids.query_map([], |row| Ok(row.get_ref(0)?.as_str().ok().map(str::to_owned))).unwrap();
        // Only ids in the spelling of talktrack. A row with any other id cannot be named.
        let ids = ids.filter_map(|id| id.unwrap()).filter_map(|id| Some((id.parse::<Uuid>().ok()?, id)));
        ids.filter(|(id, text)| id.to_string() == *text).map(|(id, _)| id).collect()
    }
}

struct Remote<'d> {
    dir: &'d Path,
    database: &'d Database,
}

impl Harmed for Remote<'_> {
    fn tracker(&self) -> Tracker {
        let store: Arc<dyn Store> = Arc::new(crate::postgres::store_at(&self.database.url()));
        Tracker::open_with_store(Options::new(self.dir), store).expect("the tracker opens")
    }

    fn write(&self, odd: &[Odd]) -> usize {
        self.database.psql(values::NO_CONSTRAINTS);
        let mut sql = String::new();
        for odd in odd.iter().filter_map(|odd| odd.in_postgres.as_deref()) {
            // A value that the column's type does not allow fails here, and is skipped.
            sql.push_str(&format!("DO $odd$ BEGIN {odd}; EXCEPTION WHEN others THEN END $odd$;\n"));
        }
        let count = || -> usize {
            let sql = "SELECT (SELECT count(*) FROM conversation_sessions) + (SELECT count(*) FROM conversation_messages)";
            self.database.psql(sql).trim().parse().unwrap()
        };
        let before = count();
        self.database.psql(&sql);
        count() - before
    }

    fn readable(&self, table: Table) -> BTreeSet<Uuid> {
        self.database.psql(&table.ids()).lines().filter_map(|id| id.parse().ok()).collect()
    }
}

/// Tracks two conversations. The second is the one to clone.
async fn talk(tracker: &Tracker) {
    for session in [SESSION, ODD] {
        drop(tracker.start_session(NewSession::new(session, USER)).expect("accepted"));
    }
    for number in 0..3 {
        drop(tracker.track_message(message(format!("plain words {number}"))).expect("accepted"));
    }
    drop(tracker.track_message(talktrack::Message::new(ODD, Role::User, "odd words")).expect("accepted"));
    within(tracker.flush_to_store()).await.expect("stored");
}

/// Checks that everything readable is read, and that nothing is missing.
async fn reads_all(reader: &dyn Read, harmed: &dyn Harmed) -> Result<(), String> {
    let sessions = harmed.readable(Table::Sessions);
    let messages = harmed.readable(Table::Messages);
    for page in [1, 3, 500] {
        let listed = sessions_of(reader, SessionFilter::default(), page).await?;
        same(&format!("sessions, {page} a page"), listed.iter().map(|row| row.session_id), &sessions)?;
        let mut said = Vec::new();
        for session in &listed {
            said.extend(transcript(reader, session.session_id, page).await?);
        }
        let orphans = said.len() as u64;
        same(&format!("messages, {page} a page"), said.iter().map(|row| row.id), &messages)
            .map_err(|why| format!("{why} ({orphans} read)"))?;
    }
    let plain = transcript(reader, SESSION, 2).await?;
    let words: Vec<_> = plain
        .iter()
        .map(|row| row.content.as_str())
        .filter(|words| words.starts_with("plain words"))
        .collect();
    if words != ["plain words 0", "plain words 1", "plain words 2"] {
        return Err(format!("the other conversation reads {words:?}"));
    }
    others(reader, &sessions, &messages).await
}

fn same(what: &str, read: impl Iterator<Item: Into<Uuid>>, there: &BTreeSet<Uuid>) -> Result<(), String> {
    let read: Vec<Uuid> = read.map(Into::into).collect();
    let distinct: BTreeSet<_> = read.iter().copied().collect();
    if distinct.len() != read.len() {
        return Err(format!("{what}: {} rows twice", read.len() - distinct.len()));
    }
    let missing: Vec<_> = there.difference(&distinct).collect();
    let more: Vec<_> = distinct.difference(there).collect();
    if missing.is_empty() && more.is_empty() {
        Ok(())
    } else {
        Err(format!("{what}: missing {missing:?}, not there {more:?}"))
    }
}

async fn sessions_of(
    reader: &dyn Read,
    filter: SessionFilter,
    page: usize,
) -> Result<Vec<SessionRow>, String> {
    let mut all: Vec<SessionRow> = Vec::new();
    loop {
        let after = all.last().map(SessionRow::cursor);
        let rows = within(reader.sessions(filter.clone(), after, page))
            .await
            .map_err(|error| format!("sessions: {error}"))?;
        let is_last = !rows.more;
        all.extend(rows);
        if is_last || all.len() > 5_000 {
            return Ok(all);
        }
    }
}

async fn transcript(reader: &dyn Read, session: SessionId, page: usize) -> Result<Vec<MessageRow>, String> {
    let mut all: Vec<MessageRow> = Vec::new();
    loop {
        let after = all.last().map(MessageRow::cursor);
        let rows = within(reader.messages(session, after, page))
            .await
            .map_err(|error| format!("messages: {error}"))?;
        let is_last = !rows.more;
        all.extend(rows);
        if is_last || all.len() > 5_000 {
            backwards::is_the_reverse(reader, session, page, &all).await?;
            return Ok(all);
        }
    }
}

/// Checks that every other reader answers.
async fn others(
    reader: &dyn Read,
    sessions: &BTreeSet<Uuid>,
    messages: &BTreeSet<Uuid>,
) -> Result<(), String> {
    let ids: Vec<_> = sessions.iter().copied().map(SessionId::from).collect();
    let of = |what: &'static str| move |error: talktrack::ReadError| format!("{what}: {error}");
    same(
        "sessions by id",
        within(reader.sessions_by_id(&ids)).await.map_err(of("by id"))?.iter().map(|row| row.session_id),
        sessions,
    )?;
    within(reader.session_previews(&ids)).await.map_err(of("glimpses"))?;
    within(reader.sessions_by_prefix("0000", 500)).await.map_err(of("prefix"))?;
    let said: Vec<_> = messages.iter().copied().map(MessageId::from).collect();
    within(reader.messages_by_id(&said)).await.map_err(of("messages by id"))?;
    within(reader.audit()).await.map_err(of("audit"))?;
    for row in within(reader.sessions_by_id(&ids)).await.map_err(of("by id"))? {
        serde_json::to_string(&row).map_err(|error| format!("{row:?} as JSON: {error}"))?;
    }
    for row in within(reader.messages_by_id(&said)).await.map_err(of("messages by id"))? {
        serde_json::to_string(&row).map_err(|error| format!("{row:?} as JSON: {error}"))?;
    }
    let range = TimeRange::new(
        Some("2026-01-01T00:00:00Z".parse().unwrap()),
        None,
        Some(Resolution::Day),
        "2027-01-01T00:00:00Z".parse().unwrap(),
    );
    within(reader.user_stats(&USER, &range.unwrap()))
        .await
        .map_err(|error| format!("stats of a user: {error}"))?;
    // A session with an odd time has no age, so retention must not delete it.
    let mut after: Option<SessionCursor> = None;
    loop {
        let silent = within(reader.inactive_since("2020-01-01T00:00:00Z".parse().unwrap(), after, 7))
            .await
            .map_err(of("silent"))?;
        for row in &silent {
            let heard =
                row.last_event_at.as_ref().unwrap_or(&row.started_at).known().map(|at| at.to_string());
            if heard.is_none_or(|at| at.as_str() < "1970" || at.as_str() > "2020") {
                return Err(format!("retention would delete {row:?}"));
            }
        }
        after = silent.last().map(SessionRow::cursor);
        if silent.len() < 7 {
            return Ok(());
        }
    }
}

/// Waits until the background work (statistics and search) has caught up.
async fn background_ends(reader: &dyn Read) -> Result<(), String> {
    let since = "2026-01-01T00:00:00Z".parse().unwrap();
    let now = "2027-01-01T00:00:00Z".parse().unwrap();
    let range = TimeRange::new(Some(since), None, Some(Resolution::Day), now).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let counted = reader.stats(&range).await;
        let found = every_hit(reader).await;
        match (&counted, &found) {
            // One plain message contains the words, and so do clones of it with an odd value in another column.
            (Ok(stats), Ok(3..)) if stats.lag.stale_buckets == 0 && stats.lag.messages == 0 => return Ok(()),
            (Err(StatsError::Read(error)), _) => return Err(format!("statistics: {error}")),
            (_, Err(SearchError::Read(error))) => return Err(format!("search: {error}")),
            _ if Instant::now() > deadline => {
                return Err(format!("not counted or found: {counted:?} {found:?}"));
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn every_hit(reader: &dyn Read) -> Result<usize, SearchError> {
    let (mut after, mut count): (Option<SearchCursor>, usize) = (None, 0);
    loop {
        let filter = SearchFilter::new("words".parse().unwrap());
        let hits = reader.search(filter, after, 5).await?;
        count += hits.len();
        after = hits.last().map(talktrack::search::Hit::cursor);
        if !hits.more || count > 5_000 {
            return Ok(count);
        }
    }
}

/// Checks that the tracker still starts and ends sessions, including odd ones.
async fn goes_on(tracker: &Tracker, sessions: &BTreeSet<Uuid>) -> Result<(), String> {
    let before = tracker.health().books;
    for session in sessions.iter().copied().map(SessionId::from) {
        drop(
            tracker
                .start_session(NewSession::new(session, USER))
                .map_err(|refused| format!("{refused:?}"))?,
        );
        drop(tracker.end_session(session, "completed"));
    }
    drop(tracker.start_session(new_session()).map_err(|refused| format!("{refused:?}"))?);
    drop(tracker.track_message(message("plain again")).map_err(|refused| format!("{:?}", refused.reason))?);
    within(tracker.flush_to_store()).await.map_err(|error| format!("not stored: {error:?}"))?;
    let after = tracker.health().books;
    if after.stored == before.stored + 1 { Ok(()) } else { Err(format!("{before:?} then {after:?}")) }
}

fn lives_with(harmed: &impl Harmed, odd: &[Odd]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tracker = harmed.tracker();
        talk(&tracker).await;
        let taken = harmed.write(odd);
        if taken < odd.len() / 3 {
            return Err(format!("only {taken} of {} odd values were written", odd.len()));
        }
        reads_all(&*tracker.reader(), harmed).await?;
        background_ends(&*tracker.reader()).await?;
        let sessions = harmed.readable(Table::Sessions);
        goes_on(&tracker, &sessions).await?;
        reads_all(&*tracker.reader(), harmed).await?;
        within(tracker.shutdown(PATIENCE)).await.map_err(|error| format!("{error:?}"))?;
        drop(tracker);
        // This start ends the sessions that the crash left open.
        let tracker = harmed.tracker();
        goes_on(&tracker, &BTreeSet::from([SESSION.as_uuid()])).await?;
        for session in sessions.iter().copied().map(SessionId::from).filter(|session| *session != SESSION) {
            let deleted = tracker.delete_session(session, None).map_err(|error| format!("{error:?}"))?;
            drop(deleted);
        }
        within(tracker.flush()).await.map_err(|error| format!("not deleted: {error:?}"))?;
        within(tracker.flush_to_store()).await.map_err(|error| format!("not deleted: {error:?}"))?;
        let left = harmed.readable(Table::Sessions);
        if left == BTreeSet::from([SESSION.as_uuid()]) {
            Ok(())
        } else {
            Err(format!("after the deletion: {left:?}"))
        }
    })
}

#[test]
fn whatever_other_programs_write_into_the_file_is_read_and_harms_nothing_else() {
    hold("odd rows in the file", draws(2, 40), &every_odd(), |odd| {
        let dir = dir();
        lives_with(&File(dir.path()), &odd)
    });
}

#[test]
fn whatever_other_programs_write_into_postgresql_is_read_and_harms_nothing_else() {
    hold("odd rows in PostgreSQL", draws(2, 40), &every_odd(), |odd| {
        let dir = dir();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let database = runtime.block_on(crate::postgres::migrated());
        lives_with(&Remote { dir: dir.path(), database: &database }, &odd)
    });
}

#[tokio::test]
async fn a_word_that_breaks_a_check_of_the_file_is_no_damage_and_stays() {
    let dir = dir();
    let harmed = File(dir.path());
    let tracker = harmed.tracker();
    talk(&tracker).await;
    within(tracker.shutdown(PATIENCE)).await.expect("everything is durable");
    drop(tracker);
    let file = sqlite(dir.path());
    file.execute_batch(
        "PRAGMA ignore_check_constraints = 1;
         UPDATE conversation_sessions SET status = 'hacked' WHERE session_id = '00000000-0000-0000-0000-0000000000a1';
         UPDATE conversation_messages SET role = 'agent', kind = 'evil'
           WHERE session_id = '00000000-0000-0000-0000-0000000000a1'",
    )
    .unwrap();
    drop(file);
    let tracker = harmed.tracker();
    assert_eq!(
        talktrack::quarantines(&dir.path().join(talktrack::DATABASE_FILE)),
        Vec::<std::path::PathBuf>::new()
    );
    let reader = tracker.reader();
    let session = within(reader.session(ODD)).await.unwrap().expect("the session is there");
    assert_eq!((session.status.as_str(), session.message_count), ("hacked", 1));
    let said = within(reader.messages(ODD, None, 9)).await.unwrap();
    assert_eq!(
        (said[0].role.as_str(), said[0].kind.as_str(), said[0].content.as_str()),
        ("agent", "evil", "odd words")
    );
    assert_eq!(within(reader.audit()).await.unwrap().problems, [""; 0]);
}

#[tokio::test]
async fn keys_are_merged_into_metadata_of_the_file_that_are_no_object_as_into_an_empty_object() {
    let dir = dir();
    let tracker = File(dir.path()).tracker();
    talk(&tracker).await;
    let keys = || talktrack::JsonObject::parse(r#"{"a":1}"#).unwrap();
    // The last one is an object, but it contains a number that talktrack would not accept.
    for (odd, expected) in [
        ("'[1]'", r#"{"a":1}"#),
        ("'3'", r#"{"a":1}"#),
        ("'null'", r#"{"a":1}"#),
        ("NULL", r#"{"a":1}"#),
        (r#"'{"big":1e999999}'"#, r#"{"a":1,"big":1e999999}"#),
    ] {
        let sql = format!("UPDATE conversation_sessions SET metadata = {odd}");
        sqlite(dir.path()).execute_batch(&sql).unwrap();
        within(tracker.update_session(SESSION, keys()).unwrap()).await.expect("durable");
        let session = within(tracker.reader().session(SESSION)).await.unwrap().expect("the session is there");
        assert_eq!(session.metadata.expect("an object").as_str(), expected, "after {odd}");
    }
}
