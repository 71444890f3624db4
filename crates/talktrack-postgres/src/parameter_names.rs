//! The names of the parameters in connection strings: which of them talktrack uses, refuses or ignores.

/// What talktrack does with a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// Names the server, the user or the database, or configures the connection.
    Connection,
    /// Configures TLS or the authentication.
    Security,
    /// Cannot be honoured, and a connection without it would be less secure or lead to another server.
    Refused(&'static str),
    /// Cannot be honoured, for this reason. A warning says so.
    WithoutEffect(&'static str),
    /// Configures a pooler or another client, and means nothing to talktrack.
    OfOthers,
    Unknown,
}

/// Parameters that name the server, the user or the database, or configure the connection.
const CONNECTION: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "unix_sock",
    "dbname",
    "user",
    "password",
    "options",
    "application_name",
    "fallback_application_name",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "target_session_attrs",
    "load_balance_hosts",
    "client_encoding",
    "schema",
    "search_path",
];

/// Parameters that configure TLS or the authentication.
const SECURITY: &[&str] = &[
    "sslmode",
    "ssl",
    "requiressl",
    "sslaccept",
    "sslrootcert",
    "sslnegotiation",
    "sslsni",
    "sslcompression",
    "sslcertmode",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "min_protocol_version",
    "max_protocol_version",
    "channel_binding",
    "gssencmode",
    "gssdelegation",
];

const NO_CLIENT_CERTIFICATE: &str =
    "talktrack has no client certificate; for the certificate of an authority, use sslrootcert";
const NO_REVOCATION: &str = "talktrack checks no revocation list";
const NO_CHOICE_OF_METHOD: &str =
    "talktrack cannot restrict how the server authenticates it; channel_binding=require can be used instead";
const NO_PEER: &str = "talktrack does not check the user of the process behind a socket";
const NO_FILE: &str = "talktrack reads no file of libpq; write what the file says into database_url";
const NO_KEYS: &str = "talktrack proves the password only; use password";
const NO_OAUTH: &str = "talktrack has no OAuth client";
const NO_KEY_LOG: &str = "talktrack writes no session keys to a file";

/// Parameters that would change what is trusted, or where the connection leads, and why they cannot be
/// honoured.
const REFUSED: &[(&str, &str)] = &[
    ("sslcert", NO_CLIENT_CERTIFICATE),
    ("sslkey", NO_CLIENT_CERTIFICATE),
    ("sslpassword", NO_CLIENT_CERTIFICATE),
    ("sslidentity", NO_CLIENT_CERTIFICATE),
    ("sslinline", NO_CLIENT_CERTIFICATE),
    ("sslcrl", NO_REVOCATION),
    ("sslcrldir", NO_REVOCATION),
    ("sslkeylogfile", NO_KEY_LOG),
    ("require_auth", NO_CHOICE_OF_METHOD),
    ("requirepeer", NO_PEER),
    ("passfile", NO_FILE),
    ("service", NO_FILE),
    ("servicefile", NO_FILE),
    ("scram_client_key", NO_KEYS),
    ("scram_server_key", NO_KEYS),
    ("oauth_issuer", NO_OAUTH),
    ("oauth_client_id", NO_OAUTH),
    ("oauth_client_secret", NO_OAUTH),
    ("oauth_scope", NO_OAUTH),
];

const OWN_LIMITS: &str = "talktrack sets its own limits in each transaction";
const NO_GSSAPI: &str = "talktrack does not use GSSAPI";

/// Parameters that have no effect, and why.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("statement_timeout", OWN_LIMITS),
    ("lock_timeout", OWN_LIMITS),
    ("idle_in_transaction_session_timeout", OWN_LIMITS),
    ("transaction_timeout", OWN_LIMITS),
    ("query_timeout", OWN_LIMITS),
    ("command_timeout", OWN_LIMITS),
    ("socket_timeout", OWN_LIMITS),
    ("krbsrvname", NO_GSSAPI),
    ("gsslib", NO_GSSAPI),
    ("replication", "talktrack opens no connection for replication"),
];

/// Parameters that hosting services print for poolers, or that configure the pool, the statement cache or
/// the wire format of another client.
const OF_OTHERS: &[&str] = &[
    "pgbouncer",
    "connection_limit",
    "pool_timeout",
    "supa",
    "statement_cache_size",
    "workaround",
    "uselibpqcompat",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "single_use_connections",
    "max_connection_lifetime",
    "max_idle_connection_lifetime",
    "default_query_exec_mode",
    "binary_parameters",
];

/// The names of other clients for parameters of libpq.
const ALIASES: &[(&str, &str)] = &[
    ("database", "dbname"),
    ("username", "user"),
    ("applicationname", "application_name"),
    ("currentschema", "schema"),
    ("keepalives_retries", "keepalives_count"),
    ("ssl_mode", "sslmode"),
    ("ssl_root_cert", "sslrootcert"),
    ("ssl_ca", "sslrootcert"),
    ("ssl_cert", "sslcert"),
    ("ssl_key", "sslkey"),
];

/// Parts of the names of parameters that affect security. A misspelt one (`sslmod=verify-full`) must not be
/// skipped.
const SECURITY_WORDS: &[&str] = &["ssl", "tls", "gss", "krb", "cert", "auth", "scram", "require", "binding"];

/// Returns libpq's name of the parameter.
pub(super) fn canonical_name(name: &str) -> String {
    let name = name.to_ascii_lowercase().replace('-', "_");
    find(ALIASES, &name).map_or(name, str::to_owned)
}

/// Returns what talktrack does with the parameter of this canonical name.
pub(super) fn treatment_of(name: &str) -> Treatment {
    if CONNECTION.contains(&name) {
        Treatment::Connection
    } else if SECURITY.contains(&name) {
        Treatment::Security
    } else if OF_OTHERS.contains(&name) {
        Treatment::OfOthers
    } else if let Some(reason) = find(REFUSED, name) {
        Treatment::Refused(reason)
    } else if let Some(reason) = find(WITHOUT_EFFECT, name) {
        Treatment::WithoutEffect(reason)
    } else if SECURITY_WORDS.iter().any(|word| name.contains(word)) {
        Treatment::Refused("talktrack does not know it, and its name says that it affects security")
    } else {
        Treatment::Unknown
    }
}

/// True if a parameter has this name. Names that only look as if they affected security do not count.
pub(super) fn is_known(name: &str) -> bool {
    let name = canonical_name(name);
    CONNECTION.contains(&&*name)
        || SECURITY.contains(&&*name)
        || OF_OTHERS.contains(&&*name)
        || find(REFUSED, &name).is_some()
        || find(WITHOUT_EFFECT, &name).is_some()
}

fn find(table: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(entry, _)| *entry == name).map(|(_, value)| *value)
}
