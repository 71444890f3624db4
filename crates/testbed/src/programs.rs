//! Finds the programs of PostgreSQL, pgbouncer and moto on this machine.

use std::cmp::Reverse;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The programs that a cluster needs. All of them come from one directory, so that their versions agree.
const POSTGRES: [&str; 4] = ["initdb", "pg_ctl", "postgres", "psql"];

/// Returns the directory of PostgreSQL's programs.
pub(crate) fn postgres() -> PathBuf {
    let mut places = path();
    places.extend(newest_first("/usr/lib/postgresql", ""));
    places.push("/usr/local/pgsql/bin".into());
    places.extend(newest_first("/opt/homebrew/opt", "postgresql@"));
    places.extend(newest_first("/usr/local/opt", "postgresql@"));
    let whole = |place: &PathBuf| POSTGRES.iter().all(|program| place.join(program).is_file());
    places.into_iter().find(whole).unwrap_or_else(|| missing("PostgreSQL"))
}

/// Returns the path of `pgbouncer`.
pub(crate) fn pgbouncer() -> PathBuf {
    let mut places = path();
    places.extend(["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"].map(PathBuf::from));
    let programs = places.into_iter().map(|place| place.join("pgbouncer"));
    programs.into_iter().find(|program| program.is_file()).unwrap_or_else(|| missing("pgbouncer"))
}

/// Returns the path of `moto_server`, if it is installed; `make test` installs it with the other Python
/// programs.
pub(crate) fn moto() -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients/bin");
    let places = path().into_iter().chain([ours]);
    places.map(|place| place.join("moto_server")).find(|program| program.is_file())
}

fn path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

/// Returns the `bin` directory of every version installed below `parent` in a directory named by this
/// prefix and a number, newest first.
fn newest_first(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let version = |place: &Path| place.file_name()?.to_str()?.strip_prefix(prefix)?.parse::<u32>().ok();
    let entries = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = entries.filter_map(|place| Some((version(&place)?, place))).collect();
    found.sort_by_key(|(version, _)| Reverse(*version));
    found.into_iter().map(|(_, place)| place.join("bin")).collect()
}

fn missing(what: &str) -> ! {
    panic!(
        "{what} is not installed: on Debian and Ubuntu `make test` or `apt-get install postgresql pgbouncer` \
         installs it, elsewhere the system's package manager does"
    )
}
