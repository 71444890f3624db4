//! The list of settings: the single source of the names of flags, environment variables and keys in files.

/// One setting.
#[derive(Debug)]
pub(super) struct Setting {
    /// The key in a settings file.
    pub(super) key: &'static str,
    /// The name of the flag without the dashes.
    pub(super) flag: &'static str,
    /// The placeholder of the value in the help.
    pub(super) value: &'static str,
    /// The description in the help.
    pub(super) help: &'static str,
}

impl Setting {
    const fn new(key: &'static str, flag: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { key, flag, value, help }
    }

    /// Returns the name of the environment variable.
    pub(super) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.key.to_ascii_uppercase())
    }

    /// Finds a setting by its key.
    pub(super) fn by_key(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }
}

/// The prefix of environment variables. A variable with this prefix that is not a setting is an error.
pub(super) const VARIABLE_PREFIX: &str = "TALKTRACK_";

/// The variable that names the settings file, as `--config` does.
pub(super) const CONFIG_VARIABLE: &str = "TALKTRACK_CONFIG";

/// The variable that names the data directory, as `--data-dir` does.
pub(super) const DATA_DIR_VARIABLE: &str = "TALKTRACK_DATA_DIR";

/// Variables of clients and tests, which have the prefix but are neither settings nor errors.
pub(super) const NO_SETTINGS: [&str; 11] = [
    TOKEN_VARIABLE,
    URL_VARIABLE,
    "TALKTRACK_USER_ID",
    "TALKTRACK_SPOOL_DIR",
    "TALKTRACK_SEED",
    "TALKTRACK_FAULTS",
    "TALKTRACK_REQUIRE_ALL",
    "TALKTRACK_SKIPPED",
    "TALKTRACK_SOAK_MINUTES",
    "TALKTRACK_BENCH",
    "TALKTRACK_BENCH_MESSAGES",
];

/// The variable with the URL of the server that commands ask. It belongs to the person who runs a command, and is not a
/// setting.
pub(crate) const URL_VARIABLE: &str = "TALKTRACK_URL";

/// The variable with the token of `talktrack client`. It is a secret of the person who runs the client, not a setting.
pub(crate) const TOKEN_VARIABLE: &str = "TALKTRACK_TOKEN";

/// Names of variables that other programs use for some settings. The setting's own variable overrides them.
pub(super) const USUAL_VARIABLES: &[(&str, &str)] = &[
    ("DATABASE_URL", "database_url"),
    ("SUPABASE_URL", "supabase_url"),
    ("SUPABASE_JWT_SECRET", "supabase_jwt_secret"),
];

/// All settings, in the order of the default file.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "listen",
        "listen",
        "ADDRESS",
        "The address on which the server listens; port 0 picks a free port",
    ),
    Setting::new(
        "data_dir",
        "data-dir",
        "DIR",
        "The directory with the database, the lock and the listen file",
    ),
    Setting::new(
        "database_url",
        "database-url",
        "URL",
        "The store, as sqlite://PATH or postgres://… [default: talktrack.db in the data directory]",
    ),
    Setting::new(
        "audio_store",
        "audio-store",
        "URL",
        "The store of recordings, as s3://BUCKET/PREFIX [default: audio/ in the data directory]",
    ),
    Setting::new("audio_endpoint", "audio-endpoint", "URL", "The server of the bucket, if it is not AWS"),
    Setting::new("audio_region", "audio-region", "NAME", "The region of the bucket"),
    Setting::new("audio_access_key_id", "audio-access-key-id", "ID", "The access key for the bucket"),
    Setting::new(
        "audio_secret_access_key",
        "audio-secret-access-key",
        "SECRET",
        "The secret of the access key; set it in the environment, because other users can see flags",
    ),
    Setting::new("max_audio_bytes", "max-audio-bytes", "SIZE", "Maximum size of a recording"),
    Setting::new(
        "max_audio_bytes_per_user",
        "max-audio-bytes-per-user",
        "SIZE",
        "Maximum bytes of all recordings of a user who uploads with a token, or off",
    ),
    Setting::new(
        "max_audio_bytes_total",
        "max-audio-bytes-total",
        "SIZE",
        "Maximum bytes of all recordings, or off",
    ),
    Setting::new(
        "api_keys",
        "api-keys",
        "LIST",
        "The API keys of servers, as `talktrack keys new` prints them",
    ),
    Setting::new(
        "api_keys_file",
        "api-keys-file",
        "FILE",
        "File with further API keys, one per line; changes apply without a restart (`talktrack keys`)",
    ),
    Setting::new(
        "supabase_url",
        "supabase-url",
        "URL",
        "The Supabase project whose users' tokens are accepted",
    ),
    Setting::new(
        "supabase_jwt_secret",
        "supabase-jwt-secret",
        "SECRET",
        "The secret of HS256 tokens; set it in the environment, because other users can see flags",
    ),
    Setting::new("jwt_audience", "jwt-audience", "NAME", "The required audience (aud) of users' tokens"),
    Setting::new(
        "jwt_issuer",
        "jwt-issuer",
        "URL",
        "The required issuer (iss) of users' tokens [default: SUPABASE_URL/auth/v1 if supabase_url is set]",
    ),
    Setting::new(
        "user_access",
        "user-access",
        "RIGHTS",
        "What users' tokens may do: read, read+write or read+write+delete",
    ),
    Setting::new(
        "login_idle_timeout",
        "login-idle-timeout",
        "DURATION",
        "A login to the dashboard ends if it is not used for this long",
    ),
    Setting::new(
        "login_max_age",
        "login-max-age",
        "DURATION",
        "A login to the dashboard ends after this long",
    ),
    Setting::new("audit_file_bytes", "audit-file-bytes", "SIZE", "Maximum size of a file of the audit log"),
    Setting::new("audit_files", "audit-files", "N", "Number of files of the audit log that are kept"),
    Setting::new(
        "allowed_origins",
        "allowed-origins",
        "LIST",
        "Origins of other pages that may connect, in addition to those of this machine",
    ),
    Setting::new("queue_capacity", "queue-capacity", "N", "Maximum number of messages that wait in memory"),
    Setting::new("queue_bytes", "queue-bytes", "SIZE", "Maximum bytes that wait in memory"),
    Setting::new(
        "journal_max_bytes",
        "journal-max-bytes",
        "SIZE",
        "Maximum bytes that wait on disk for a remote store",
    ),
    Setting::new(
        "resend_window",
        "resend-window",
        "DURATION",
        "How long messages are kept after PostgreSQL confirmed them, in case it loses them",
    ),
    Setting::new(
        "resend_window_max_bytes",
        "resend-window-max-bytes",
        "SIZE",
        "Maximum bytes of these messages",
    ),
    Setting::new(
        "unknown_session_wait",
        "unknown-session-wait",
        "DURATION",
        "How long records wait for a session that PostgreSQL does not know",
    ),
    Setting::new("grace_period", "grace-period", "DURATION", "How long an ended session stays in memory"),
    Setting::new(
        "idle_timeout",
        "idle-timeout",
        "DURATION",
        "A session without activity for this long is abandoned",
    ),
    Setting::new(
        "retention_days",
        "retention-days",
        "DAYS",
        "A session without activity for this many days is deleted; 0 keeps all sessions",
    ),
    Setting::new(
        "audio_retention_days",
        "audio-retention-days",
        "DAYS",
        "A recording that is this many days old is deleted, its session is not; 0 keeps all recordings",
    ),
    Setting::new(
        "max_message_bytes",
        "max-message-bytes",
        "SIZE",
        "Maximum size of a message, all its text fields together",
    ),
    Setting::new("max_body_bytes", "max-body-bytes", "SIZE", "Maximum size of the body of an HTTP request"),
    Setting::new("max_connections", "max-connections", "N", "Maximum number of WebSocket connections"),
    Setting::new(
        "max_http_connections",
        "max-http-connections",
        "N",
        "Maximum number of connections that are not WebSockets",
    ),
    Setting::new(
        "max_connections_per_address",
        "max-connections-per-address",
        "N",
        "Maximum number of connections from one address, or off",
    ),
    Setting::new(
        "max_http_connections_per_address",
        "max-http-connections-per-address",
        "COUNT",
        "Maximum number of connections from one address that are not WebSockets, or off",
    ),
    Setting::new(
        "max_connections_per_user",
        "max-connections-per-user",
        "COUNT",
        "Maximum number of WebSockets and event listeners of a user with a token, or off",
    ),
    Setting::new(
        "rate_per_key",
        "rate-per-key",
        "RATE",
        "Rate limit for requests and frames of an API key, such as 100/s, or off",
    ),
    Setting::new(
        "rate_per_user",
        "rate-per-user",
        "RATE",
        "Rate limit for requests and frames of a user with a token, such as 100/s, or off",
    ),
    Setting::new(
        "bytes_per_user",
        "bytes-per-user",
        "RATE",
        "Rate limit for the bytes of bodies and frames of a user with a token, such as 4MiB/s, or off",
    ),
    Setting::new(
        "read_bytes_per_user",
        "read-bytes-per-user",
        "RATE",
        "Rate limit for the bytes that a user with a token reads, such as 8MiB/s, or off",
    ),
    Setting::new(
        "max_exports_per_user",
        "max-exports-per-user",
        "COUNT",
        "Maximum number of concurrent exports of a user with a token, or off",
    ),
    Setting::new(
        "max_exports_per_key",
        "max-exports-per-key",
        "COUNT",
        "Maximum number of concurrent exports of an API key, or off",
    ),
    Setting::new(
        "dead_letter_bytes_per_user",
        "dead-letter-bytes-per-user",
        "SIZE",
        "Maximum bytes of the dead letters of a user with a token, or off",
    ),
    Setting::new(
        "rate_unauthenticated",
        "rate-unauthenticated",
        "RATE",
        "Rate limit for requests from one address without a valid key or token, such as 100/s, or off",
    ),
    Setting::new(
        "rate_per_address",
        "rate-per-address",
        "RATE",
        "Rate limit for requests and frames from one address, such as 100/s, or off",
    ),
    Setting::new(
        "trusted_proxies",
        "trusted-proxies",
        "LIST",
        "Addresses or networks of proxies whose X-Forwarded-For is trusted",
    ),
    Setting::new(
        "base_path",
        "base-path",
        "PATH",
        "The path below which browsers reach the server, if a proxy serves it below one",
    ),
    Setting::new(
        "request_timeout",
        "request-timeout",
        "DURATION",
        "How long a request may take until its answer begins",
    ),
    Setting::new("max_listeners", "max-listeners", "N", "Maximum number of listeners to live events"),
    Setting::new("ping_interval", "ping-interval", "DURATION", "How often each connection is pinged"),
    Setting::new(
        "peer_timeout",
        "peer-timeout",
        "DURATION",
        "A peer that is silent for this long is disconnected",
    ),
    Setting::new("shutdown_deadline", "shutdown-deadline", "DURATION", "How long an orderly stop may take"),
    Setting::new(
        "search",
        "search",
        "BOOL",
        "Maintain the search index, with which messages are found by their words",
    ),
    Setting::new("stats", "stats", "BOOL", "Maintain the statistics over time"),
    Setting::new(
        "log_format",
        "log-format",
        "FORMAT",
        "The log format: text, or json with one object per line",
    ),
    Setting::new("log_file", "log-file", "FILE", "Append the log to this file, in addition to stdout"),
    Setting::new("log_level", "log-level", "LEVEL", "The log level: error, warn, info, debug, trace or off"),
];
