//! Compares the triggers that note writes of all programs, and the functions that they call.

use super::super::Difference;
use super::super::catalog::Catalog;
use super::super::triggers::{self, FUNCTIONS, TRIGGERS, Trigger, TriggerFunction};

pub(super) fn compare_triggers(catalog: &Catalog) -> Vec<Difference> {
    let functions = FUNCTIONS.iter().filter_map(|function| compare_function(catalog, function));
    let missing = TRIGGERS.iter().filter(|trigger| !is_there(catalog, trigger)).map(|trigger| {
        let Trigger { name, table, .. } = trigger;
        let problem = format!("Could not find the trigger '{name}' of '{table}', or it is switched off");
        Difference::of_table(table, problem, triggers::create_trigger(trigger))
    });
    functions.chain(missing).collect()
}

fn compare_function(catalog: &Catalog, function: &TriggerFunction) -> Option<Difference> {
    let name = unqualified_name(function.name);
    let problem = match catalog.trigger_functions.iter().find(|is| is.name == name) {
        None => format!("Could not find the function '{name}'"),
        Some(is)
            if !is.sound || is.settings != function.settings || is.body.trim() != function.body.trim() =>
        {
            format!("The function '{name}' differs from the schema")
        }
        Some(_) => return None,
    };
    Some(Difference::of_database(problem, triggers::repair_function(function)))
}

fn is_there(catalog: &Catalog, trigger: &Trigger) -> bool {
    catalog.triggers.iter().any(|is| {
        let is_ours = is.table == trigger.table && is.name == trigger.name;
        is_ours && is.sound && is.function.as_deref() == Some(unqualified_name(trigger.function.name))
    })
}

fn unqualified_name(name: &str) -> &str {
    name.trim_start_matches("public.")
}
