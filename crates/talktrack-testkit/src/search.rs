//! Full-text search. The index is updated in the background, so every check waits for what it expects.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use std::time::{Duration, Instant};

use talktrack::NewSession;
use talktrack::store::{Rows, SessionFilter, Viewer};
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::json::JsonObject;
use talktrack_core::message::{Message, MessageStatus, Role};
use talktrack_core::search::{Hit, SearchCursor, SearchFilter};

use crate::paging::large_messages;
use crate::setup::{PATIENCE, Setup};
use crate::trial::Trial;

const SESSION: SessionId = SessionId::from_u128(0xac);
const USER: UserId = UserId::from_u128(0xbc);
const OTHER_SESSION: SessionId = SessionId::from_u128(0xad);
const OTHER_USER: UserId = UserId::from_u128(0xbd);
const MANY: usize = 100;

fn wanted(query: &str) -> SearchFilter {
    SearchFilter::new(query.parse().expect("a query"))
}

/// Returns the snippet of each hit, with the matches in brackets.
fn shown(hits: &[Hit]) -> Vec<String> {
    let mark = |(text, hit): (&str, bool)| if hit { format!("[{text}]") } else { text.to_owned() };
    let snippet = |hit: &Hit| hit.snippet.iter().map(|piece| mark((&piece.text, piece.hit))).collect();
    hits.iter().map(snippet).collect()
}

async fn search(
    rows: &dyn Rows,
    wanted: &SearchFilter,
    after: Option<SearchCursor>,
    limit: usize,
) -> Vec<Hit> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match rows.search(wanted.clone(), after, limit).await {
            Ok(hits) => return hits.rows,
            // The index is being built.
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until this number of messages is found, and returns their snippets.
pub(super) async fn found(trial: &Trial, query: &str, count: usize) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    let wanted = wanted(query);
    loop {
        let hits = search(&*trial.tracker().reader(), &wanted, None, MANY).await;
        if hits.len() == count {
            return shown(&hits);
        }
        assert!(Instant::now() < deadline, "{query} finds {:?}, not {count}", shown(&hits));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn two_users_talk(setup: Setup) -> Trial {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    trial.start(NewSession::new(OTHER_SESSION, OTHER_USER)).await;
    for (session, role, text) in [
        (SESSION, Role::System, "Be kind about every order."),
        (SESSION, Role::User, "Please change my order, <b>Zoë</b> said."),
        (OTHER_SESSION, Role::User, "Cancel the order!"),
        (SESSION, Role::Assistant, "私は東京都に住んでいます"),
    ] {
        trial.say(session, role, text).await;
    }
    trial.settled().await;
    trial
}

pub async fn what_was_said_is_found_by_its_words_newest_first(setup: Setup) {
    let trial = two_users_talk(setup).await;
    let all =
        ["Cancel the [order]!", "Please change my [order], <b>Zoë</b> said.", "Be kind about every [order]."];
    assert_eq!(found(&trial, "ORDER", 3).await, all);
    assert_eq!(found(&trial, "order zoe", 1).await, ["Please change my [order], <b>[Zoë]</b> said."]);
    assert_eq!(found(&trial, "\"change my\"", 1).await, ["Please [change my] order, <b>Zoë</b> said."]);
    assert_eq!(found(&trial, "canc*", 1).await, ["[Cancel] the order!"]);
    assert_eq!(found(&trial, "東京都", 1).await, ["私は[東京都]に住んでいます"]);
    assert_eq!(found(&trial, "京", 1).await, ["私は東[京都]に住んでいます"]);
    for missed in ["orders", "ord", "order refund", "\"my change\"", "京東"] {
        assert_eq!(found(&trial, missed, 0).await, [""; 0], "{missed}");
    }
    let hits = search(&*trial.tracker().reader(), &wanted("zoe"), None, MANY).await;
    let row = trial.transcript(SESSION).await.remove(1);
    let hit = hits.first().expect("a hit");
    assert_eq!((hit.message_id, hit.session_id, hit.user_id.clone()), (row.id, SESSION, USER));
    assert_eq!((&hit.role, &hit.kind, &hit.created_at), (&row.role, &row.kind, &row.created_at));
}

pub async fn a_user_finds_what_was_said_in_own_sessions_only(setup: Setup) {
    let trial = two_users_talk(setup).await;
    found(&trial, "order", 3).await;
    let reader = trial.tracker().reader();
    let claims = JsonObject::parse("{}").expect("an object");
    let mine = reader.as_user(Viewer::new(USER, claims));
    let ids = |hits: Vec<Hit>| {
        hits.iter().map(|hit| (hit.session_id, hit.role.known().copied())).collect::<Vec<_>>()
    };
    let own = [(SESSION, Some(Role::User)), (SESSION, Some(Role::System))];
    assert_eq!(ids(search(&*mine, &wanted("order"), None, MANY).await), own);
    let of = |user_id, session_id| wanted("order").with_user_id(user_id).with_session_id(session_id);
    for (filter, seen) in [
        (of(Some(USER), None), &own[..]),
        (of(None, Some(SESSION)), &own[..]),
        (of(Some(USER), Some(SESSION)), &own[..]),
        (of(Some(OTHER_USER), Some(SESSION)), &[]),
    ] {
        assert_eq!(ids(search(&*reader, &filter, None, MANY).await), seen, "{filter:?}");
        assert_eq!(ids(search(&*mine, &filter, None, MANY).await), seen, "{filter:?} as a user");
    }
    for filter in [of(Some(OTHER_USER), None), of(None, Some(OTHER_SESSION))] {
        assert_eq!(search(&*reader, &filter, None, MANY).await.len(), 1);
        assert_eq!(search(&*mine, &filter, None, MANY).await, [], "{filter:?} as a user");
    }
}

pub async fn hits_page_by_page_come_newest_first_once_each(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    for number in 0..23 {
        trial.say(SESSION, Role::User, &format!("number {number}")).await;
    }
    trial.settled().await;
    found(&trial, "number", 23).await;
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = search(&*trial.tracker().reader(), &wanted("number"), after, 5).await;
        assert!(page.len() <= 5, "a page of {}", page.len());
        let Some(last) = page.last() else { break };
        after = Some(last.cursor());
        all.extend(shown(&page));
        trial.say(SESSION, Role::User, "number of one who comes late").await;
    }
    assert_eq!(all, (0..23).rev().map(|number| format!("[number] {number}")).collect::<Vec<_>>());
}

pub async fn a_revised_message_is_found_by_its_new_words_only(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    let id = trial.say(SESSION, Role::User, "the first draft").await;
    trial.settled().await;
    found(&trial, "draft", 1).await;
    let revised = Message::new(SESSION, Role::User, "the second version").with_id(id).with_revision(1);
    trial.track(revised).await.expect("the revision becomes durable");
    trial.settled().await;
    assert_eq!(found(&trial, "version", 1).await, ["the second [version]"]);
    assert_eq!(found(&trial, "draft", 0).await, [""; 0]);
}

pub async fn only_final_messages_are_found(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    let id = MessageId::from_u128(0xd7);
    let part = |content: &str, revision, status| {
        Message::new(SESSION, Role::User, content).with_id(id).with_revision(revision).with_status(status)
    };
    trial.track(part("the harbour", 0, MessageStatus::InProgress)).await.expect("durable");
    trial.say(SESSION, Role::User, "a lighthouse").await;
    trial.settled().await;
    found(&trial, "lighthouse", 1).await;
    assert_eq!(found(&trial, "harbour", 0).await, [""; 0]);
    trial.end(SESSION, "hangup").await;
    assert_eq!(found(&trial, "harbour", 1).await, ["the [harbour]"]);
    trial.track(part("the harbour", 1, MessageStatus::Discarded)).await.expect("durable");
    trial.settled().await;
    assert_eq!(found(&trial, "harbour", 0).await, [""; 0]);
}

pub async fn what_was_said_before_a_restart_is_found(setup: Setup) {
    let trial = two_users_talk(setup).await;
    let mut trial = trial.restart().await;
    trial.say(SESSION, Role::User, "One more order.").await;
    trial.settled().await;
    assert_eq!(found(&trial, "order", 4).await[0], "One more [order].");
}

pub async fn sessions_can_be_filtered_by_what_was_said_in_them(setup: Setup) {
    let trial = two_users_talk(setup).await;
    found(&trial, "order", 3).await;
    let sessions = async |query: &str, user_id| {
        let matching = Some(query.parse().expect("a query"));
        let rows =
            trial.sessions(SessionFilter::default().with_matching(matching).with_user_id(user_id)).await;
        let mut ids: Vec<_> = rows.into_iter().map(|row| row.session_id).collect();
        ids.sort();
        ids
    };
    assert_eq!(sessions("order", None).await, [SESSION, OTHER_SESSION]);
    assert_eq!(sessions("zoe order", None).await, [SESSION]);
    assert_eq!(sessions("order", Some(OTHER_USER)).await, [OTHER_SESSION]);
    assert_eq!(sessions("zoe cancel", None).await.len(), 0, "not in one message");
    let claims = JsonObject::parse("{}").expect("an object");
    let mine = trial.tracker().reader().as_user(Viewer::new(USER, claims));
    let filter = SessionFilter::default().with_matching(wanted("order").query);
    let rows = mine.sessions(filter, None, MANY).await.expect("the store can be read");
    assert_eq!(rows.into_iter().map(|row| row.session_id).collect::<Vec<_>>(), [SESSION]);
}

pub async fn a_page_of_hits_in_large_messages_ends_early_and_goes_on(setup: Setup) {
    let mut trial = Trial::open(setup);
    let ids = large_messages(&mut trial).await;
    found(&trial, &format!("\"large {}\"", ids.len() - 1), 1).await;
    let mut told = Vec::new();
    let mut after = None;
    let mut pages = 0;
    loop {
        let page = trial.tracker().reader().search(wanted("large"), after, MANY).await;
        let page = page.expect("the index is there");
        told.extend(page.iter().map(|hit| hit.message_id));
        after = page.last_before_more().map(Hit::cursor);
        pages += 1;
        if after.is_none() {
            break;
        }
    }
    told.reverse();
    assert_eq!(told, ids);
    assert!(pages <= 2, "{pages} pages of hits that are small");
}

/// Texts in many scripts, each with queries in other spellings that find it and no other text.
const SPELLINGS: [(&str, &[&str]); 16] = [
    ("Jedziemy do Łodzi", &["lodzi", "ŁODZI", "łodz*"]),
    ("rødgrød med fløde", &["rodgrod", "flode", "RØDGRØD"]),
    ("un hors-d’œuvre", &["oeuvre", "ŒUVRE"]),
    ("Işık Diyarbakır’da", &["isik", "IŞIK", "diyarbakir", "DİYARBAKIR"]),
    ("Kein Straßen\u{ad}bahn\u{ad}anschluss", &["Straßenbahnanschluss", "strassen\u{ad}bahnanschluss"]),
    ("ΟΔΟΣ Αθηνάς", &["οδός", "αθηνασ"]),
    ("این کتاب را می\u{200c}خواهم", &["كتاب", "ميخواهم", "کِتاب"]),
    ("ذهب علي إلى المدرسة", &["على", "المدرسه", "الى"]),
    ("कमरा १०२ खाली है", &["102", "कमरा", "१०२"]),
    ("غرفة رقم ٣٤٥٦", &["3456", "۳۴۵۶"]),
    ("ห้อง๗๘๙ครับ", &["789", "ห้อง"]),
    ("ｶﾞｲﾄﾞさん", &["ガイド", "さん"]),
    ("well done 👍🏽🎉", &["👍", "👍🏿 🎉", "👍🎉*"]),
    ("the 👩🏽\u{200d}🔬 from 🇳🇱", &["👩\u{200d}🔬", "🔬", "🇳🇱"]),
    (
        "Call +49 (170) 123-45.67 today",
        &["01701234567", "0049 170 1234567 today", "\"0170/1234567\"", "+491701234567"],
    ),
    ("or ٠٨٩ ٩٩٨٨٧٧٦ tomorrow", &["089/9988776", "+49 (0)89 998 87 76", "\u{ad}9988776"]),
];

pub async fn one_spelling_finds_the_others(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    trial.start(NewSession::new(OTHER_SESSION, OTHER_USER)).await;
    for (text, _) in SPELLINGS {
        trial.say(SESSION, Role::User, text).await;
    }
    trial.say(OTHER_SESSION, Role::User, "170 1234 and 5678").await;
    trial.settled().await;
    found(&trial, "tomorrow", 1).await;
    let claims = JsonObject::parse("{}").expect("an object");
    let mine = trial.tracker().reader().as_user(Viewer::new(USER, claims));
    for (text, queries) in SPELLINGS {
        for query in queries {
            let whole = |snippet: &[talktrack_core::search::Piece]| {
                snippet.iter().map(|piece| piece.text.as_str()).collect::<String>()
            };
            for rows in [&*trial.tracker().reader(), &*mine] {
                let hits = search(rows, &wanted(query), None, MANY).await;
                let texts: Vec<_> = hits.iter().map(|hit| whole(&hit.snippet)).collect();
                assert_eq!(texts, [text], "{query}");
                assert!(hits[0].snippet.iter().any(|piece| piece.hit), "{query}");
            }
            let matching = Some(query.parse().expect("a query"));
            let sessions = trial.sessions(SessionFilter::default().with_matching(matching)).await;
            let sessions: Vec<_> = sessions.into_iter().map(|row| row.session_id).collect();
            assert_eq!(sessions, [SESSION], "{query}");
        }
    }
}

pub async fn every_query_has_an_answer(setup: Setup) {
    let trial = two_users_talk(setup).await;
    found(&trial, "order", 3).await;
    let long = "a1 ".repeat(talktrack_core::search::MAX_QUERY_CHARS / 3);
    for query in [
        "order OR",
        "NOT order",
        "order AND",
        "NEAR(order kind)",
        "words:order",
        "{words} : order",
        "-order",
        "^order",
        "ord'er",
        "order\\",
        "(order",
        "order)",
        "\"order",
        "'order'",
        "order:*",
        "order & | ! <->",
        "order;--",
        "*order*",
        "a*b*",
        "%order_",
        "\"\" order",
        "x\0y",
        "\u{e000}order",
        "e\u{301} \u{301}x",
        "ﷺ",
        "½ x² ①",
        "๑ ก",
        "İ ß ς",
        "🎉 order",
        "🎉*",
        "+49 (170) 123-45.67*",
        "((1234567))",
        "\"1234567 12345678901234567890123456789\" 0 0000000",
        &long,
    ] {
        let rows = trial.tracker().reader();
        let hits = rows.search(wanted(query), None, MANY).await;
        hits.unwrap_or_else(|error| panic!("{query:?}: {error}"));
    }
}
