//! The hosts of a connection string: names, addresses and sockets, each with its port.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tokio_postgres::Config;

use crate::connection_string::InvalidAddress;

/// The default port.
pub(super) const DEFAULT_PORT: u16 = 5432;

/// The beginning of a socket's file name. The port follows.
const SOCKET: &str = ".s.PGSQL.";

/// The hosts that the parameters name so far.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    hosts: Vec<(Vec<u8>, Option<u16>)>,
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl Hosts {
    /// Adds the hosts of the parameter `host`, which may be given several times.
    pub(super) fn add_hosts(&mut self, value: &[u8]) -> Result<(), InvalidAddress> {
        for host in value.split(|byte| *byte == b',') {
            self.hosts.push(split_host(host)?);
        }
        Ok(())
    }

    /// Adds the addresses of the parameter `hostaddr`.
    pub(super) fn add_addresses(&mut self, value: &str) -> Result<(), InvalidAddress> {
        for address in value.split(',') {
            let address = address.trim().parse();
            self.addresses.push(address.map_err(|_| invalid_value("hostaddr"))?);
        }
        Ok(())
    }

    /// Adds the ports of the parameter `port`. An empty one is the default.
    pub(super) fn add_ports(&mut self, value: &str) -> Result<(), InvalidAddress> {
        value.split(',').try_for_each(|port| {
            self.ports.push(parse_port(port)?);
            Ok(())
        })
    }

    /// Puts the hosts into `config`: those of the parameters, or those of the URL's authority.
    ///
    /// # Errors
    /// If there is no host, or the numbers of hosts, addresses and ports differ.
    pub(super) fn configure(
        mut self,
        authority: Vec<(Vec<u8>, Option<String>)>,
        config: &mut Config,
    ) -> Result<(), InvalidAddress> {
        let mut of_authority = Vec::new();
        for (host, port) in authority {
            of_authority.push((host, port.as_deref().map(parse_port).transpose()?));
        }
        // Tools whose URLs need a host write `localhost` before the path, and the socket as a parameter.
        let authority_ports: Vec<u16> = of_authority.iter().filter_map(|(_, port)| *port).collect();
        if self.hosts.is_empty() {
            self.hosts = of_authority.into_iter().filter(|(host, _)| !host.is_empty()).collect();
        } else if self.ports.is_empty() && self.hosts.iter().all(|(_, port)| port.is_none()) {
            self.ports = authority_ports;
        }
        if self.hosts.is_empty() {
            self.hosts =
                self.addresses.iter().map(|address| (address.to_string().into_bytes(), None)).collect();
        }
        if self.hosts.iter().any(|(host, _)| host.is_empty()) || self.hosts.is_empty() {
            return Err(InvalidAddress::unreadable("it names no host"));
        }
        self.check_numbers()?;
        for (place, (host, port)) in self.hosts.iter().enumerate() {
            add_host(config, host)?;
            let shared = self.ports.get(place).or_else(|| self.ports.first()).copied();
            config.port(port.or(shared).unwrap_or(DEFAULT_PORT));
        }
        self.addresses.iter().for_each(|address| _ = config.hostaddr(*address));
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), InvalidAddress> {
        let count = self.hosts.len();
        if !self.addresses.is_empty() && self.addresses.len() != count {
            return Err(InvalidAddress::unreadable("there are more or fewer values in hostaddr than hosts"));
        }
        if self.ports.len() > 1 && self.ports.len() != count {
            return Err(InvalidAddress::unreadable("there are more or fewer values in port than hosts"));
        }
        Ok(())
    }
}

fn add_host(config: &mut Config, host: &[u8]) -> Result<(), InvalidAddress> {
    if host.starts_with(b"/") {
        config.host_path(Path::new(OsStr::from_bytes(host)));
        return Ok(());
    }
    let name = str::from_utf8(host).map_err(|_| invalid_value("host"))?;
    if name.contains('@') {
        // A socket in the abstract namespace, or a part of the password.
        return Err(InvalidAddress::unreadable("there is more than one @ in it"));
    }
    if name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return Err(invalid_value("host"));
    }
    config.host(name);
    Ok(())
}

/// Splits the port off `HOST:PORT`, and off the path of a socket's file.
fn split_host(host: &[u8]) -> Result<(Vec<u8>, Option<u16>), InvalidAddress> {
    let host = host.trim_ascii();
    let Ok(text) = str::from_utf8(host) else { return Ok((host.to_owned(), None)) };
    if text.starts_with('/') {
        let (dir, file) = text.rsplit_once('/').unwrap_or((text, ""));
        let port = file.strip_prefix(SOCKET).map(parse_port).transpose()?;
        return Ok(
            port.map_or_else(|| (host.to_owned(), None), |port| (dir.as_bytes().to_owned(), Some(port)))
        );
    }
    let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    match text.split_once(':') {
        Some((name, port)) if text.parse::<IpAddr>().is_err() => Ok((name.into(), Some(parse_port(port)?))),
        _ => Ok((text.into(), None)),
    }
}

fn parse_port(text: &str) -> Result<u16, InvalidAddress> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| invalid_value("port"))
}

fn invalid_value(name: &str) -> InvalidAddress {
    InvalidAddress::unreadable(&format!("invalid value for option `{name}`"))
}
