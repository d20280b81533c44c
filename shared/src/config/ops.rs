//! `[ops]`: the operator's own listener, the same in both programs.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer};

/// `[ops]`. `PORT` is the default port, which differs between the programs, so that one of each runs on a host without
/// settings.
#[derive(Debug, Clone)]
pub struct Ops<const PORT: u16> {
    /// Address of `/healthz`, `/readyz` and `/metrics`; not for the public. By default only this host reaches it.
    pub address: SocketAddr,
    /// The host, or `host:port`, at which the gateways reach it. Empty: `address`, and for an unspecified IP address the
    /// one from which this host reaches Redis.
    pub advertise: String,
}

impl<const PORT: u16> Default for Ops<PORT> {
    fn default() -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)), advertise: String::new() }
    }
}

/// By hand, since serde derives nothing for a type with a constant parameter.
impl<'de, const PORT: u16> Deserialize<'de> for Ops<PORT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename = "Ops")]
        struct Given {
            address: Option<SocketAddr>,
            advertise: Option<String>,
        }
        let (given, default) = (Given::deserialize(deserializer)?, Self::default());
        Ok(Self {
            address: given.address.unwrap_or(default.address),
            advertise: given.advertise.unwrap_or(default.advertise),
        })
    }
}
