//! Drift of rights: policies, grants and functions.

use super::drift::{MESSAGES, SESSIONS, after, assert_left_over, assert_mended};
use super::{migrate, problems};

#[tokio::test]
async fn policies_that_drifted_are_named_and_mended() {
    for (drift, problem) in [
        (
            "ALTER TABLE conversation_messages DISABLE ROW LEVEL SECURITY",
            "Row-level security of 'conversation_messages' is switched off",
        ),
        (
            "DROP POLICY talktrack_own_messages ON conversation_messages",
            "Could not find the policy 'talktrack_own_messages' of 'conversation_messages'",
        ),
        (
            "ALTER POLICY talktrack_own_sessions ON conversation_sessions USING (true)",
            "The policy 'talktrack_own_sessions' of 'conversation_sessions' differs from the schema",
        ),
        (
            "DROP POLICY talktrack_own_sessions ON conversation_sessions;
             CREATE POLICY talktrack_own_sessions ON conversation_sessions TO authenticated USING (user_id =
               (SELECT CASE WHEN auth.jwt() ->> 'sub' ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN (auth.jwt() ->> 'sub')::uuid END))",
            "The policy 'talktrack_own_sessions' of 'conversation_sessions' differs from the schema",
        ),
        (
            "DROP POLICY talktrack_chosen_session_ids ON conversation_sessions;
             CREATE POLICY talktrack_chosen_session_ids ON conversation_sessions FOR INSERT TO authenticated
               WITH CHECK (substr(session_id::text, 15, 1) <> '5')",
            "The policy 'talktrack_chosen_session_ids' of 'conversation_sessions' differs from the schema",
        ),
        (
            "ALTER POLICY talktrack_messages_of_session ON conversation_messages WITH CHECK (user_id IS NOT NULL)",
            "The policy 'talktrack_messages_of_session' of 'conversation_messages' differs from the schema",
        ),
        (
            "CREATE POLICY talktrack_own_search ON conversation_search TO authenticated USING (user_id = auth.uid())",
            "The policy 'talktrack_own_search' of 'conversation_search' is no longer part of the schema",
        ),
        (
            "CREATE POLICY talktrack_delete_sessions ON conversation_sessions FOR DELETE TO authenticated USING (false)",
            "The policy 'talktrack_delete_sessions' of 'conversation_sessions' gives users more than 'write'",
        ),
        (
            "ALTER POLICY talktrack_service_sessions ON conversation_sessions TO public",
            "The policy 'talktrack_service_sessions' of 'conversation_sessions' differs from the schema",
        ),
    ] {
        assert_mended(drift, problem).await;
    }
}

#[tokio::test]
async fn grants_that_drifted_are_named_and_mended() {
    for (drift, problem) in [
        (
            "GRANT SELECT (content) ON conversation_messages TO anon",
            "The role 'anon' may SELECT 'conversation_messages', and must not",
        ),
        (
            "GRANT TRUNCATE ON conversation_sessions TO authenticated",
            "The role 'authenticated' may TRUNCATE 'conversation_sessions', and must not",
        ),
        (
            "GRANT SELECT ON conversation_search TO authenticated",
            "The role 'authenticated' may SELECT 'conversation_search', and must not",
        ),
        (
            "GRANT UPDATE (content, revision) ON conversation_messages TO authenticated",
            "The role 'authenticated' may UPDATE (content, revision) 'conversation_messages', and must not",
        ),
        (
            "GRANT INSERT ON conversation_sessions TO PUBLIC",
            "The role 'authenticated' may INSERT 'conversation_sessions', and must not; The role 'anon' may INSERT \
             'conversation_sessions', and must not",
        ),
        (
            "REVOKE UPDATE (metadata) ON conversation_sessions FROM authenticated;
             GRANT UPDATE (status) ON conversation_sessions TO authenticated",
            "The role 'authenticated' may UPDATE (status) 'conversation_sessions', and must not; The role 'authenticated' may \
             not UPDATE (metadata) 'conversation_sessions'",
        ),
        (
            "REVOKE SELECT ON conversation_messages FROM authenticated; GRANT SELECT (content) ON conversation_messages TO authenticated",
            "The role 'authenticated' may not SELECT 'conversation_messages'",
        ),
        (
            "GRANT DELETE ON conversation_messages TO authenticated",
            "The role 'authenticated' may DELETE 'conversation_messages', and must not",
        ),
        (
            "REVOKE INSERT ON conversation_messages FROM service_role; GRANT INSERT (content) ON conversation_messages TO service_role",
            "The role 'service_role' may not INSERT 'conversation_messages'",
        ),
    ] {
        assert_mended(drift, problem).await;
    }
}

#[tokio::test]
async fn functions_that_drifted_are_named_and_mended() {
    for (drift, problem) in [
        (
            "GRANT EXECUTE ON FUNCTION insert_conversation_message TO PUBLIC",
            "The role 'anon' may call 'insert_conversation_message', and must not",
        ),
        (
            "REVOKE EXECUTE ON FUNCTION insert_conversation_message FROM authenticated",
            "The role 'authenticated' may not call 'insert_conversation_message'",
        ),
        (
            "DROP FUNCTION insert_conversation_message",
            "Could not find the function 'insert_conversation_message'",
        ),
        (
            "ALTER FUNCTION insert_conversation_message SECURITY INVOKER",
            "The function 'insert_conversation_message' differs from the schema",
        ),
        (
            "DROP FUNCTION insert_conversation_message;
             CREATE FUNCTION insert_conversation_message(a uuid, b text, c text, d text, e jsonb, f uuid) RETURNS void
               LANGUAGE sql AS ''",
            "The function 'insert_conversation_message' differs from the schema",
        ),
        ("DROP FUNCTION auth.uid()", "Could not find the function 'auth.uid()'"),
        (
            "DROP FUNCTION auth.jwt() CASCADE; DROP FUNCTION auth.uid(); DROP SCHEMA auth",
            "Could not find the function 'auth.uid()'",
        ),
    ] {
        if drift.contains("CASCADE") {
            // The policies that use it are dropped too, and only a migration restores all of them together.
            let (database, found) = after(drift).await;
            assert_eq!(found[0].0, problem);
            migrate(&database).await;
        } else {
            assert_mended(drift, problem).await;
        }
    }
}

#[tokio::test]
async fn a_policy_of_the_users_own_that_opens_all_rows_is_named_and_left_to_them() {
    for (policy, table) in [
        ("CREATE POLICY \"read all\" ON conversation_messages FOR SELECT USING (true)", MESSAGES),
        ("CREATE POLICY \"read all\" ON conversation_sessions TO authenticated USING (true)", SESSIONS),
        (
            "CREATE POLICY \"read all\" ON conversation_messages FOR INSERT TO anon WITH CHECK (true)",
            MESSAGES,
        ),
        ("CREATE POLICY \"read all\" ON conversation_messages USING (auth.uid() IS NOT NULL)", MESSAGES),
        (
            "CREATE POLICY \"read all\" ON conversation_sessions FOR SELECT USING (auth.jwt() ->> 'role' = 'authenticated')",
            SESSIONS,
        ),
        (
            "CREATE POLICY \"read all\" ON conversation_messages USING (user_id = auth.uid()) WITH CHECK (user_id IS NOT NULL)",
            MESSAGES,
        ),
        (
            "CREATE POLICY \"read all\" ON conversation_messages USING (EXISTS (SELECT FROM conversation_store
               WHERE conversation_messages.user_id <> auth.uid()))",
            MESSAGES,
        ),
    ] {
        let problem =
            format!("The policy 'read all' of '{table}' lets users see or change the rows of all users");
        assert_left_over(policy, &problem).await;
    }
    // Policies that narrow access, or that do not apply to users, are not reported.
    for policy in [
        "CREATE POLICY mine ON conversation_messages AS RESTRICTIVE FOR SELECT TO authenticated USING (true)",
        "CREATE POLICY mine ON conversation_messages TO service_role USING (true)",
        "CREATE POLICY mine ON conversation_messages TO authenticated USING (user_id = auth.uid())",
        "CREATE POLICY mine ON conversation_messages USING (auth.jwt() ->> 'role' = 'admin')",
        "CREATE POLICY mine ON conversation_messages USING (EXISTS (SELECT FROM conversation_sessions AS own
           WHERE own.session_id = conversation_messages.session_id AND own.user_id = auth.uid()))",
    ] {
        assert_eq!(after(policy).await.1, []);
    }
}

#[tokio::test]
async fn views_that_pass_the_policies_by_are_named_and_mended() {
    for (drift, tables, roles) in [
        (
            "CREATE VIEW \"all talk\" AS SELECT content FROM conversation_messages; GRANT SELECT ON \"all talk\" TO authenticated",
            "'conversation_messages'",
            "'authenticated'",
        ),
        (
            "CREATE VIEW \"all talk\" AS SELECT m.content, s.user_id FROM conversation_messages AS m
               JOIN conversation_sessions AS s USING (session_id);
             GRANT SELECT (content) ON \"all talk\" TO anon",
            "'conversation_messages', 'conversation_sessions'",
            "'anon'",
        ),
        (
            "CREATE VIEW \"all talk\" WITH (security_invoker = off) AS SELECT * FROM conversation_sessions;
             GRANT DELETE ON \"all talk\" TO PUBLIC",
            "'conversation_sessions'",
            "'anon', 'authenticated'",
        ),
        (
            "CREATE VIEW inner_view AS SELECT content FROM conversation_messages;
             CREATE VIEW \"all talk\" AS SELECT * FROM inner_view; GRANT SELECT ON \"all talk\" TO authenticated",
            "'conversation_messages'",
            "'authenticated'",
        ),
    ] {
        let problem = format!(
            "The view 'public.all talk' reads {tables} with the rights of its owner, past the policies, and {roles} may use it"
        );
        assert_left_over(drift, &problem).await;
    }
    // Views that check the rights of the calling user, or that users cannot read, are not reported.
    for view in [
        "CREATE VIEW mine WITH (security_invoker = on) AS SELECT * FROM conversation_messages; GRANT SELECT ON mine TO authenticated",
        "CREATE VIEW mine AS SELECT * FROM conversation_messages; GRANT SELECT ON mine TO service_role",
        "CREATE SCHEMA hidden; CREATE VIEW hidden.mine AS SELECT * FROM conversation_messages; GRANT SELECT ON hidden.mine TO anon",
        "CREATE TABLE other (id int); CREATE VIEW mine AS SELECT * FROM other; GRANT SELECT ON mine TO anon",
    ] {
        assert_eq!(after(view).await.1, [], "{view}");
    }
}

/// Such a view may be intended for all users, so it is only a warning.
#[tokio::test]
async fn materialized_views_for_users_are_named_and_mended() {
    let drift = "CREATE MATERIALIZED VIEW copies AS SELECT content FROM conversation_messages; GRANT SELECT ON copies TO authenticated";
    let (database, found) = after(drift).await;
    let problem = "The materialized view 'public.copies' holds what was in 'conversation_messages', no policy protects it, and \
                   'authenticated' may read it";
    assert_eq!(found.iter().map(|(problem, _)| problem.as_str()).collect::<Vec<_>>(), [problem]);
    database.psql(&found[0].1);
    assert_eq!(problems(&database).await, [""; 0], "{}", found[0].1);
}
