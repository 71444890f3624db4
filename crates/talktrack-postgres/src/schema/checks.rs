//! Tests checks and policies of the user's own by their effect, not by how they are written: each check
//! with the words that talktrack writes, each policy with a row of another user.

use tokio_postgres::{Client, Error, Row};

use super::catalog::{Catalog, CheckFound};
use super::quoting::quote_literals;
use super::tables::{Column, TABLES};

/// Functions that a check or a policy calls must not change anything, and must not take long.
const BEGIN: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = '5s'";

/// A signed-in user without any rows.
const AS_A_USER: &str = r#"SELECT
  set_config('request.jwt.claims', '{"sub":"3c1ad2c2-9d4f-4b52-8d0e-6f5f0b1c0a01","role":"authenticated"}', true),
  set_config('request.jwt.claim.sub', '3c1ad2c2-9d4f-4b52-8d0e-6f5f0b1c0a01', true),
  set_config('request.jwt.claim.role', 'authenticated', true)"#;

/// A row of another user.
const ROW_OF_ANOTHER: &str = r#"{"id":"3c1ad2c2-9d4f-4b52-8d0e-6f5f0b1c0a02","session_id":"3c1ad2c2-9d4f-4b52-8d0e-6f5f0b1c0a03",
  "message_id":"3c1ad2c2-9d4f-4b52-8d0e-6f5f0b1c0a02","user_id":"3c1ad2c2-9d4f-4b52-8d0e-6f5f0b1c0a04"}"#;

/// Notes for each check which words it refuses.
pub(super) async fn try_checks(client: &Client, catalog: &mut Catalog) -> Result<(), Error> {
    let mut checks = std::mem::take(&mut catalog.checks);
    for check in &mut checks {
        let column = column_of(check).filter(|column| !column.words.is_empty());
        let found = catalog.column(&check.table, &check.column);
        if let Some((column, found)) = column.zip(found) {
            check.refused = find_refused_words(client, check, column, &found.sql_type).await?;
        }
    }
    catalog.checks = checks;
    Ok(())
}

/// Returns the column of the schema that a check is about.
pub(super) fn column_of(check: &CheckFound) -> Option<&'static Column> {
    let table = TABLES.iter().find(|table| table.name == check.table)?;
    table.columns.iter().find(|column| column.name == check.column)
}

/// Returns the words for which the check is false. Returns none if the check cannot be evaluated.
async fn find_refused_words(
    client: &Client,
    check: &CheckFound,
    column: &Column,
    sql_type: &str,
) -> Result<Vec<String>, Error> {
    let name = column.name;
    let words = quote_literals(column.words);
    let expression = &check.expression;
    let question = format!(
        "SELECT word FROM unnest(ARRAY[{words}]) WITH ORDINALITY AS words (word, place), \
         LATERAL (SELECT word::{sql_type} AS {name}) AS row \
         WHERE NOT coalesce(({expression}), true) ORDER BY place"
    );
    let rows = query_and_roll_back(client, BEGIN, &question).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Notes which policies of the user's own open rows of one user to another.
pub(super) async fn try_policies(client: &Client, catalog: &mut Catalog) -> Result<(), Error> {
    let begin = format!("{BEGIN}; {AS_A_USER}");
    for policy in catalog.policies.iter_mut().filter(|policy| policy.is_permissive_for_users()) {
        for expression in [&policy.using, &policy.check].into_iter().flatten() {
            let table = &policy.table;
            let question = format!(
                "SELECT coalesce(({expression}), false) \
                 FROM jsonb_populate_record(NULL::public.{table}, '{ROW_OF_ANOTHER}') AS {table}"
            );
            let rows = query_and_roll_back(client, &begin, &question).await?;
            policy.opens |= rows.first().map_or(Ok(false), |row| row.try_get(0))?;
        }
    }
    Ok(())
}

/// Runs a query in a transaction that is rolled back. Returns no rows if the query fails.
async fn query_and_roll_back(client: &Client, begin: &str, question: &str) -> Result<Vec<Row>, Error> {
    client.batch_execute(begin).await?;
    let answer = client.query_typed(question, &[]).await;
    client.batch_execute("ROLLBACK").await?;
    match answer {
        Err(error) if error.as_db_error().is_some() => Ok(Vec::new()),
        answer => answer,
    }
}

/// Returns the allowed words if the check is a plain list of them; `None` for every other check.
pub(super) fn parse_word_list(column: &str, expression: &str) -> Option<Vec<String>> {
    let (words, mut rest) = split_literals(expression);
    for cast in ["::text[]", "::character varying[]", "::text", "::character varying"] {
        rest = rest.replace(cast, "");
    }
    rest.retain(|character| !character.is_whitespace() && !matches!(character, '(' | ')' | ','));
    let is_list = [format!("{column}=ANYARRAY[]"), format!("{column}=")].contains(&rest);
    is_list.then_some(words)
}

/// Returns the string literals in an expression, and the rest of the expression.
fn split_literals(expression: &str) -> (Vec<String>, String) {
    let mut found = Vec::new();
    let mut outside = String::new();
    let mut rest = expression;
    while let Some(start) = rest.find('\'') {
        let mut literal = String::new();
        outside.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        while let Some(end) = rest.find('\'') {
            literal.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            // A doubled quote stands for one.
            match rest.strip_prefix('\'') {
                Some(after) => rest = after,
                None => break,
            }
            literal.push('\'');
        }
        found.push(literal);
    }
    outside.push_str(rest);
    (found, outside)
}

#[cfg(test)]
mod tests {
    use super::parse_word_list;

    #[test]
    fn a_list_of_words_is_told_from_whatever_else_holds_words() {
        let list = |expression| parse_word_list("role", expression).unwrap_or_default().join(" ");
        assert_eq!(list("(role = ANY (ARRAY['user'::text, 'it''s'::text]))"), "user it's");
        assert_eq!(
            list(
                "((role)::text = ANY ((ARRAY['user'::character varying, 'bot'::character varying])::text[]))"
            ),
            "user bot"
        );
        assert_eq!(list("(role = 'user'::text)"), "user");
        for other in [
            "(role <> 'developer'::text)",
            "(role <> ALL (ARRAY['robot'::text, 'bot'::text]))",
            "((role = 'user'::text) OR (kind = 'event'::text))",
            "(lower(role) = ANY (ARRAY['user'::text]))",
            "(length(role) < 20)",
        ] {
            assert_eq!(parse_word_list("role", other), None, "{other}");
        }
    }
}
