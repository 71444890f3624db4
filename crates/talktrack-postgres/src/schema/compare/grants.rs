//! Compares privileges on tables and on their columns.

use super::super::Difference;
use super::super::catalog::{Catalog, PrivilegeFound};
use super::super::rights;
use super::super::tables::{PRIVILEGES, Table};
use super::super::users::{USER_GRANTS, UserAccess, UserGrant};

/// Privileges that no policy restricts, or that no role needs.
const UNRESTRAINED: [&str; 3] = ["TRUNCATE", "REFERENCES", "TRIGGER"];

/// All differences in the grants on a table are repaired by one set of statements.
pub(super) fn compare_grants(catalog: &Catalog, table: &Table, access: UserAccess) -> Option<Difference> {
    let mut problems = Vec::new();
    for privilege in PRIVILEGES.into_iter().chain(UNRESTRAINED) {
        problems.extend(compare_user_privilege(catalog, table, privilege, access));
    }
    problems.extend(missing_service_privileges(catalog, table));
    problems.extend(excess_anon_privileges(catalog, table));
    let fix = rights::grant_table(table.name, access, &own_columns(catalog, table));
    (!problems.is_empty()).then(|| Difference::of_table(table.name, problems.join("; "), fix))
}

/// Compares one privilege of `authenticated` with what it should be.
fn compare_user_privilege(
    catalog: &Catalog,
    table: &Table,
    privilege: &str,
    access: UserAccess,
) -> Vec<String> {
    let name = table.name;
    let is_wanted =
        |grant: &&UserGrant| grant.table == name && grant.privilege == privilege && grant.access <= access;
    let wanted = USER_GRANTS.iter().find(is_wanted);
    let held = catalog.privilege("authenticated", privilege, name);
    let whole = held.is_some_and(|held| held.whole);
    let may = |what: &str| format!("The role 'authenticated' may {privilege}{what} '{name}', and must not");
    let may_not = |what: &str| format!("The role 'authenticated' may not {privilege}{what} '{name}'");
    match wanted {
        Some(wanted) if wanted.columns.is_empty() => {
            if whole {
                Vec::new()
            } else {
                vec![may_not("")]
            }
        }
        _ if whole => vec![may("")],
        wanted => {
            let wanted = wanted.map_or(&[][..], |wanted| wanted.columns);
            let held: Vec<_> =
                held.map_or(&[][..], |held| &held.columns).iter().map(String::as_str).collect();
            let ours = held.iter().copied().filter(|column| is_ours(table, column));
            let excess: Vec<_> = ours.filter(|column| !wanted.contains(column)).collect();
            // A missing column gets its privileges when it is added.
            let lacks = |column: &&str| !held.contains(column) && catalog.column(name, column).is_some();
            let lacking: Vec<_> = wanted.iter().copied().filter(lacks).collect();
            let list = |columns: &[&str]| format!(" ({})", columns.join(", "));
            let excess = (!excess.is_empty()).then(|| may(&list(&excess)));
            let lacking = (!lacking.is_empty()).then(|| may_not(&list(&lacking)));
            excess.into_iter().chain(lacking).collect()
        }
    }
}

fn missing_service_privileges(catalog: &Catalog, table: &Table) -> Option<String> {
    let has = |privilege: &str| {
        catalog.privilege("service_role", privilege, table.name).is_some_and(|held| held.whole)
    };
    let lacks: Vec<_> = PRIVILEGES.into_iter().filter(|privilege| !has(privilege)).collect();
    let name = table.name;
    (!lacks.is_empty()).then(|| format!("The role 'service_role' may not {} '{name}'", lacks.join(", ")))
}

fn excess_anon_privileges(catalog: &Catalog, table: &Table) -> Option<String> {
    let has = |privilege: &&str| catalog.privilege("anon", privilege, table.name).is_some();
    let held: Vec<_> = PRIVILEGES.into_iter().chain(UNRESTRAINED).filter(has).collect();
    let name = table.name;
    (!held.is_empty()).then(|| format!("The role 'anon' may {} '{name}', and must not", held.join(", ")))
}

/// Returns privileges of users on single columns of the project's own, which talktrack leaves alone.
fn own_columns(catalog: &Catalog, table: &Table) -> Vec<(String, String)> {
    let of_users = |held: &&PrivilegeFound| {
        held.role == "authenticated" && held.table == table.name && held.privilege != "REFERENCES"
    };
    let columns = |held: &PrivilegeFound| {
        let own = held.columns.iter().filter(|column| !is_ours(table, column));
        own.map(|column| (held.privilege.clone(), column.clone())).collect::<Vec<_>>()
    };
    catalog.privileges.iter().filter(of_users).flat_map(columns).collect()
}

fn is_ours(table: &Table, column: &str) -> bool {
    table.columns.iter().any(|ours| ours.name == column)
}
