//! What tells that something is to be counted: the function, and the triggers that call it.

use super::super::Difference;
use super::super::catalog::Catalog;
use super::super::triggers::{self, MARKER, MARKER_BODY, TRIGGERS, Trigger};

pub(super) fn compare(catalog: &Catalog) -> Vec<Difference> {
    let name = MARKER.trim_start_matches("public.");
    let problem = match &catalog.marker {
        None => Some(format!("Could not find the function '{name}'")),
        Some(is) if !is.sound || is.body.trim() != MARKER_BODY.trim() => {
            Some(format!("The function '{name}' is another one"))
        }
        Some(_) => None,
    };
    let mend = || format!("{}\n{}", triggers::create_marker(), triggers::count_anew());
    let function = problem.map(|problem| Difference::of_database(problem, mend()));
    let is_there = |trigger: &Trigger| {
        catalog.triggers.iter().any(|is| is.table == trigger.table && is.name == trigger.name && is.sound)
    };
    let missing = TRIGGERS.iter().filter(|trigger| !is_there(trigger)).map(|trigger| {
        let Trigger { name, table, .. } = trigger;
        let problem = format!("Could not find the trigger '{name}' of '{table}', or it is switched off");
        Difference::of_table(table, problem, triggers::create_trigger(trigger))
    });
    function.into_iter().chain(missing).collect()
}
