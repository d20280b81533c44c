//! `[listen]`

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::de::{Deserializer, Error};
use shared::config::{ConfigError, trimmed};

use crate::origin::{self, Origin};

/// `[listen]`
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Address and port of WebSocket and HTTP.
    pub address: SocketAddr,
    /// Origins (`https://chat.example`) of pages that may use the gateway, beside the host itself; `*` allows all.
    #[serde(deserialize_with = "trimmed")]
    pub allowed_origins: Vec<String>,
    /// With `auth.mode = "insecure"`: names (`chat.local`) by which clients may reach the gateway, beside `localhost`, IP
    /// addresses and the hosts of `allowed_origins`.
    #[serde(deserialize_with = "trimmed")]
    pub hosts: Vec<String>,
    /// Networks (`10.0.0.0/8`) or addresses of load balancers whose `X-Forwarded-For` or `Forwarded` is trusted.
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// Each connection begins with a header of the PROXY protocol (version 1 or 2), by a TCP load balancer in
    /// `trusted_proxies`.
    pub proxy_protocol: bool,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([0, 0, 0, 0], 8080)),
            allowed_origins: Vec::new(),
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
        }
    }
}

impl Listen {
    /// Checks that the origins and names are some.
    ///
    /// # Errors
    /// Names the key and the entry.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_origin = |text: &&String| *text == "*" || Origin::parse(text).is_some();
        if let Some(text) = self.allowed_origins.iter().find(|text| !is_origin(text)) {
            let why = format!("{text:?} is not an origin: write https://chat.example, without a path, or *");
            return Err(ConfigError::key("listen.allowed_origins", why));
        }
        if let Some(text) = self.hosts.iter().find(|text| origin::host(text).is_none()) {
            let why = format!("{text:?} is not a name: write chat.local, without scheme, port and path");
            return Err(ConfigError::key("listen.hosts", why));
        }
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            let why = "is true, and listen.trusted_proxies is empty: name the load balancer, or no connection is accepted";
            return Err(ConfigError::key("listen.proxy_protocol", why));
        }
        Ok(())
    }
}

pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let network = |text: &String| network(text).ok_or_else(|| D::Error::custom(not_a_network(text)));
    trimmed(deserializer)?.iter().map(network).collect()
}

fn not_a_network(text: &str) -> String {
    format!("{text:?} is not a network: write 10.0.0.0/8, or one address")
}

/// A network, or a single address. IPv4 addresses in IPv6 form are written as such: clients are compared in that form.
fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    let IpNet::V6(mapped) = network else { return Some(network) };
    let inner = mapped.addr().to_ipv4_mapped().zip(mapped.prefix_len().checked_sub(96));
    match inner {
        Some((address, prefix)) => IpNet::new(address.into(), prefix).ok(),
        None => Some(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(variable: &str, value: &str) -> Result<Listen, ConfigError> {
        #[derive(serde::Deserialize, Default)]
        #[serde(default)]
        struct Sections {
            listen: Listen,
        }
        let environment = [(variable.to_owned(), value.to_owned())].into();
        shared::config::load_from::<Sections>(shared::config::Program::Gateway, None, environment)
            .map(|all| all.listen)
    }

    #[test]
    fn trusted_proxies_are_networks_or_addresses() {
        let read = |text: &str| {
            let networks = listen("IM__LISTEN__TRUSTED_PROXIES", text).map(|listen| listen.trusted_proxies);
            networks.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(
            read("10.0.0.0/8, 192.0.2.7,fd00::/8").unwrap(),
            ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"]
        );
        assert_eq!(read("::1,::ffff:10.0.0.0/104").unwrap(), ["::1/128", "10.0.0.0/8"]);
        assert_eq!(read("").unwrap(), [""; 0]);
        for bad in ["10.0.0.0/33", "balancer", "10.0.0.1:80", "[::1]"] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("IM__LISTEN__TRUSTED_PROXIES") && error.contains(bad), "{error}");
        }
    }

    #[test]
    fn origins_and_names_are_checked_at_the_start() {
        let check = |variable: &str, value: &str| listen(variable, value).unwrap().check();
        let origins = "https://chat.example, http://[::1]:8080/,capacitor://localhost,null,*";
        assert!(check("IM__LISTEN__ALLOWED_ORIGINS", origins).is_ok());
        for bad in ["chat.example", "https://chat.example/app", "https://*.example"] {
            let error = check("IM__LISTEN__ALLOWED_ORIGINS", bad).unwrap_err().to_string();
            assert!(error.contains("listen.allowed_origins") && error.contains(bad), "{error}");
        }
        let error = check("IM__LISTEN__PROXY_PROTOCOL", "true").unwrap_err().to_string();
        assert!(error.contains("listen.proxy_protocol") && error.contains("trusted_proxies"), "{error}");
        assert!(check("IM__LISTEN__HOSTS", "chat.local, im").is_ok());
        for bad in ["chat.local:8080", "http://chat.local", "*", "a/b"] {
            let error = check("IM__LISTEN__HOSTS", bad).unwrap_err().to_string();
            assert!(error.contains("listen.hosts") && error.contains(bad), "{error}");
        }
    }
}
