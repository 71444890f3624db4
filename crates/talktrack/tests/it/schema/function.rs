//! `insert_conversation_message`, called as PostgREST does: with named arguments, and as the caller's role.

use talktrack_testbed::{Database, Postgres, like_supabase};

use super::migrate;
use crate::rls::{ANN, ANNS, BEN, BENS, Caller, as_caller};

async fn project() -> Database {
    let database = Postgres::shared().database();
    like_supabase(&database);
    migrate(&database).await;
    crate::rls::fill(&database);
    database
}

/// Makes the call that PostgREST makes for `supabase.rpc('insert_conversation_message', {…})`.
fn call(database: &Database, caller: Caller, arguments: &str) -> Result<String, String> {
    let arguments = format!("'{}'::json", arguments.replace('\'', "''"));
    as_caller(
        database,
        caller,
        &format!(
            "WITH arguments AS (SELECT * FROM json_to_record({arguments}) AS
               a (p_session_id uuid, p_role text, p_content text, p_audio_url text, p_metadata jsonb, p_user_id uuid))
             SELECT insert_conversation_message(p_session_id => p_session_id, p_role => p_role, p_content => p_content,
               p_audio_url => p_audio_url, p_metadata => p_metadata, p_user_id => p_user_id) FROM arguments"
        ),
    )
}

fn refusal(database: &Database, caller: Caller, arguments: &str) -> String {
    call(database, caller, arguments).unwrap_err()
}

fn message(session: &str, role: &str, content: &str) -> String {
    format!(r#"{{"p_session_id":"{session}","p_role":"{role}","p_content":"{content}"}}"#)
}

#[tokio::test]
async fn a_message_is_written_for_the_sessions_user_and_counted() {
    let database = project().await;
    let count = || {
        database.psql(&format!(
            "SELECT message_count, last_event_at IS NOT NULL FROM conversation_sessions WHERE session_id = '{ANNS}'"
        ))
    };
    assert_eq!(count(), "0|f");
    let id = call(&database, Caller::User(ANN), &message(ANNS, "user", "it's me")).unwrap();
    let row = |id: &str| {
        database.psql(&format!(
            "SELECT session_id, user_id, role, content, audio_url, metadata, seq, kind, revision
             FROM conversation_messages WHERE id = '{id}'"
        ))
    };
    assert_eq!(row(&id), format!("{ANNS}|{ANN}|user|it's me||||message|0"));
    assert_eq!(count(), "1|t");
    let full = format!(
        r#"{{"p_session_id":"{ANNS}","p_role":"assistant","p_content":"","p_audio_url":"https://x/y.ogg",
            "p_metadata":{{"a":1}},"p_user_id":"{ANN}"}}"#
    );
    let id = call(&database, Caller::Service, &full).unwrap();
    assert_eq!(row(&id), format!(r#"{ANNS}|{ANN}|assistant||https://x/y.ogg|{{"a": 1}}||message|0"#));
    let id = call(&database, Caller::User(ANN), &message(ANNS, "system", "be kind")).unwrap();
    assert_eq!(row(&id), format!("{ANNS}||system|be kind||||message|0"), "system messages belong to nobody");
    assert_eq!(count(), "3|t");
}

#[tokio::test]
async fn three_arguments_are_enough_and_their_order_does_not_matter() {
    let database = project().await;
    let sql = format!(
        "SELECT insert_conversation_message(p_content => 'hi', p_session_id => '{ANNS}', p_role => 'tool') IS NOT NULL"
    );
    assert_eq!(as_caller(&database, Caller::User(ANN), &sql).unwrap(), "t");
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_with_the_reason_and_leaves_no_trace() {
    let database = project().await;
    let unknown = "00000000-0000-4000-8000-00000000ffff";
    let other = format!(r#"{{"p_session_id":"{ANNS}","p_role":"user","p_content":"x","p_user_id":"{BEN}"}}"#);
    for (arguments, code, reason) in [
        (message(unknown, "user", "x"), "23503", format!("unknown session {unknown}")),
        (
            format!(r#"{{"p_session_id":"{ANNS}","p_role":"user"}}"#),
            "22004",
            "p_content must not be null".into(),
        ),
        (r#"{"p_role":"user","p_content":"x"}"#.into(), "22004", "p_session_id must not be null".into()),
        (
            message(ANNS, "robot'", "x"),
            "22023",
            "p_role must be one of user assistant system developer tool, not 'robot'''".into(),
        ),
        (
            format!(r#"{{"p_session_id":"{ANNS}","p_content":"x"}}"#),
            "22023",
            "p_role must be one of user assistant system developer tool, not null".into(),
        ),
        (other, "42501", format!("session {ANNS} belongs to another user than p_user_id")),
    ] {
        for caller in [Caller::User(ANN), Caller::Service] {
            let line = refusal(&database, caller, &arguments);
            assert!(line.contains(&format!("{code}: {reason}")), "{arguments}: {line}");
        }
    }
    let traces =
        "SELECT count(*), sum(message_count) FROM conversation_sessions LEFT JOIN conversation_messages m
                  USING (session_id) WHERE m.content = 'x'";
    assert_eq!(database.psql(traces), "0|");
}

#[tokio::test]
async fn a_user_reaches_the_own_sessions_only_and_learns_of_no_other() {
    let database = project().await;
    let line = refusal(&database, Caller::User(ANN), &message(BENS, "user", "x"));
    assert!(
        line.contains(&format!("unknown session {BENS}")),
        "not even whether it is there is told: {line}"
    );
    let line = refusal(&database, Caller::Anon, &message(ANNS, "user", "x"));
    assert!(line.contains("42501: permission denied for function"), "{line}");
    call(&database, Caller::Service, &message(BENS, "user", "x")).unwrap();
    // Objects with the same names in a schema of the caller must not be used.
    database.psql(
        "CREATE SCHEMA decoy; GRANT USAGE ON SCHEMA decoy TO authenticated; CREATE TABLE decoy.conversation_messages (x int);
         CREATE FUNCTION decoy.now() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE ''decoy''; END';"
    );
    let sql = format!(
        "SET search_path = decoy, pg_catalog;
         SELECT public.insert_conversation_message(p_session_id => '{ANNS}', p_role => 'user', p_content => 'x') IS NOT NULL"
    );
    assert_eq!(as_caller(&database, Caller::User(ANN), &sql).unwrap(), "t");
}

/// Calls the function with these claims as a role of this database, either after `SET ROLE` or as the session's user.
fn call_as(
    database: &Database,
    user: &str,
    role: Option<&str>,
    claims: &str,
    session: &str,
) -> Result<String, String> {
    let set = role.map(|role| format!("SET ROLE {role};\n")).unwrap_or_default();
    let user = match user {
        "" => String::new(),
        user => format!("SET SESSION AUTHORIZATION {user};\n"),
    };
    database.try_psql(&format!(
        "\\set VERBOSITY verbose\n{user}{set}\\o /dev/null\nSELECT set_config('request.jwt.claims', '{claims}', false);\n\\o\n
         SELECT public.insert_conversation_message('{session}', 'user', 'x') IS NOT NULL"
    ))
}

#[tokio::test]
async fn the_owner_superusers_and_the_service_write_to_any_session_without_a_token_and_nobody_else() {
    let database = project().await;
    let name = database.name();
    let [owner, bypassing, serving, other] =
        ["owner", "bypassing", "serving", "other"].map(|role| format!("{role}_{name}"));
    database.psql(&format!(
        "CREATE ROLE {owner}; CREATE ROLE {bypassing} BYPASSRLS; CREATE ROLE {serving}; CREATE ROLE {other};
         GRANT service_role TO {serving};
         GRANT EXECUTE ON FUNCTION insert_conversation_message TO {owner}, {bypassing}, {serving}, {other};
         GRANT USAGE ON SCHEMA auth, public TO {owner}, {bypassing}, {serving}, {other};
         ALTER TABLE conversation_sessions OWNER TO {owner}"
    ));
    let bens = format!(r#"{{"sub":"{BEN}"}}"#);
    for (user, role, claims) in [
        ("", None, ""),
        ("", Some(&*owner), ""),
        ("", Some("service_role"), ""),
        ("", Some("service_role"), &*bens),
        (&owner, None, ""),
        (&bypassing, None, ""),
        (&serving, None, ""),
        ("authenticator", Some("service_role"), ""),
        ("authenticator", Some("authenticated"), &format!(r#"{{"sub":"{ANN}"}}"#)),
        (&other, None, &format!(r#"{{"sub":"{ANN}"}}"#)),
    ] {
        let answer = call_as(&database, user, role, claims, ANNS);
        assert_eq!(answer, Ok("t".to_owned()), "{user} as {role:?} with {claims:?}");
    }
    for (user, role, claims) in [
        // The rights of the session's user or of the function's owner must not count.
        ("", Some("authenticated"), ""),
        ("", Some("authenticated"), "{}"),
        ("", Some("authenticated"), &*bens),
        ("", Some("authenticated"), r#"{"sub":"ann@example.org","role":"service_role"}"#),
        ("authenticator", Some("authenticated"), &*bens),
        (&other, None, ""),
        (&other, None, &*bens),
    ] {
        let line = call_as(&database, user, role, claims, ANNS).unwrap_err();
        assert!(line.contains(&format!("23503: unknown session {ANNS}")), "{user} as {role:?}: {line}");
    }
    database.psql(&format!(
        "ALTER TABLE conversation_sessions OWNER TO talktrack;
         DROP OWNED BY {owner}, {bypassing}, {serving}, {other}; DROP ROLE {owner}, {bypassing}, {serving}, {other}"
    ));
}

#[tokio::test]
async fn another_users_session_and_none_give_the_same_answer_whatever_else_is_said() {
    let database = project().await;
    let unknown = "00000000-0000-4000-8000-00000000ffff";
    for extra in ["", &format!(r#","p_user_id":"{ANN}""#), &format!(r#","p_user_id":"{BEN}""#)] {
        let answer = |session: &str| {
            let arguments =
                format!(r#"{{"p_session_id":"{session}","p_role":"user","p_content":"x"{extra}}}"#);
            refusal(&database, Caller::User(ANN), &arguments).replace(session, "SESSION")
        };
        assert_eq!(answer(BENS), answer(unknown), "{extra}");
    }
}

#[tokio::test]
async fn an_own_function_of_the_name_that_returns_something_else_is_replaced() {
    let database = Postgres::shared().database();
    like_supabase(&database);
    database.psql(
        "CREATE FUNCTION insert_conversation_message(p_session_id uuid, p_role text, p_content text,
           p_audio_url text DEFAULT NULL, p_metadata jsonb DEFAULT '{}', p_user_id uuid DEFAULT NULL)
         RETURNS TABLE (id uuid, created_at timestamptz) LANGUAGE sql AS 'SELECT p_session_id, now()'",
    );
    migrate(&database).await;
    crate::rls::fill(&database);
    call(&database, Caller::User(ANN), &message(ANNS, "user", "x")).unwrap();
}
