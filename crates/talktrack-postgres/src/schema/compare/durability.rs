//! Compares settings that decide whether confirmed rows survive a crash, and which characters rows can
//! hold.

use super::super::Difference;
use super::super::catalog::{Catalog, DefaultFound};
use super::super::quoting::quote_identifier;
use super::super::tables::TABLES;

/// Compares the database as a whole.
pub(super) fn compare_durability(catalog: &Catalog) -> Vec<Difference> {
    let mut found: Vec<_> = compare_encoding(catalog).into_iter().collect();
    let unlogged =
        TABLES.iter().filter(|table| catalog.table(table.name).is_some_and(|table| table.unlogged));
    found.extend(unlogged.map(|table| {
        let name = table.name;
        let problem = format!("The table '{name}' is UNLOGGED: a crash of the server empties it");
        Difference::of_table(name, problem, format!("ALTER TABLE public.{name} SET LOGGED;")).into_warning()
    }));
    found.extend(catalog.switched_off.iter().map(|setting| {
        let consequence = match setting.as_str() {
            "fsync" => "a crash of the machine can destroy the whole server",
            "full_page_writes" => "a crash of the machine can destroy pages that were being written",
            _ => "a crash can lose what was confirmed just before it",
        };
        let problem = format!("The server has {setting} = off: {consequence}");
        let fix = format!("ALTER SYSTEM SET {setting} = on;\nSELECT pg_reload_conf();");
        Difference::of_database(problem, fix).into_warning()
    }));
    found.extend(catalog.asynchronous.iter().map(|default| asynchronous_commit(default, &catalog.database)));
    found
}

/// Only UTF8 holds every character.
fn compare_encoding(catalog: &Catalog) -> Option<Difference> {
    let Catalog { database, encoding, .. } = catalog;
    if encoding == "UTF8" {
        return None;
    }
    let consequence = match encoding.as_str() {
        "SQL_ASCII" => "other programs can store bytes that are not valid text",
        _ => "a message with a character outside this encoding cannot be stored",
    };
    let problem = format!("The encoding of the database is {encoding}, not UTF8: {consequence}");
    let copy = quote_identifier(&format!("{database}_utf8"));
    let fix = format!(
        "-- the encoding of a database cannot change: pg_dump this one, and restore the dump into a new one\n\
         CREATE DATABASE {copy} ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0;"
    );
    Some(Difference::of_database(problem, fix).left_to_owner())
}

/// talktrack waits for the disk despite this default; other programs that write there do not.
fn asynchronous_commit(default: &DefaultFound, database: &str) -> Difference {
    let DefaultFound { role, in_database } = default;
    let (whose, alter) = match (role, in_database) {
        (Some(role), true) => (
            format!("role '{role}' in this database"),
            format!("ROLE {} IN DATABASE {}", quote_identifier(role), quote_identifier(database)),
        ),
        (Some(role), false) => (format!("role '{role}'"), format!("ROLE {}", quote_identifier(role))),
        (None, true) => ("database".to_owned(), format!("DATABASE {}", quote_identifier(database))),
        (None, false) => ("server's roles".to_owned(), "ROLE ALL".to_owned()),
    };
    let problem = format!(
        "The default of the {whose} is synchronous_commit = off: a crash can lose what was confirmed just before it \
         (talktrack itself waits for the disk)"
    );
    Difference::of_database(problem, format!("ALTER {alter} RESET synchronous_commit;")).into_warning()
}
