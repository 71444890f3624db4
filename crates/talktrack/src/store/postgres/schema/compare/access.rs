//! Who may see and do what: roles, row-level security, grants, and the function.

use super::super::Difference;
use super::super::catalog::{Catalog, FunctionFound, PolicyFound};
use super::super::mend;
use super::super::tables::{
    DATABASE_ROLES, FUNCTION_ARGUMENTS, FUNCTION_PARAMETERS, POLICIES, PRIVILEGES, Policy, TABLES, Table,
    function_body,
};

/// What Supabase brings along and plain PostgreSQL has to be given.
pub(super) fn roles(catalog: &Catalog) -> Vec<Difference> {
    let missing = DATABASE_ROLES.iter().filter(|role| !catalog.roles.iter().any(|there| there == *role));
    let mut found: Vec<_> = missing
        .map(|role| {
            let problem = format!("Could not find the role '{role}'");
            Difference::of_database(problem, format!("CREATE ROLE {role} NOLOGIN;"))
        })
        .collect();
    if !catalog.has_uid {
        found.push(Difference::of_database(
            "Could not find the function 'auth.uid()'".into(),
            mend::make_uid(),
        ));
    }
    found
}

/// What is different about the rights to the tables that are there, and about the function.
pub(super) fn compare(catalog: &Catalog) -> Vec<Difference> {
    let there = TABLES.iter().filter(|table| catalog.table(table.name).is_some());
    let mut found: Vec<_> = there.flat_map(|table| rights(catalog, table)).collect();
    found.extend(function(catalog));
    found
}

fn rights(catalog: &Catalog, table: &Table) -> Vec<Difference> {
    let name = table.name;
    let difference = |problem: String, mend| Difference::of_table(name, problem, mend);
    let mut found = Vec::new();
    if catalog.table(name).is_some_and(|table| !table.row_security) {
        let problem = format!("Row-level security of '{name}' is switched off");
        found.push(difference(problem, mend::enable_row_security(name)));
    }
    for policy in POLICIES.iter().filter(|policy| policy.table == name) {
        let is = catalog.policies.iter().find(|is| is.table == name && is.name == policy.name);
        let problem = match is {
            None => format!("Could not find the policy '{}' of '{name}'", policy.name),
            Some(is) if !says_the_same(policy, is) => {
                format!("The policy '{}' of '{name}' says something else", policy.name)
            }
            Some(_) => continue,
        };
        let mend = format!("{}\n{}", mend::drop_policy(policy), mend::create_policy(policy));
        found.push(difference(problem, mend));
    }
    let misgranted = misgranted(catalog, name);
    if !misgranted.is_empty() {
        found.push(difference(misgranted.join("; "), mend::grant(name)));
    }
    found
}

/// Everything about the grants on a table is mended in one go.
fn misgranted(catalog: &Catalog, table: &str) -> Vec<String> {
    let held = |role: &str, privileges: &[&'static str], wanted: bool| {
        let these: Vec<_> = privileges
            .iter()
            .copied()
            .filter(|privilege| catalog.may(role, privilege, table) == wanted)
            .collect();
        these.join(", ")
    };
    let mut found = Vec::new();
    // A role that is not there yet lacks them too: whoever mends what is named here has to be done then.
    for role in ["authenticated", "service_role"] {
        let lacks = held(role, &PRIVILEGES, false);
        if !lacks.is_empty() {
            found.push(format!("The role '{role}' may not {lacks} '{table}'"));
        }
    }
    let unrestrained = ["TRUNCATE", "REFERENCES", "TRIGGER"];
    let everything = [&PRIVILEGES[..], &unrestrained].concat();
    for (role, forbidden) in [("authenticated", &unrestrained[..]), ("anon", &everything)] {
        let has = held(role, forbidden, true);
        if !has.is_empty() {
            found.push(format!("The role '{role}' may {has} '{table}', and must not"));
        }
    }
    found
}

fn says_the_same(policy: &Policy, is: &PolicyFound) -> bool {
    let same = |wanted: &str, is: &Option<String>| is.as_deref().map(gist) == Some(gist(wanted));
    is.command == "*"
        && is.permissive
        && is.roles.as_deref() == Some(&[policy.role.to_owned()])
        && same(policy.using, &is.using)
        && same(policy.check, &is.check)
}

/// An expression without what PostgreSQL adds when it spells it out: how much, depends on its version and on the search
/// path.
fn gist(expression: &str) -> String {
    let mut text = expression.to_lowercase();
    text.retain(|character| !character.is_whitespace() && !matches!(character, '(' | ')'));
    for added in [
        "public.",
        "conversation_sessions.",
        "conversation_messages.",
        "conversation_deletions.",
        "conversation_search.",
        "::text",
        "asuid",
    ] {
        text = text.replace(added, "");
    }
    text
}

fn function(catalog: &Catalog) -> Vec<Difference> {
    let is_ours = |function: &&FunctionFound| function.arguments == FUNCTION_ARGUMENTS;
    let create = || format!("{}\n{}", mend::create_function(), mend::grant_function());
    let mut found = Vec::new();
    match catalog.functions.iter().find(is_ours) {
        None => {
            let problem = "Could not find the function 'insert_conversation_message'".into();
            found.push(Difference::of_database(problem, create()));
        }
        Some(is)
            if !is.sound || is.names != FUNCTION_PARAMETERS || is.body.trim() != function_body().trim() =>
        {
            let problem = "The function 'insert_conversation_message' is another one".into();
            let mend = format!("{}\n{}", mend::drop_function(FUNCTION_ARGUMENTS), create());
            found.push(Difference::of_database(problem, mend));
        }
        Some(_) => found.extend(callers(catalog)),
    }
    for other in catalog.functions.iter().filter(|function| !is_ours(function)) {
        let arguments = &other.arguments;
        let problem = format!(
            "There is another function 'insert_conversation_message' ({arguments}), so that calls by name are ambiguous"
        );
        found.push(Difference::of_database(problem, mend::drop_function(arguments)));
    }
    found
}

/// Who may call the function, and who must not.
fn callers(catalog: &Catalog) -> Option<Difference> {
    let is_wrong = |role: &&&str| {
        let may = catalog.callers.iter().any(|caller| caller == **role);
        may == (**role == "anon")
    };
    let first = DATABASE_ROLES.iter().find(is_wrong)?;
    let may = if *first == "anon" { "may" } else { "may not" };
    let problem = format!("The role '{first}' {may} call 'insert_conversation_message'");
    Some(Difference::of_database(problem, mend::grant_function()))
}
