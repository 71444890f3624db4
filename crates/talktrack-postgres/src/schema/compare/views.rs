//! Views over talktrack's tables that users may use. Row-level security does not apply to a view that reads
//! with its owner's rights.

use super::super::Difference;
use super::super::catalog::{Catalog, ViewFound};
use super::super::rights;

/// Finds each view that can show a user rows that the policies would hide.
pub(super) fn compare_views(catalog: &Catalog) -> Vec<Difference> {
    catalog.views.iter().map(|view| view_difference(view, catalog.has_security_invoker)).collect()
}

fn view_difference(view: &ViewFound, has_security_invoker: bool) -> Difference {
    let ViewFound { schema, name, .. } = view;
    let list = |names: &[String]| names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let tables = list(&view.tables);
    let roles = list(&view.roles);
    if view.materialized {
        let problem = format!(
            "The materialized view '{schema}.{name}' holds what was in {tables}, no policy protects it, and {roles} may read it"
        );
        return Difference::of_database(problem, rights::revoke_view(schema, name)).into_warning();
    }
    let problem = format!(
        "The view '{schema}.{name}' reads {tables} with the rights of its owner, past the policies, and {roles} may use it"
    );
    let fix = match has_security_invoker {
        true => rights::make_invoker(schema, name),
        false => rights::revoke_view(schema, name),
    };
    Difference::of_database(problem, fix).left_to_owner()
}
