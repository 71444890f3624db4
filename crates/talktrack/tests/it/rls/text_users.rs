//! Users whose id is not a UUID, seen with the role and the claims that PostgREST sets: they see their own rows, and no subject
//! makes a policy fail.

use talktrack::UserId;
use talktrack_testbed::Database;

use super::{ANN, ANNS, Caller, as_caller, databases, insert, seen};

const TEXTS: &str = "00000000-0000-4000-8000-0000000000c1";
const TWINS: &str = "00000000-0000-4000-8000-0000000000c2";

/// A text, and the UUID that it becomes.
fn users() -> [String; 2] {
    let text: UserId = "auth0|Ann".parse().unwrap();
    [text.to_string(), text.as_uuid().to_string()]
}

/// Writes one session of each of the two users, as the server does.
fn fill(database: &Database) {
    let [text, uuid] = users();
    for (session, own_id) in [(TEXTS, format!("'{text}'")), (TWINS, "NULL".to_owned())] {
        database.psql(&format!(
            "INSERT INTO conversation_sessions (session_id, user_id, user_external_id) VALUES ('{session}', '{uuid}', {own_id});
             INSERT INTO conversation_messages (session_id, user_id, role, content) VALUES ('{session}', '{uuid}', 'user', 'said')"
        ));
    }
}

#[tokio::test]
async fn a_text_and_the_uuid_that_it_becomes_see_the_own_rows_only() {
    for database in databases().await {
        fill(&database);
        for (user, session) in users().iter().zip([TEXTS, TWINS]) {
            assert_eq!(seen(&database, Caller::User(user)).unwrap(), format!("{session}\n{session} user"));
        }
        assert_eq!(
            seen(&database, Caller::User("auth0|ann")).unwrap(),
            "",
            "a text is compared byte for byte"
        );
    }
}

#[tokio::test]
async fn no_policy_fails_on_any_subject() {
    for database in databases().await {
        fill(&database);
        let twin = users()[1].replace('-', "");
        let upper = ANN.to_uppercase();
        let braced = format!("{{{ANN}}}");
        for (subject, shown) in [
            ("17", ""),
            ("", ""),
            ("+4917612345678", ""),
            (&twin, ""),
            (&braced, ""),
            ("00000000-0000-4000-8000-00000000000", ""),
            ("00000000-0000-4000-8000-00000000000g", ""),
            ("é'';--", ""),
            (&upper, ANNS),
        ] {
            let rows = seen(&database, Caller::User(subject)).unwrap();
            assert!(
                if shown.is_empty() { rows.is_empty() } else { rows.starts_with(shown) },
                "{subject}: {rows}"
            );
            let update =
                "UPDATE conversation_sessions SET metadata = '{\"a\":1}' WHERE user_external_id IS NOT NULL";
            as_caller(&database, Caller::User(subject), update).unwrap();
        }
        let untouched = "SELECT count(*) FROM conversation_sessions WHERE metadata <> '{}'";
        assert_eq!(database.psql(untouched), "0");
    }
}

#[tokio::test]
async fn a_text_user_adds_messages_to_own_sessions_and_starts_none() {
    for database in databases().await {
        fill(&database);
        let [text, uuid] = users();
        let caller = Caller::User(&text);
        let quoted = format!("'{uuid}'");
        as_caller(&database, caller, &insert(TEXTS, &quoted, "user")).unwrap();
        as_caller(&database, caller, &insert(TEXTS, "NULL", "system")).unwrap();
        as_caller(&database, caller, "UPDATE conversation_sessions SET metadata = '{\"a\": 1}'").unwrap();
        let changed = "SELECT session_id FROM conversation_sessions WHERE metadata ? 'a'";
        assert_eq!(database.psql(changed), TEXTS);
        for sql in [
            insert(TWINS, &quoted, "user"),
            insert(TEXTS, &format!("'{ANN}'"), "user"),
            format!(
                "INSERT INTO conversation_sessions (session_id, user_id) VALUES (gen_random_uuid(), '{uuid}')"
            ),
        ] {
            let line = as_caller(&database, caller, &sql).unwrap_err();
            assert!(line.contains("42501: new row violates row-level security policy"), "{sql}: {line}");
        }
        let with_text = format!(
            "INSERT INTO conversation_sessions (session_id, user_id, user_external_id) VALUES (gen_random_uuid(), '{uuid}', '{text}')"
        );
        let line = as_caller(&database, caller, &with_text).unwrap_err();
        assert!(line.contains("42501: permission denied for table"), "{line}");
        let call = |session: &str| {
            as_caller(
                &database,
                caller,
                &format!("SELECT insert_conversation_message('{session}', 'user', 'called')"),
            )
        };
        call(TEXTS).unwrap();
        let foreign = call(TWINS).unwrap_err().replace(TWINS, "SESSION");
        let absent = "00000000-0000-4000-8000-0000000000cf";
        assert_eq!(foreign, call(absent).unwrap_err().replace(absent, "SESSION"));
        let called = "SELECT session_id, user_id FROM conversation_messages WHERE content = 'called'";
        assert_eq!(database.psql(called), format!("{TEXTS}|{uuid}"));
    }
}
