//! The statements that grant and revoke rights: policies, grants, and the functions that users call.

use super::policies::Policy;
use super::quoting::quote_identifier;
use super::tables::{FUNCTION, FUNCTION_ARGUMENTS, FUNCTION_PARAMETERS, PRIVILEGES, function_body};
use super::users::{USER_GRANTS, UserAccess, UserGrant};

/// `auth.uid()` for a database that has none.
pub(super) const UID: &str = include_str!("../../migrations/uid.sql");

/// `auth.jwt()` for a database that has none.
pub(super) const JWT: &str = include_str!("../../migrations/jwt.sql");

/// Enables row-level security.
pub(super) fn enable_row_security(table: &str) -> String {
    format!("ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY;")
}

/// Drops the policy if it exists.
pub(super) fn drop_policy(policy: &str, table: &str) -> String {
    format!("DROP POLICY IF EXISTS {} ON public.{table};", quote_identifier(policy))
}

/// Creates the policy.
pub(super) fn create_policy(policy: &Policy) -> String {
    let Policy { name, table, role, command, .. } = policy;
    let kind = if policy.restrictive { " AS RESTRICTIVE" } else { "" };
    let using = policy.using.map(|using| format!("\n  USING ({using})")).unwrap_or_default();
    let check = policy.check.map(|check| format!("\n  WITH CHECK ({check})")).unwrap_or_default();
    let command = command.as_sql();
    format!("CREATE POLICY {name} ON public.{table}{kind} FOR {command} TO {role}{using}{check};")
}

/// Revokes all rights of the users' roles, and grants `service_role` its own.
pub(super) fn revoke_table(table: &str) -> String {
    let privileges = PRIVILEGES.join(", ");
    format!(
        "REVOKE ALL ON public.{table} FROM PUBLIC, anon, authenticated;\n\
         GRANT {privileges} ON public.{table} TO service_role;"
    )
}

/// Grants users one of their rights.
pub(super) fn grant_to_users(grant: &UserGrant) -> String {
    let UserGrant { table, privilege, columns, .. } = grant;
    let columns = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
    format!("GRANT {privilege}{columns} ON public.{table} TO authenticated;")
}

/// Sets all rights on a table. `own` lists rights on the project's own columns, each a privilege and a
/// column: these are granted again.
pub(super) fn grant_table(table: &str, access: UserAccess, own: &[(String, String)]) -> String {
    let of_users = USER_GRANTS.iter().filter(|grant| grant.table == table && grant.access <= access);
    let own = own.iter().map(|(privilege, column)| {
        format!("GRANT {privilege} ({}) ON public.{table} TO authenticated;", quote_identifier(column))
    });
    let all = [revoke_table(table)].into_iter().chain(of_users.map(grant_to_users)).chain(own);
    all.collect::<Vec<_>>().join("\n")
}

/// Grants users their rights on a column that was missing.
pub(super) fn grant_column(table: &str, column: &str, access: UserAccess) -> Vec<String> {
    let is_its = |grant: &&UserGrant| {
        grant.table == table && grant.access <= access && grant.columns.contains(&column)
    };
    let grants = USER_GRANTS.iter().filter(is_its);
    let sql = |grant: &UserGrant| {
        format!("GRANT {} ({column}) ON public.{table} TO authenticated;", grant.privilege)
    };
    grants.map(sql).collect()
}

/// Creates or replaces the function. It runs with its owner's rights, because users have none on the
/// columns that it writes; its body decides which sessions the caller may write to.
pub(super) fn create_function() -> String {
    let types = FUNCTION_ARGUMENTS.split(", ");
    let parameters = FUNCTION_PARAMETERS.iter().zip(types).enumerate().map(|(place, (name, sql_type))| {
        let default = if place < 3 { "" } else { " DEFAULT NULL" };
        format!("{name} {sql_type}{default}")
    });
    let parameters = parameters.collect::<Vec<_>>().join(", ");
    let body = function_body();
    format!(
        "CREATE OR REPLACE FUNCTION {FUNCTION}({parameters})\nRETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''\nAS $talktrack$\n{body}$talktrack$;"
    )
}

/// Revokes the function from users, and grants it to `service_role`.
pub(super) fn revoke_function() -> String {
    format!(
        "REVOKE ALL ON FUNCTION {FUNCTION}({FUNCTION_ARGUMENTS}) FROM PUBLIC, anon, authenticated;\n\
         GRANT EXECUTE ON FUNCTION {FUNCTION}({FUNCTION_ARGUMENTS}) TO service_role;"
    )
}

/// The narrowest access of users who may call the function.
pub(super) const FUNCTION_ACCESS: UserAccess = UserAccess::Write;

/// Lets users call the function.
pub(super) fn grant_function_to_users() -> String {
    format!("GRANT EXECUTE ON FUNCTION {FUNCTION}({FUNCTION_ARGUMENTS}) TO authenticated;")
}

/// Sets who may call the function.
pub(super) fn grant_function(access: UserAccess) -> String {
    let users = (access >= FUNCTION_ACCESS).then(grant_function_to_users);
    [Some(revoke_function()), users].into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// Drops a function that would make calls by name ambiguous, or that cannot be replaced.
pub(super) fn drop_function(arguments: &str) -> String {
    format!("DROP FUNCTION {FUNCTION}({arguments});")
}

/// Makes a view use the privileges of the invoker, so that the policies apply.
pub(super) fn make_invoker(schema: &str, view: &str) -> String {
    format!(
        "ALTER VIEW {}.{} SET (security_invoker = true);",
        quote_identifier(schema),
        quote_identifier(view)
    )
}

/// Revokes a view from users.
pub(super) fn revoke_view(schema: &str, view: &str) -> String {
    format!(
        "REVOKE ALL ON {}.{} FROM PUBLIC, anon, authenticated;",
        quote_identifier(schema),
        quote_identifier(view)
    )
}

/// Creates `auth.uid()` or `auth.jwt()` as Supabase has them.
pub(super) fn make_auth_function(create: &str) -> String {
    let create = create.trim_end();
    format!(
        "CREATE SCHEMA IF NOT EXISTS auth;\nGRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role;\n{create}"
    )
}
