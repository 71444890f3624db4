//! Lists, page by page, while rows arrive.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use std::time::Duration;

use talktrack::NewSession;
use talktrack::store::{
    MessageRow, PAGE_BYTES, PREVIEW_CHARS, SessionFilter, SessionPreview, SessionRow, Viewer,
};
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::json::JsonObject;
use talktrack_core::message::{Kind, Message, Role};
use talktrack_core::record::Status;

use crate::setup::Setup;
use crate::trial::Trial;

const SESSION: SessionId = SessionId::from_u128(0xa8);
const USER: UserId = UserId::from_u128(0xb8);
const OTHER_USER: UserId = UserId::from_u128(0xb9);
/// More rows than any of these checks writes.
const MANY: usize = 200;

/// Reads the session's messages in pages of `limit`. Calls `between` after each page.
async fn message_pages(
    trial: &mut Trial,
    limit: usize,
    mut between: impl AsyncFnMut(&mut Trial),
) -> Vec<MessageRow> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page =
            trial.tracker().reader().messages(SESSION, after, limit).await.expect("the store can be read");
        assert!(page.len() <= limit, "a page of {} where {limit} were asked for", page.len());
        let Some(last) = page.last() else { return rows };
        after = Some(last.cursor());
        rows.extend(page);
        assert!(rows.len() < MANY, "the pages do not come to an end: {:?}", &rows[rows.len() - limit..]);
        between(trial).await;
    }
}

pub async fn messages_page_by_page_come_once_each_while_more_arrive(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    for number in 0..25 {
        trial.wait(Duration::from_millis(number % 3));
        trial.say(SESSION, Role::User, &format!("message {number}")).await;
    }
    trial.settled().await;
    let mut arriving = 25..31;
    let rows = message_pages(&mut trial, 4, async |trial| {
        if let Some(number) = arriving.next() {
            trial.say(SESSION, Role::User, &format!("message {number}")).await;
            trial.settled().await;
        }
    });
    let rows = rows.await;
    let said: Vec<_> = rows.iter().map(|row| row.content.clone()).collect();
    assert_eq!(said, (0..31).map(|number| format!("message {number}")).collect::<Vec<_>>());
    assert_eq!(rows, trial.transcript(SESSION).await, "the pages together are the transcript");
}

pub async fn messages_of_one_moment_are_not_lost_between_pages(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    let said = |number| {
        Message::new(SESSION, Role::User, format!("message {number}"))
            .with_created_at("2026-01-01T00:00:00.000001Z".parse::<talktrack::Timestamp>().expect("a time"))
    };
    trial.track_all((0..11).map(said).collect()).await;
    trial.settled().await;
    for limit in [1, 2, 3, 11, 12] {
        let rows = message_pages(&mut trial, limit, async |_| {}).await;
        let found: Vec<_> = rows.into_iter().map(|row| row.content).collect();
        let expected: Vec<_> = (0..11).map(|number| format!("message {number}")).collect();
        assert_eq!(found, expected, "in pages of {limit}");
    }
}

/// Reads the sessions in pages of two. Calls `between` after each page.
pub async fn messages_are_read_backwards_from_the_end_or_from_any_message(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    for number in 0..11 {
        trial.wait(Duration::from_millis(number % 2));
        trial.say(SESSION, Role::User, &format!("message {number}")).await;
    }
    trial.settled().await;
    let reader = trial.tracker().reader();
    let mut backwards = trial.transcript(SESSION).await;
    backwards.reverse();
    for limit in [1, 3, 11, 12] {
        let mut found = Vec::new();
        let mut before = None;
        loop {
            let page = reader.latest_messages(SESSION, before, limit).await.expect("the store can be read");
            assert!(page.len() <= limit, "a page of {} where {limit} were asked for", page.len());
            before = page.last_before_more().map(MessageRow::cursor);
            found.extend(page);
            assert_eq!(found, backwards[..found.len()], "in pages of {limit}");
            if before.is_none() {
                break;
            }
        }
        assert_eq!(found, backwards, "in pages of {limit}");
    }
    let first = backwards.last().map(MessageRow::cursor);
    let page = reader.latest_messages(SESSION, first, 5).await.expect("the store can be read");
    assert_eq!(page, [], "nothing is before the first message");
}

async fn session_pages(
    trial: &Trial,
    filter: &SessionFilter,
    mut between: impl AsyncFnMut(),
) -> Vec<SessionRow> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = trial.tracker().reader().sessions(filter.clone(), after, 2).await;
        let page = page.expect("the store can be read");
        assert!(page.len() <= 2, "a page of {} where 2 were asked for", page.len());
        let Some(last) = page.last() else { return rows };
        after = Some(last.cursor());
        rows.extend(page);
        assert!(rows.len() < MANY, "the pages do not come to an end: {:?}", &rows[rows.len() - 2..]);
        between().await;
    }
}

/// Nine sessions, three of which started at the same moment. Their ids descend as their starts ascend.
async fn nine_sessions(trial: &Trial) -> Vec<SessionId> {
    let mut newest_first = Vec::new();
    for number in 0..9u128 {
        if !(4..6).contains(&number) {
            trial.wait(Duration::from_secs(1));
        }
        let session = SessionId::from_u128(0x900 - number);
        let user = if number % 3 == 0 { OTHER_USER } else { USER };
        trial.start(NewSession::new(session, user)).await;
        newest_first.push((trial.now(), session));
    }
    newest_first.sort_unstable_by(|one, other| other.cmp(one));
    newest_first.into_iter().map(|(_, session)| session).collect()
}

fn ids(rows: &[SessionRow]) -> Vec<SessionId> {
    rows.iter().map(|row| row.session_id).collect()
}

pub async fn sessions_page_by_page_come_newest_first_once_each_while_more_arrive(setup: Setup) {
    let trial = Trial::open(setup);
    let newest_first = nine_sessions(&trial).await;
    trial.settled().await;
    let mut number = 0xff00;
    let every = SessionFilter::default();
    let rows = session_pages(&trial, &every, async || {
        trial.wait(Duration::from_secs(1));
        number += 1;
        trial.start(NewSession::new(SessionId::from_u128(number), USER)).await;
        trial.settled().await;
    });
    let rows = rows.await;
    assert_eq!(ids(&rows), newest_first);
    let all = trial.sessions(SessionFilter::default()).await;
    assert_eq!(
        ids(&all[..1]),
        [SessionId::from_u128(number)],
        "what arrived meanwhile comes first next time"
    );
    assert_eq!(ids(&all[all.len() - 9..]), newest_first);
}

fn every() -> SessionFilter {
    SessionFilter::default()
}

pub async fn sessions_can_be_filtered_by_when_they_began(setup: Setup) {
    let trial = Trial::open(setup);
    let newest_first = nine_sessions(&trial).await;
    trial.settled().await;
    let all = trial.sessions(every()).await;
    let known = |row: &SessionRow| row.started_at.known().expect("a time");
    let since = known(&all[6]);
    let until = known(&all[2]);
    let begun = |row: &&SessionRow| row.started_at >= since.into() && row.started_at < until.into();
    let expected: Vec<_> = all.iter().filter(begun).cloned().collect();
    assert!(!expected.is_empty() && expected.len() < newest_first.len(), "{since} {until}");
    let filter = every().with_since(since).with_until(until);
    assert_eq!(session_pages(&trial, &filter, async || {}).await, expected);
    let nothing = every().with_since(until).with_until(since);
    assert_eq!(trial.sessions(nothing).await, []);
}

pub async fn sessions_can_be_filtered_by_user_and_status(setup: Setup) {
    let trial = Trial::open(setup);
    let newest_first = nine_sessions(&trial).await;
    for session in &newest_first[..4] {
        trial.end(*session, "completed").await;
    }
    trial.settled().await;
    let all = trial.sessions(SessionFilter::default()).await;
    assert_eq!(ids(&all), newest_first);
    let mut admitted = 0;
    let users = [None, Some(USER), Some(OTHER_USER)];
    let statuses = [None, Some(Status::Active), Some(Status::Ended)];
    for filter in users
        .iter()
        .flat_map(|user_id| statuses.map(|status| every().with_user_id(user_id.clone()).with_status(status)))
    {
        let wanted = |row: &&SessionRow| {
            (filter.user_id.is_none() || row.user_id == filter.user_id)
                && filter.status.is_none_or(|status| row.status == status)
        };
        let expected: Vec<_> = all.iter().filter(wanted).cloned().collect();
        assert_eq!(session_pages(&trial, &filter, async || {}).await, expected, "{filter:?}");
        admitted += expected.len();
    }
    // Each session passes four of the nine filters.
    assert_eq!(admitted, 4 * all.len());
    let nobody = every().with_user_id(UserId::from_u128(1));
    assert_eq!(trial.sessions(nobody).await, []);
    let abandoned = every().with_status(Status::Abandoned);
    assert_eq!(trial.sessions(abandoned).await, []);
}

pub async fn rows_are_found_by_their_ids(setup: Setup) {
    let mut trial = Trial::open(setup);
    let newest_first = nine_sessions(&trial).await;
    let mut said = Vec::new();
    for (number, session) in newest_first.iter().enumerate() {
        said.push(trial.say(*session, Role::User, &format!("message {number}")).await);
    }
    trial.settled().await;
    let reader = trial.tracker().reader();
    let nobody = SessionId::from_u128(1);
    let wanted = [newest_first[3], nobody, newest_first[0]];
    let mut sessions = reader.sessions_by_id(&wanted).await.expect("the store can be read");
    sessions.sort_by_key(|row| row.started_at.clone());
    assert_eq!(sessions, [trial.session(wanted[0]).await, trial.session(wanted[2]).await]);
    let messages = reader
        .messages_by_id(&[said[3], MessageId::from_u128(1), said[0]])
        .await
        .expect("the store can be read");
    assert!(!messages.more, "small rows fit on a page");
    let mut messages = messages.rows;
    messages.sort_by_key(|row| row.seq);
    let transcripts = [trial.transcript(newest_first[0]).await, trial.transcript(newest_first[3]).await];
    assert_eq!(messages, transcripts.concat());
    assert_eq!(reader.messages_by_id(&[]).await.expect("the store can be read"), []);
}

/// 24 messages of 900 KB, which compress to almost nothing.
pub(super) async fn large_messages(trial: &mut Trial) -> Vec<MessageId> {
    trial.start(NewSession::new(SESSION, USER)).await;
    let mut ids = Vec::new();
    for number in 0..24 {
        let metadata = JsonObject::parse(&format!("{{\"note\":\"{}\"}}", "x".repeat(200_000)));
        let content = format!("large {number} {}", "y".repeat(700_000));
        let message = Message::new(SESSION, Role::User, content).with_metadata(metadata.ok());
        ids.push(trial.track(message).await.expect("taken"));
    }
    trial.settled().await;
    ids
}

pub async fn pages_of_large_rows_end_early_and_nothing_is_left_out(setup: Setup) {
    let mut trial = Trial::open(setup);
    let ids = large_messages(&mut trial).await;
    let reader = trial.tracker().reader();
    let mut told = Vec::new();
    let mut after = None;
    loop {
        let page = reader.messages(SESSION, after, MANY).await.expect("the store can be read");
        assert!(page.text_bytes() < PAGE_BYTES + (1 << 20), "{} bytes on a page", page.text_bytes());
        told.extend(page.iter().map(|row| row.id));
        after = page.last_before_more().map(MessageRow::cursor);
        assert_eq!(after.is_none(), told.len() == ids.len(), "after {} of {}", told.len(), ids.len());
        if after.is_none() {
            break;
        }
    }
    assert_eq!(told, ids);
    let nobody = [MessageId::from_u128(1)];
    let mut told = Vec::new();
    let mut missing = [&nobody, &*ids].concat();
    while !missing.is_empty() {
        let page = reader.messages_by_id(&missing).await.expect("the store can be read");
        assert!(page.text_bytes() < PAGE_BYTES + (1 << 20), "{} bytes on a page", page.text_bytes());
        let last = page.last_before_more().and_then(|last| missing.iter().position(|id| *id == last.id));
        told.extend(page.into_iter().map(|row| row.id));
        missing.drain(..last.map_or(missing.len(), |last| last + 1));
    }
    assert_eq!(told, ids);
}

pub async fn sessions_at_a_glance_show_the_last_words_and_how_often_somebody_was_interrupted(setup: Setup) {
    const SILENT: SessionId = SessionId::from_u128(0xa9);
    const OTHERS: SessionId = SessionId::from_u128(0xaa);
    let mut trial = Trial::open(setup);
    for (session, user) in [(SESSION, USER), (SILENT, USER), (OTHERS, OTHER_USER)] {
        trial.start(NewSession::new(session, user)).await;
    }
    trial.say(SESSION, Role::User, "Where is it?").await;
    let cut_short = Message::new(SESSION, Role::Assistant, "It left our").with_interrupted(true);
    trial.track(cut_short).await.expect("taken");
    let long = "\u{e4}\u{1f50a}".repeat(PREVIEW_CHARS);
    trial.say(SESSION, Role::User, &long).await;
    let call = Message::new(SESSION, Role::Assistant, "look it up").with_kind(Kind::ToolCall);
    trial.track(call).await.expect("taken");
    trial.say(SESSION, Role::System, "be brief").await;
    trial.say(OTHERS, Role::Assistant, "Good morning").await;
    trial.settled().await;

    let preview = |session_id, last_role: Role, last_words: String, interruptions| SessionPreview {
        session_id,
        last_role: last_role.into(),
        last_words,
        interruptions,
    };
    let first: String = long.chars().take(PREVIEW_CHARS).collect();
    let own = preview(SESSION, Role::User, first, 1);
    let others = preview(OTHERS, Role::Assistant, "Good morning".into(), 0);
    let ids = [OTHERS, SILENT, SESSION, SessionId::from_u128(0xab)];
    let reader = trial.tracker().reader();
    let mut seen = reader.session_previews(&ids).await.expect("the store can be read");
    seen.sort_by_key(|preview| preview.session_id);
    assert_eq!(seen, [own.clone(), others]);
    let viewer = Viewer::new(USER, JsonObject::default());
    assert_eq!(reader.as_user(viewer).session_previews(&ids).await.expect("the store can be read"), [own]);
}
