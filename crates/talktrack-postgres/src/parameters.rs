//! What the parameters of a connection string mean: the driver's configuration, TLS, and warnings about
//! parameters without effect. Names and meanings are those of libpq.

use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};

use crate::connection_string::{InvalidAddress, Parameter, Parts};
use crate::hosts::Hosts;
use crate::parameter_names::{Treatment, canonical_name, treatment_of};
use crate::security::Security;
use crate::tls::TlsOptions;

/// The only schema in which talktrack can work.
const SCHEMA: &str = "public";

/// What a connection string says.
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) tls: TlsOptions,
    /// A line for each parameter that has no effect.
    pub(super) warnings: Vec<String>,
}

/// Interprets the parts of a connection string.
///
/// # Errors
/// If a parameter has an invalid value, or affects security and cannot be honoured. The error names the
/// parameter but not its value.
pub(super) fn interpret(parts: Parts) -> Result<Settings, InvalidAddress> {
    let mut draft = Draft::default();
    for parameter in &parts.parameters {
        draft.set(parameter)?;
    }
    let Draft { hosts, mut config, security, fallback_name, mut warnings } = draft;
    hosts.configure(parts.authority, &mut config)?;
    if config.get_application_name().is_none() {
        config.application_name(fallback_name.as_deref().unwrap_or("talktrack"));
    }
    let mut tls = TlsOptions::default();
    security.configure(&mut config, &mut tls, &mut warnings)?;
    if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) {
        // No server encrypts a connection within the machine.
        config.ssl_mode(SslMode::Disable);
    }
    Ok(Settings { config, tls, warnings })
}

/// What the parameters so far say.
#[derive(Default)]
struct Draft {
    hosts: Hosts,
    config: Config,
    security: Security,
    fallback_name: Option<String>,
    warnings: Vec<String>,
}

impl Draft {
    fn set(&mut self, parameter: &Parameter) -> Result<(), InvalidAddress> {
        let shown = parameter.shown_name();
        let name = canonical_name(&parameter.name);
        let treatment = treatment_of(&name);
        let is_known = treatment != Treatment::Unknown;
        // An empty value is none, as for libpq. An empty `ssl` is a switch.
        if is_known && parameter.value.is_empty() && name != "ssl" {
            return Ok(());
        }
        match treatment {
            Treatment::Connection => self.set_connection(&name, parameter)?,
            Treatment::Security => self.security.set(&name, &text_of(parameter)?)?,
            Treatment::Refused(reason) => {
                return Err(InvalidAddress(format!(
                    "the parameter {shown} cannot be honoured: {reason}; remove it"
                )));
            }
            Treatment::OfOthers => {}
            Treatment::WithoutEffect(reason) => self.warn(shown, reason),
            Treatment::Unknown => self.warn(shown, "talktrack does not know it"),
        }
        Ok(())
    }

    fn warn(&mut self, name: &str, reason: &str) {
        let warning = format!("the parameter {name} has no effect: {reason}");
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn set_connection(&mut self, name: &str, parameter: &Parameter) -> Result<(), InvalidAddress> {
        match name {
            // A password and the path of a socket need not be UTF-8.
            "password" => _ = self.config.password(&parameter.value),
            "host" | "unix_sock" => self.hosts.add_hosts(&parameter.value)?,
            _ => return self.set_text(name, &text_of(parameter)?),
        }
        Ok(())
    }

    fn set_text(&mut self, name: &str, text: &str) -> Result<(), InvalidAddress> {
        let config = &mut self.config;
        match name {
            "hostaddr" => self.hosts.add_addresses(text)?,
            "port" => self.hosts.add_ports(text)?,
            "user" => _ = config.user(text),
            "dbname" => _ = config.dbname(text),
            "application_name" => _ = config.application_name(text),
            "fallback_application_name" => self.fallback_name = Some(text.to_owned()),
            "options" => {
                check_search_path_in(text)?;
                config.options(text);
            }
            "target_session_attrs" => self.set_target(text)?,
            "load_balance_hosts" => {
                config.load_balance_hosts(match text {
                    "disable" => LoadBalanceHosts::Disable,
                    "random" => LoadBalanceHosts::Random,
                    _ => return Err(InvalidAddress::not_one_of(name, "disable and random")),
                });
            }
            "client_encoding" if !is_utf8(text) => {
                self.warn(name, "talktrack always sends and reads UTF-8");
            }
            "schema" if text != SCHEMA => return Err(other_schema(name)),
            "client_encoding" | "schema" => {}
            "search_path" => check_search_path(name, text)?,
            _ => self.set_number(name, text)?,
        }
        Ok(())
    }

    fn set_target(&mut self, text: &str) -> Result<(), InvalidAddress> {
        const NAME: &str = "target_session_attrs";
        let target = match text {
            "any" => TargetSessionAttrs::Any,
            "read-write" | "primary" => TargetSessionAttrs::ReadWrite,
            "read-only" | "standby" => TargetSessionAttrs::ReadOnly,
            "prefer-standby" => {
                self.warn(NAME, "talktrack cannot prefer a standby; it takes any server");
                TargetSessionAttrs::Any
            }
            _ => {
                let values = "any, read-write, read-only, primary, standby and prefer-standby";
                return Err(InvalidAddress::not_one_of(NAME, values));
            }
        };
        self.config.target_session_attrs(target);
        Ok(())
    }

    /// Sets a number. A timeout of 0 or less is none, so that talktrack's own applies.
    fn set_number(&mut self, name: &str, text: &str) -> Result<(), InvalidAddress> {
        let config = &mut self.config;
        let number: i32 = text.trim().parse().map_err(|_| {
            let unit = if name == "tcp_user_timeout" { "a number of milliseconds" } else { "a whole number" };
            InvalidAddress(format!("the parameter {name} must be {unit}"))
        })?;
        let Some(positive) = u32::try_from(number).ok().filter(|number| *number > 0) else {
            if name == "keepalives" {
                config.keepalives(false);
            }
            return Ok(());
        };
        let seconds = Duration::from_secs(positive.into());
        match name {
            "connect_timeout" => config.connect_timeout(seconds),
            "tcp_user_timeout" => config.tcp_user_timeout(Duration::from_millis(positive.into())),
            "keepalives_idle" => config.keepalives_idle(seconds),
            "keepalives_interval" => config.keepalives_interval(seconds),
            "keepalives_count" => config.keepalives_retries(positive),
            _ => config.keepalives(true),
        };
        Ok(())
    }
}

fn text_of(parameter: &Parameter) -> Result<String, InvalidAddress> {
    let text = String::from_utf8(parameter.value.clone());
    text.map_err(|_| InvalidAddress(format!("the parameter {} is not UTF-8", parameter.name)))
}

fn is_utf8(encoding: &str) -> bool {
    let letters: String = encoding.chars().filter(char::is_ascii_alphanumeric).collect();
    ["utf8", "unicode", "auto"].iter().any(|name| letters.eq_ignore_ascii_case(name))
}

fn other_schema(name: &str) -> InvalidAddress {
    InvalidAddress(format!(
        "the parameter {name} names another schema than {SCHEMA}, but talktrack's tables are in {SCHEMA}; remove it, or \
         choose a database in which {SCHEMA} is free"
    ))
}

fn check_search_path(name: &str, path: &str) -> Result<(), InvalidAddress> {
    let mut schemas = path.split(',').map(|schema| schema.trim().trim_matches(['"', '\'']));
    if schemas.any(|schema| schema == SCHEMA) { Ok(()) } else { Err(other_schema(name)) }
}

/// Refuses command line options of the server that choose another schema: `-c search_path=tenant`.
fn check_search_path_in(options: &str) -> Result<(), InvalidAddress> {
    // A backslash keeps a space within an option.
    let options = options.replace("\\ ", "");
    for option in options.split_whitespace() {
        let option = option.trim_start_matches("--").trim_start_matches("-c");
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        if name.replace('-', "_").eq_ignore_ascii_case("search_path") {
            check_search_path("options (search_path)", value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection_string::split;

    fn config(parameters: &str) -> Config {
        interpret(split(&format!("postgres://u@h/db?{parameters}")).unwrap()).unwrap().config
    }

    #[test]
    fn timeouts_and_keepalives_have_the_units_of_libpq() {
        let config = config(
            "connect_timeout=7&tcp_user_timeout=1500&keepalives_idle=60&keepalives_interval=9&keepalives_count=4",
        );
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(7)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_millis(1500)));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(60));
        assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(9)));
        assert_eq!((config.get_keepalives_retries(), config.get_keepalives()), (Some(4), true));
    }

    #[test]
    fn no_keepalives_and_no_timeout_are_values_too() {
        let config = config("keepalives=0&connect_timeout=0&tcp_user_timeout=-1&keepalives_idle=");
        assert!(!config.get_keepalives());
        assert_eq!((config.get_connect_timeout(), config.get_tcp_user_timeout()), (None, None));
        assert_eq!(config.get_keepalives_idle(), Config::new().get_keepalives_idle());
    }

    #[test]
    fn the_order_of_hosts_and_direct_tls_are_left_to_the_driver() {
        use tokio_postgres::config::SslNegotiation;
        let config = config("load_balance_hosts=random&sslnegotiation=direct&sslmode=require");
        assert_eq!(config.get_load_balance_hosts(), LoadBalanceHosts::Random);
        assert_eq!(config.get_ssl_negotiation(), SslNegotiation::Direct);
    }
}
