//! The settings. They are read from all layers at the start, validated once and never changed. An invalid setting stops
//! the start with one line that names the setting, where it was set, and what is expected.

mod api_key;
mod audio;
mod flags;
mod identity;
mod layers;
mod limits;
mod parse;
mod settings;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use talktrack::Options;
use talktrack::store::postgres::Address;
use tracing::level_filters::LevelFilter;

pub(crate) use api_key::{ApiKey, Scope, Scopes, check_name, parse_key_networks, parse_key_users};
pub(crate) use audio::{AudioQuotas, AudioStore, S3};
pub(crate) use flags::{DataLocation, KeyLocation, SettingFlags};
pub(crate) use identity::{Identity, KeySettings, UserAccess};
pub(crate) use limits::{AuditFiles, CallerLimits, Network, Rate};
pub(crate) use parse::duration as parse_duration;
pub(crate) use settings::{TOKEN_VARIABLE, URL_VARIABLE};

use layers::Layers;

use crate::error::Failure;
use crate::path_prefix::PathPrefix;

/// The maximum size of a frame in bytes. It is fixed by the protocol, so that every client can rely on it.
pub(crate) const MAX_FRAME_BYTES: usize = 8 << 20;

/// All settings. `config.default.toml` documents each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) data_dir: PathBuf,
    /// The store of the conversations.
    pub(crate) database: Database,
    /// The store of the recordings.
    pub(crate) audio_store: AudioStore,
    pub(crate) max_audio_bytes: u64,
    pub(crate) audio_quotas: AudioQuotas,
    pub(crate) identity: Identity,
    /// A login to the dashboard ends if it was not used for this long.
    pub(crate) login_idle_timeout: Duration,
    /// A login to the dashboard ends this long after it began.
    pub(crate) login_max_age: Duration,
    /// How much of the audit log is kept.
    pub(crate) audit: AuditFiles,
    /// The origins of other pages that may connect from a browser, in lower case.
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) queue_capacity: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) journal_max_bytes: u64,
    pub(crate) resend_window: Duration,
    pub(crate) resend_window_max_bytes: u64,
    pub(crate) unknown_session_wait: Duration,
    pub(crate) grace_period: Duration,
    pub(crate) idle_timeout: Duration,
    /// How long a session is kept after its last event; `None` keeps it without limit.
    pub(crate) retention: Option<Duration>,
    /// How long a recording is kept after it arrived; `None` keeps it as long as its session.
    pub(crate) audio_retention: Option<Duration>,
    pub(crate) max_message_bytes: usize,
    pub(crate) max_body_bytes: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_http_connections: usize,
    pub(crate) caller_limits: CallerLimits,
    /// The proxies whose `X-Forwarded-For` is trusted.
    pub(crate) trusted_proxies: Vec<Network>,
    /// The path below which browsers reach the server, if no trusted proxy reports another.
    pub(crate) base_path: PathPrefix,
    pub(crate) request_timeout: Duration,
    pub(crate) max_listeners: usize,
    pub(crate) ping_interval: Duration,
    pub(crate) peer_timeout: Duration,
    pub(crate) shutdown_deadline: Duration,
    pub(crate) search: bool,
    pub(crate) stats: bool,
    pub(crate) log_format: LogFormat,
    pub(crate) log_file: Option<PathBuf>,
    pub(crate) log_level: LevelFilter,
    /// Every setting as it was given, without secrets, for the audit log.
    pub(crate) told: Vec<(&'static str, String)>,
}

/// The store that `database_url` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Database {
    /// A SQLite file; `None` for the one in `data_dir`.
    File(Option<PathBuf>),
    /// A PostgreSQL database.
    Postgres(Box<Address>),
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

impl Config {
    /// Reads the settings of this process. `flags` override all other layers.
    ///
    /// # Errors
    /// Names the first unknown or invalid setting.
    pub(crate) fn load(config: Option<&Path>, flags: &[(&'static str, String)]) -> Result<Self, Failure> {
        let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        Self::from_layers(&Layers::gather(config, &environment, flags)?)
    }

    fn from_layers(layers: &Layers) -> Result<Self, Failure> {
        let max_message = |text: &str| match parse::memory(text)? {
            size if size <= limits::MOST_MESSAGE_BYTES => Ok(size),
            _ => Err(format!("must be at most 1MiB, not {text:?}")),
        };
        let max_message_bytes = layers.get("max_message_bytes", max_message)?;
        let queue_bytes = |text: &str| match parse::memory(text)? {
            size if size >= max_message_bytes => Ok(size),
            _ => Err(format!("must be at least max_message_bytes ({max_message_bytes}), not {text:?}")),
        };
        let ping_interval = layers.get("ping_interval", parse::duration)?;
        let peer_timeout = |text: &str| match parse::duration(text)? {
            timeout if timeout > ping_interval => Ok(timeout),
            _ => Err(format!("must be longer than ping_interval ({ping_interval:?}), not {text:?}")),
        };
        let idle_timeout = layers.get("idle_timeout", parse::duration)?;
        let identity = read_identity(layers)?;
        let is_open = !identity.is_configured();
        Ok(Self {
            listen: layers.get("listen", |text| parse_listen(text, is_open))?,
            data_dir: layers.get("data_dir", parse::path)?,
            database: layers.get("database_url", parse::database)?,
            audio_store: AudioStore::read(layers)?,
            max_audio_bytes: layers.get("max_audio_bytes", parse::size)?,
            audio_quotas: AudioQuotas::read(layers)?,
            identity,
            login_idle_timeout: layers.get("login_idle_timeout", parse::duration)?,
            login_max_age: layers.get("login_max_age", parse::duration)?,
            audit: AuditFiles::read(layers)?,
            allowed_origins: layers.get("allowed_origins", |text| parse::origins(text, is_open))?,
            queue_capacity: layers.get("queue_capacity", parse::count)?,
            queue_bytes: layers.get("queue_bytes", queue_bytes)?,
            journal_max_bytes: layers.get("journal_max_bytes", parse::size)?,
            resend_window: layers.get("resend_window", parse::duration)?,
            resend_window_max_bytes: layers.get("resend_window_max_bytes", parse::size)?,
            unknown_session_wait: layers.get("unknown_session_wait", parse::duration)?,
            grace_period: layers.get("grace_period", parse::duration)?,
            idle_timeout,
            retention: layers.get("retention_days", parse::days)?,
            audio_retention: layers.get("audio_retention_days", parse::days)?,
            max_message_bytes,
            max_body_bytes: layers.get("max_body_bytes", parse::memory)?,
            max_connections: layers.get("max_connections", parse::count)?,
            max_http_connections: layers.get("max_http_connections", parse::count)?,
            caller_limits: CallerLimits::read(layers)?,
            trusted_proxies: layers.get("trusted_proxies", limits::parse_networks)?,
            base_path: layers.get("base_path", parse::base_path)?,
            request_timeout: layers.get("request_timeout", parse::duration)?,
            max_listeners: layers.get("max_listeners", parse::count)?,
            // A connection that answers pings keeps its session active, so it must be pinged before the idle timeout.
            ping_interval: ping_interval.min(idle_timeout / 2),
            peer_timeout: layers.get("peer_timeout", peer_timeout)?,
            shutdown_deadline: layers.get("shutdown_deadline", parse::duration)?,
            search: layers.get("search", parse::switch)?,
            stats: layers.get("stats", parse::switch)?,
            log_format: layers.get("log_format", parse::log_format)?,
            log_file: layers.get("log_file", parse::optional_path)?,
            log_level: layers.get("log_level", parse::log_level)?,
            told: layers.without_secrets(),
        })
    }

    /// Returns the options of the tracker.
    pub(crate) fn options(&self) -> Options {
        let database_file = match &self.database {
            Database::File(path) => path.clone(),
            Database::Postgres(_) => None,
        };
        Options::new(&self.data_dir)
            .with_database_file(database_file)
            .with_queue_capacity(self.queue_capacity)
            .with_queue_bytes(self.queue_bytes)
            .with_journal_max_bytes(self.journal_max_bytes)
            .with_resend_window(self.resend_window)
            .with_resend_window_max_bytes(self.resend_window_max_bytes)
            .with_unknown_session_wait(self.unknown_session_wait)
            .with_grace_period(self.grace_period)
            .with_idle_timeout(self.idle_timeout)
            .with_max_message_bytes(self.max_message_bytes)
            .with_search(self.search)
            .with_stats(self.stats)
    }

    /// Returns the path of the local SQLite file: the store, or the outbox of a remote one.
    pub(crate) fn local_file(&self) -> PathBuf {
        self.options().database_file()
    }
}

fn read_identity(layers: &Layers) -> Result<Identity, Failure> {
    let supabase_url = layers.get("supabase_url", identity::parse_supabase_url)?;
    let issuer = layers.get("jwt_issuer", parse::optional_text)?;
    let of_project = || supabase_url.as_ref().map(|url| format!("{url}/auth/v1"));
    Ok(Identity {
        api_keys: layers.get("api_keys", identity::parse_api_keys)?,
        api_keys_file: layers.get("api_keys_file", parse::optional_path)?,
        jwt_issuer: issuer.or_else(of_project),
        supabase_url,
        supabase_jwt_secret: layers.get("supabase_jwt_secret", identity::parse_jwt_secret)?,
        jwt_audience: layers.get("jwt_audience", parse::text)?,
        user_access: layers.get("user_access", identity::parse_user_access)?,
    })
}

/// Parses the listen address. If no identity is checked, only this machine may connect.
fn parse_listen(text: &str, is_open: bool) -> Result<SocketAddr, String> {
    match parse::address(text)? {
        address if is_open && !address.ip().is_loopback() => Err(format!(
            "must be a loopback address such as 127.0.0.1:8080, not {address}: no authentication is configured (api_keys, \
             api_keys_file, supabase_url or supabase_jwt_secret), so the server listens on its own machine only"
        )),
        address => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::settings::SETTINGS;
    use super::*;

    fn load(environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Config, Failure> {
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let flags: Vec<_> = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Config::from_layers(&Layers::gather(None, &environment, &flags)?)
    }

    fn complaint(environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> String {
        load(environment, flags).unwrap_err().to_string()
    }

    #[test]
    fn the_default_file_gives_every_setting_the_default_of_the_library() {
        let table: toml::Table = layers::DEFAULTS.parse().unwrap();
        let listed: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
        assert_eq!(table.len(), listed.len());
        assert!(listed.iter().all(|key| table.contains_key(*key)), "{listed:?}");
        assert!(SETTINGS.iter().all(|setting| setting.flag == setting.key.replace('_', "-")));

        let config = load(&[], &[]).unwrap();
        let ours = config.options();
        let theirs = Options::new("./talktrack-data");
        assert_eq!(
            (&ours.data_dir, ours.queue_capacity, ours.queue_bytes, ours.journal_max_bytes),
            (&theirs.data_dir, theirs.queue_capacity, theirs.queue_bytes, theirs.journal_max_bytes)
        );
        let times = |options: &Options| {
            let Options { resend_window, unknown_session_wait, grace_period, idle_timeout, .. } = options;
            [*resend_window, *unknown_session_wait, *grace_period, *idle_timeout]
        };
        assert_eq!(times(&ours), times(&theirs));
        let bytes = |options: &Options| (options.resend_window_max_bytes, options.max_message_bytes);
        assert_eq!(bytes(&ours), bytes(&theirs));
        assert_eq!((config.listen.to_string().as_str(), config.max_connections), ("127.0.0.1:8080", 10_000));
        assert_eq!((config.log_file, config.log_level), (None, LevelFilter::INFO));
        assert_eq!(config.database, Database::File(None));
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_defaults() {
        let environment = [
            ("TALKTRACK_QUEUE_CAPACITY", "7"),
            ("TALKTRACK_IDLE_TIMEOUT", "90s"),
            ("TALKTRACK_TOKEN", "tt_"),
        ];
        let config = load(&environment, &[("queue_capacity", "8"), ("queue_bytes", "2 mib")]).unwrap();
        assert_eq!((config.queue_capacity, config.queue_bytes), (8, 2 << 20));
        assert_eq!(
            (config.idle_timeout, config.grace_period),
            (Duration::from_secs(90), Duration::from_secs(60))
        );
    }

    #[test]
    fn a_connection_is_pinged_at_least_twice_before_its_session_counts_as_idle() {
        let ping = |idle| load(&[], &[("idle_timeout", idle)]).unwrap().ping_interval;
        assert_eq!((ping("30m"), ping("10s")), (Duration::from_secs(20), Duration::from_secs(5)));
    }

    #[test]
    fn the_own_database_url_wins_over_the_usual_one_in_whatever_order_they_come() {
        let own = ("TALKTRACK_DATABASE_URL", "sqlite:///a/b.db");
        let usual = ("DATABASE_URL", "sqlite://c.db");
        for environment in [[own, usual], [usual, own]] {
            assert_eq!(load(&environment, &[]).unwrap().database, Database::File(Some("/a/b.db".into())));
        }
        assert_eq!(load(&[usual], &[]).unwrap().local_file(), Path::new("c.db"));
        assert_eq!(load(&[], &[("data_dir", "d")]).unwrap().local_file(), Path::new("d/talktrack.db"));
    }

    #[test]
    fn a_bad_setting_is_named_with_its_origin_and_what_is_expected() {
        for (environment, flags, expected) in [
            (
                &[("TALKTRACK_QUEUE_CAPACITY", "many")][..],
                &[][..],
                "queue_capacity: must be a whole number of at least 1, not \"many\" \
                 (set by the environment variable TALKTRACK_QUEUE_CAPACITY)",
            ),
            (
                &[],
                &[("grace_period", "60")],
                "grace_period: must be a duration such as 500ms, 60s or 30m, not \"60\" (set by the flag --grace-period)",
            ),
            (
                &[],
                &[("queue_bytes", "1KiB")],
                "queue_bytes: must be at least max_message_bytes (1048576), not \"1KiB\" (set by the flag --queue-bytes)",
            ),
            (
                &[],
                &[("max_message_bytes", "2MiB")],
                "max_message_bytes: must be at most 1MiB, not \"2MiB\" (set by the flag --max-message-bytes)",
            ),
            (
                &[],
                &[("peer_timeout", "20s")],
                "peer_timeout: must be longer than ping_interval (20s), not \"20s\" (set by the flag --peer-timeout)",
            ),
        ] {
            assert_eq!(complaint(environment, flags), expected);
        }
        let line = complaint(&[], &[("listen", "0.0.0.0:8080")]);
        assert!(
            line.starts_with("listen: must be a loopback address") && line.contains("no authentication"),
            "{line}"
        );
        let line = complaint(&[("TALKTRACK_LISTN", "x")], &[]);
        assert!(line.starts_with("unknown setting: the environment variable TALKTRACK_LISTN;"), "{line}");
    }

    #[test]
    fn a_secret_in_a_database_url_is_not_repeated() {
        for url in [
            "postgres://me:hunter2@db/x?sslmode=hunter2",
            "postgresql://me:hunter2@[db/x",
            "mysql://me:hunter2@db/x",
            "hunter2",
        ] {
            let line = complaint(&[("DATABASE_URL", url)], &[]);
            assert!(line.starts_with("database_url: ") && line.contains("DATABASE_URL"), "{line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
        let config = load(&[("DATABASE_URL", "Postgres://me:hunter2@db/x")], &[]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.local_file(), Path::new("./talktrack-data/talktrack.db"), "the outbox");
    }

    #[test]
    fn a_settings_file_is_read_and_its_faults_are_named_with_its_path_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Config::from_layers(&Layers::gather(Some(&path), &[], &[])?)
        };
        assert_eq!(read("queue_capacity = 12\nlog_format = \"json\"").unwrap().queue_capacity, 12);
        let shown = path.display();
        for (text, expected) in [
            ("listn = 1", format!("unknown setting: listn in {shown};")),
            ("\nlisten = \"x", format!("{shown}: line 2: ")),
            (
                "queue_capacity = 1.5",
                format!("queue_capacity: must be a string or a whole number (set in {shown})"),
            ),
            ("queue_capacity = 0", "queue_capacity: must be a whole number of at least 1".to_owned()),
        ] {
            let line = read(text).unwrap_err().to_string();
            assert!(line.starts_with(&expected) && line.lines().count() == 1, "{line}");
        }
        let gone = Layers::gather(Some(&dir.path().join("gone.toml")), &[], &[]).unwrap_err().to_string();
        assert!(gone.starts_with("cannot read the settings file "), "{gone}");
    }
}
