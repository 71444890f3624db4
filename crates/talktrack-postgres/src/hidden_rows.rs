//! Obstacles that keep rows away without an error: a trigger that swallows rows, or row-level security that
//! hides them. A row that is missing for such a reason is neither unknown nor another user's: its record
//! waits until the obstacle is removed.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use crate::failure::{Failure, MESSAGES, SESSIONS};
use crate::statement::Statement;

/// Lists the triggers that may drop a row before it is written.
const TRIGGERS: &str = "
SELECT string_agg(quote_literal(tgname), ', ' ORDER BY tgname) FROM pg_catalog.pg_trigger
WHERE tgrelid = to_regclass('public.' || $1::text) AND NOT tgisinternal AND tgenabled <> 'D'
  -- For each row (1), before (2), at an insert (4) or an update (16).
  AND tgtype & 3 = 3 AND tgtype & 20 <> 0";

/// True if the current role can see no row of the table: row-level security applies to the role, and no
/// policy permits it to read.
const IS_HIDDEN: &str = "
SELECT row_security_active(oid) AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_policy WHERE polrelid = oid AND polpermissive AND polcmd IN ('*', 'r') AND EXISTS (
    SELECT FROM unnest(polroles) role WHERE CASE role WHEN 0 THEN true ELSE pg_has_role(role, 'USAGE') END))
FROM pg_catalog.pg_class this WHERE oid = to_regclass('public.' || $1::text)";

/// Explains why rows written to this table are missing. If there is no trigger, another transaction changed
/// the same rows.
pub(super) async fn explain_missing_rows(client: &Client, table: &str, otherwise: &str) -> Failure {
    let triggers: Result<Option<String>, Error> = query_table(client, TRIGGERS, table).await;
    match triggers {
        Ok(Some(names)) => Failure::systemic(format!(
            "The trigger {names} of '{table}' discards rows without an error: fix it or drop it"
        )),
        Ok(None) => Failure::changed(otherwise),
        Err(error) => error.into(),
    }
}

/// Explains why a row came back with a different id than was written. The transaction was rolled back.
pub(super) async fn explain_changed_id(client: &Client) -> Failure {
    for table in [MESSAGES, SESSIONS] {
        match query_table::<String>(client, TRIGGERS, table).await {
            Ok(Some(names)) => {
                return Failure::systemic(format!(
                    "The trigger {names} of '{table}' changes the id, session or user of rows: fix it or drop it"
                ));
            }
            Ok(None) => {}
            Err(error) => return error.into(),
        }
    }
    Failure::changed("a trigger changed the id of a row, and has been dropped since")
}

/// Fails if a session that was not found may exist but be hidden.
pub(super) async fn check_sessions_visible(client: &Client) -> Result<(), Failure> {
    match query_table(client, IS_HIDDEN, SESSIONS).await? {
        Some(true) => Err(Failure::systemic(format!(
            "Row-level security hides every row of '{SESSIONS}'; the user of database_url needs a policy of its own, or to own \
             the tables (docs/supabase.md)"
        ))),
        _ => Ok(()),
    }
}

async fn query_table<T>(client: &Client, question: &'static str, table: &str) -> Result<Option<T>, Error>
where
    T: for<'r> tokio_postgres::types::FromSql<'r>,
{
    let rows = Statement::new(question).with(table.to_owned(), Type::TEXT).query(client).await?;
    rows.first().map_or(Ok(None), |row| row.try_get(0))
}
