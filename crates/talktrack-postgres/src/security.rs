//! The parameters of a connection string that decide about TLS and authentication. A contradiction, and a
//! value that cannot be honoured, is an error.

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode, SslNegotiation};

use crate::connection_string::InvalidAddress;
use crate::tls::{Roots, TlsOptions, Trust, Versions};

/// The names of the modes. The given one is not shown: if the password contains a question mark, it may be
/// a part of it.
const MODES: &str = "disable, prefer, require, no-verify, verify-ca and verify-full";

/// The value of `sslrootcert` for the certificates of the system.
const SYSTEM: &str = "system";

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    /// With a file of root certificates, as `VerifyCa`.
    Require,
    NoVerify,
    VerifyCa,
    VerifyFull,
}

/// The value of `ssl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ssl {
    Switch(bool),
    Mode(Mode),
}

/// What the parameters so far say.
#[derive(Debug, Default)]
pub(super) struct Security {
    mode: Option<Mode>,
    ssl: Option<Ssl>,
    /// Prisma's `sslaccept`: true if certificates are checked.
    is_strict: Option<bool>,
    roots: Option<Roots>,
    min_version: Option<Version>,
    max_version: Option<Version>,
    is_without_sni: bool,
    negotiation: Option<SslNegotiation>,
    channel_binding: Option<ChannelBinding>,
}

/// The versions of TLS that talktrack speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    /// Also the lower bounds that are older.
    Tls12,
    Tls13,
}

impl Security {
    /// Sets the parameter of this canonical name.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), InvalidAddress> {
        match name {
            "sslmode" => {
                let invalid = || InvalidAddress(format!("has an sslmode that is none of {MODES}"));
                self.mode = Some(parse_mode(value).ok_or_else(invalid)?);
            }
            "ssl" => self.ssl = Some(parse_ssl(value)?),
            // The former name of `sslmode=require`, which `sslmode` overrides.
            "requiressl" if is_on(value) => _ = self.mode.get_or_insert(Mode::Require),
            "sslaccept" => {
                self.is_strict = Some(match value {
                    "strict" => true,
                    "accept_invalid_certs" => false,
                    _ => return Err(InvalidAddress::not_one_of(name, "strict and accept_invalid_certs")),
                });
            }
            "sslrootcert" if value == SYSTEM => self.roots = Some(Roots::System),
            "sslrootcert" => self.roots = Some(Roots::File(value.into())),
            "ssl_min_protocol_version" => self.min_version = Some(parse_min_version(name, value)?),
            "ssl_max_protocol_version" => self.max_version = Some(parse_max_version(name, value)?),
            "sslsni" => self.is_without_sni = !is_on(value),
            "sslnegotiation" => {
                self.negotiation = Some(match value {
                    "postgres" => SslNegotiation::Postgres,
                    "direct" => SslNegotiation::Direct,
                    _ => return Err(InvalidAddress::not_one_of(name, "postgres and direct")),
                });
            }
            "channel_binding" => {
                self.channel_binding = Some(match value {
                    "disable" => ChannelBinding::Disable,
                    "prefer" => ChannelBinding::Prefer,
                    "require" => ChannelBinding::Require,
                    _ => return Err(InvalidAddress::not_one_of(name, "disable, prefer and require")),
                });
            }
            _ => refuse_unless_default(name, value)?,
        }
        Ok(())
    }

    /// Writes the result into `config` and `tls`.
    pub(super) fn configure(
        self,
        config: &mut Config,
        tls: &mut TlsOptions,
        warnings: &mut Vec<String>,
    ) -> Result<(), InvalidAddress> {
        let mode = self.resolve_mode(self.combine_modes()?)?;
        let is_socket = config.get_hosts().iter().any(|host| matches!(host, Host::Unix(_)));
        let mode = self.apply_channel_binding(mode, is_socket, config)?;
        if self.negotiation == Some(SslNegotiation::Direct) {
            if matches!(mode, Mode::Disable | Mode::Prefer) {
                return Err(contradiction("sslnegotiation", "direct needs sslmode=require or stronger"));
            }
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        let has_file = matches!(self.roots, Some(Roots::File(_)));
        if has_file && matches!(mode, Mode::Disable | Mode::Prefer | Mode::NoVerify) {
            let effect =
                "the parameter sslrootcert has no effect: with this sslmode, no certificate is checked";
            warnings.push(effect.to_owned());
        }
        config.ssl_mode(match mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            _ => SslMode::Require,
        });
        *tls = TlsOptions {
            trust: match mode {
                Mode::Require if has_file => Trust::Chain,
                Mode::Disable | Mode::Prefer | Mode::NoVerify | Mode::Require => Trust::Anyone,
                Mode::VerifyCa => Trust::Chain,
                Mode::VerifyFull => Trust::ChainAndName,
            },
            versions: self.versions()?,
            has_sni: !self.is_without_sni,
            is_direct: self.negotiation == Some(SslNegotiation::Direct),
            roots: self.roots.unwrap_or_default(),
        };
        Ok(())
    }

    /// Combines `sslmode`, `ssl` and `sslaccept`.
    fn combine_modes(&self) -> Result<Option<Mode>, InvalidAddress> {
        let is_encrypted = |mode: Mode| !matches!(mode, Mode::Disable | Mode::Prefer);
        let mode = match (self.mode, self.ssl) {
            (mode, None) => mode,
            (None, Some(Ssl::Switch(true))) => Some(Mode::VerifyFull),
            (Some(mode), Some(Ssl::Switch(true))) if is_encrypted(mode) => Some(mode),
            (None | Some(Mode::Disable), Some(Ssl::Switch(false))) => Some(Mode::Disable),
            (None, Some(Ssl::Mode(other))) => Some(other),
            (Some(mode), Some(Ssl::Mode(other))) if mode == other => Some(mode),
            _ => return Err(contradiction("ssl", "it contradicts sslmode")),
        };
        match (mode, self.is_strict) {
            (mode, None) => Ok(mode),
            (Some(Mode::Disable | Mode::NoVerify), Some(true))
            | (Some(Mode::VerifyCa | Mode::VerifyFull), Some(false)) => {
                Err(contradiction("sslaccept", "it contradicts sslmode"))
            }
            (_, Some(true)) => Ok(Some(Mode::VerifyFull)),
            (Some(Mode::Require), Some(false)) => Ok(Some(Mode::NoVerify)),
            (mode, Some(false)) => Ok(Some(mode.unwrap_or(Mode::Prefer))),
        }
    }

    /// Chooses the mode if none is given: a URL that says which certificates to trust wants them checked.
    fn resolve_mode(&self, mode: Option<Mode>) -> Result<Mode, InvalidAddress> {
        match (mode, &self.roots) {
            (None, None) => Ok(Mode::Prefer),
            (None, Some(_)) => Ok(Mode::VerifyFull),
            // Anyone can get a certificate of a public authority, for some name.
            (Some(mode), Some(Roots::System)) if mode != Mode::VerifyFull => {
                Err(contradiction("sslrootcert", "system needs sslmode=verify-full"))
            }
            (Some(mode), _) => Ok(mode),
        }
    }

    /// Channel binding needs TLS.
    fn apply_channel_binding(
        &self,
        mode: Mode,
        is_socket: bool,
        config: &mut Config,
    ) -> Result<Mode, InvalidAddress> {
        let Some(binding) = self.channel_binding else { return Ok(mode) };
        config.channel_binding(binding);
        match mode {
            _ if binding != ChannelBinding::Require => Ok(mode),
            _ if is_socket => {
                Err(contradiction("channel_binding", "require needs TLS, which a socket does not have"))
            }
            Mode::Disable => {
                Err(contradiction("channel_binding", "require needs TLS, which sslmode disables"))
            }
            Mode::Prefer => Ok(Mode::NoVerify),
            _ => Ok(mode),
        }
    }

    fn versions(&self) -> Result<Versions, InvalidAddress> {
        match (self.min_version, self.max_version) {
            (Some(Version::Tls13), Some(Version::Tls12)) => {
                Err(contradiction("ssl_min_protocol_version", "it is above ssl_max_protocol_version"))
            }
            (Some(Version::Tls13), _) => Ok(Versions::From13),
            (_, Some(Version::Tls12)) => Ok(Versions::UpTo12),
            _ => Ok(Versions::All),
        }
    }
}

fn parse_mode(text: &str) -> Option<Mode> {
    Some(match &*text.to_ascii_lowercase() {
        "disable" => Mode::Disable,
        "prefer" | "allow" => Mode::Prefer,
        "require" => Mode::Require,
        "no-verify" => Mode::NoVerify,
        "verify-ca" => Mode::VerifyCa,
        "verify-full" => Mode::VerifyFull,
        _ => return None,
    })
}

fn parse_ssl(text: &str) -> Result<Ssl, InvalidAddress> {
    match &*text.to_ascii_lowercase() {
        "" | "true" | "1" | "on" | "yes" => Ok(Ssl::Switch(true)),
        "false" | "0" | "off" | "no" => Ok(Ssl::Switch(false)),
        other => parse_mode(other)
            .map(Ssl::Mode)
            .ok_or_else(|| InvalidAddress::not_one_of("ssl", &format!("true, false, {MODES}"))),
    }
}

/// Older versions than 1.2 are not spoken, so a lower bound that allows them is kept.
fn parse_min_version(name: &str, text: &str) -> Result<Version, InvalidAddress> {
    match &*text.to_ascii_lowercase() {
        "tlsv1" | "tlsv1.0" | "tlsv1.1" | "tlsv1.2" => Ok(Version::Tls12),
        "tlsv1.3" => Ok(Version::Tls13),
        _ => Err(InvalidAddress::not_one_of(name, "TLSv1, TLSv1.1, TLSv1.2 and TLSv1.3")),
    }
}

fn parse_max_version(name: &str, text: &str) -> Result<Version, InvalidAddress> {
    match &*text.to_ascii_lowercase() {
        "tlsv1.2" => Ok(Version::Tls12),
        "tlsv1.3" => Ok(Version::Tls13),
        _ => Err(InvalidAddress::not_one_of(name, "TLSv1.2 and TLSv1.3: talktrack speaks no older version")),
    }
}

/// Refuses parameters of which talktrack can only do what they mean by default.
fn refuse_unless_default(name: &str, value: &str) -> Result<(), InvalidAddress> {
    let (defaults, missing): (&[&str], _) = match name {
        "gssencmode" => (&["disable", "prefer"], "talktrack cannot encrypt by GSSAPI; use sslmode"),
        "gssdelegation" => (&["0"], "talktrack has no GSSAPI credentials"),
        "sslcertmode" => (&["disable", "allow"], "talktrack has no client certificate"),
        // libpq ignores a wish for compression that it cannot fulfil.
        "sslcompression" => (&["0", "1"], "it must be 0 or 1"),
        "min_protocol_version" => (&["3.0"], "talktrack speaks version 3.0 of PostgreSQL's protocol"),
        "max_protocol_version" => {
            (&["3.0", "3.2", "latest"], "talktrack speaks version 3.0 of PostgreSQL's protocol")
        }
        "requiressl" => (&["0"], "it must be 0 or 1"),
        _ => (&[], "talktrack does not know it"),
    };
    if defaults.contains(&value) {
        return Ok(());
    }
    Err(InvalidAddress(format!("the value of the parameter {name} cannot be honoured: {missing}; remove it")))
}

fn is_on(text: &str) -> bool {
    matches!(text, "1" | "true" | "on")
}

fn contradiction(name: &str, problem: &str) -> InvalidAddress {
    InvalidAddress(format!("the parameter {name} cannot be honoured: {problem}"))
}
