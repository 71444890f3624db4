//! Compares access: roles, row-level security, and the function.

use super::super::Difference;
use super::super::catalog::{Catalog, FunctionFound, PolicyFound};
use super::super::policies::{FORMER_POLICIES, POLICIES, Policy};
use super::super::rights;
use super::super::tables::{DATABASE_ROLES, FUNCTION_ARGUMENTS, FUNCTION_PARAMETERS, TABLES, function_body};
use super::super::users::UserAccess;
use super::grants;

/// Finds missing roles and functions. Supabase provides them; plain PostgreSQL needs them created.
pub(super) fn compare_roles(catalog: &Catalog) -> Vec<Difference> {
    let missing = DATABASE_ROLES.iter().filter(|role| !catalog.roles.iter().any(|there| there == *role));
    let mut found: Vec<_> = missing
        .map(|role| {
            let problem = format!("Could not find the role '{role}'");
            Difference::of_database(problem, format!("CREATE ROLE {role} NOLOGIN;"))
        })
        .collect();
    for (name, is_there, create) in
        [("uid", catalog.has_uid, rights::UID), ("jwt", catalog.has_jwt, rights::JWT)]
    {
        if !is_there {
            let problem = format!("Could not find the function 'auth.{name}()'");
            found.push(Difference::of_database(problem, rights::make_auth_function(create)));
        }
    }
    found
}

/// Compares the rights on the existing tables, and the function.
pub(super) fn compare_access(catalog: &Catalog, access: UserAccess) -> Vec<Difference> {
    let there = TABLES.iter().filter(|table| catalog.table(table.name).is_some());
    let mut found = Vec::new();
    for table in there {
        let name = table.name;
        if catalog.table(name).is_some_and(|table| !table.row_security) {
            let problem = format!("Row-level security of '{name}' is switched off");
            found.push(Difference::of_table(name, problem, rights::enable_row_security(name)));
        }
        found.extend(compare_policies(catalog, name, access));
        found.extend(grants::compare_grants(catalog, table, access));
    }
    found.extend(compare_function(catalog, access));
    found
}

fn compare_policies(catalog: &Catalog, table: &'static str, access: UserAccess) -> Vec<Difference> {
    let difference = |problem: String, fix| Difference::of_table(table, problem, fix);
    let find = |name: &str| catalog.policies.iter().find(|is| is.table == table && is.name == name);
    let mut found = Vec::new();
    for policy in POLICIES.iter().filter(|policy| policy.table == table) {
        let Policy { name, .. } = policy;
        let drop = rights::drop_policy(name, table);
        let create = || format!("{drop}\n{}", rights::create_policy(policy));
        let (problem, fix) = match find(name) {
            Some(_) if policy.access > access => {
                let wide = format!("gives users more than '{access}'");
                (format!("The policy '{name}' of '{table}' {wide}"), drop)
            }
            None if policy.access <= access => {
                (format!("Could not find the policy '{name}' of '{table}'"), create())
            }
            Some(is) if !is_same_policy(policy, is) => {
                (format!("The policy '{name}' of '{table}' differs from the schema"), create())
            }
            _ => continue,
        };
        found.push(difference(problem, fix));
    }
    let former = FORMER_POLICIES.iter().filter(|(name, of)| *of == table && find(name).is_some());
    found.extend(former.map(|(name, _)| {
        let problem = format!("The policy '{name}' of '{table}' is no longer part of the schema");
        difference(problem, rights::drop_policy(name, table))
    }));
    let widening = catalog.policies.iter().filter(|policy| policy.table == table && widens_access(policy));
    found.extend(widening.map(|policy| {
        let name = &policy.name;
        let problem =
            format!("The policy '{name}' of '{table}' lets users see or change the rows of all users");
        difference(problem, rights::drop_policy(name, table)).left_to_owner()
    }));
    found
}

/// True for a policy of the user's own that opens rows of one user to another.
fn widens_access(policy: &PolicyFound) -> bool {
    let ours = POLICIES.iter().map(|ours| (ours.name, ours.table)).chain(FORMER_POLICIES);
    let is_ours = ours.into_iter().any(|(name, table)| table == policy.table && name == policy.name);
    !is_ours && policy.opens
}

fn is_same_policy(policy: &Policy, is: &PolicyFound) -> bool {
    let same =
        |wanted: Option<&str>, is: &Option<String>| wanted.map(normalise) == is.as_deref().map(normalise);
    is.command == policy.command.letter()
        && is.permissive != policy.restrictive
        && is.roles.as_deref() == Some(&[policy.role.to_owned()])
        && same(policy.using, &is.using)
        && same(policy.check, &is.check)
}

/// Removes from an expression what PostgreSQL adds when it prints it. The additions depend on its version
/// and on the search path.
fn normalise(expression: &str) -> String {
    let mut text = expression.to_lowercase();
    text.retain(|character| !character.is_whitespace() && !matches!(character, '(' | ')'));
    for added in [
        "public.",
        "conversation_sessions.",
        "conversation_messages.",
        "::text",
        "elsenull::uuid",
        "as\"case\"",
    ] {
        text = text.replace(added, "");
    }
    text
}

fn compare_function(catalog: &Catalog, access: UserAccess) -> Vec<Difference> {
    let is_ours = |function: &&FunctionFound| function.arguments == FUNCTION_ARGUMENTS;
    let create = || format!("{}\n{}", rights::create_function(), rights::grant_function(access));
    let mut found = Vec::new();
    match catalog.functions.iter().find(is_ours) {
        None => {
            let problem = "Could not find the function 'insert_conversation_message'".into();
            found.push(Difference::of_database(problem, create()));
        }
        Some(is)
            if !is.sound || is.names != FUNCTION_PARAMETERS || is.body.trim() != function_body().trim() =>
        {
            let problem = "The function 'insert_conversation_message' differs from the schema".into();
            let fix = format!("{}\n{}", rights::drop_function(FUNCTION_ARGUMENTS), create());
            found.push(Difference::of_database(problem, fix));
        }
        Some(_) => found.extend(compare_callers(catalog, access)),
    }
    for other in catalog.functions.iter().filter(|function| !is_ours(function)) {
        let arguments = &other.arguments;
        let problem = format!(
            "There is another function 'insert_conversation_message' ({arguments}), so that calls by name are ambiguous"
        );
        found.push(Difference::of_database(problem, rights::drop_function(arguments)));
    }
    found
}

/// Checks who may call the function and who must not.
fn compare_callers(catalog: &Catalog, access: UserAccess) -> Option<Difference> {
    let should = |role: &str| match role {
        "anon" => false,
        "authenticated" => access >= rights::FUNCTION_ACCESS,
        _ => true,
    };
    let may = |role: &str| catalog.callers.iter().any(|caller| caller == role);
    let wrong = DATABASE_ROLES.iter().find(|role| may(role) != should(role))?;
    let (verb, must_not) = if may(wrong) { ("may", ", and must not") } else { ("may not", "") };
    let problem = format!("The role '{wrong}' {verb} call 'insert_conversation_message'{must_not}");
    Some(Difference::of_database(problem, rights::grant_function(access)))
}
