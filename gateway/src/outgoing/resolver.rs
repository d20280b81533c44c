//! DNS without the answers that may not be called.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::networks::{is_allowed, is_global};

/// Which addresses may be called.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    /// Those that are reached over the Internet.
    pub(super) is_global_allowed: bool,
    /// Those of these networks.
    pub(super) networks: Arc<[IpNet]>,
}

impl Policy {
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        (self.is_global_allowed && is_global(address)) || is_allowed(address, &self.networks)
    }

    /// What is said about a host at `addresses`, none of which is allowed.
    pub(super) fn refusal(&self, host: &str, addresses: String) -> NotAllowed {
        let remedy = if self.is_global_allowed {
            "add its network to outgoing.allowed_networks if it is yours"
        } else {
            "write https://, or add its network to outgoing.allowed_networks if it is yours"
        };
        NotAllowed { host: host.to_owned(), addresses, remedy }
    }
}

/// No address of a host may be called.
#[derive(Debug, thiserror::Error)]
#[error("{host} is at {addresses}, which is not allowed: {remedy}")]
pub(super) struct NotAllowed {
    host: String,
    addresses: String,
    remedy: &'static str,
}

/// The resolver of the system, without addresses that the policy does not allow.
#[derive(Debug)]
pub(super) struct Resolver(pub(super) Policy);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            let host = name.as_str();
            // The port is set by the caller.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.iter().copied().filter(|address| policy.allows(address.ip())).collect();
            if allowed.is_empty() && !found.is_empty() {
                let mut addresses: Vec<String> =
                    found.iter().map(|address| address.ip().to_string()).collect();
                addresses.dedup();
                return Err(policy.refusal(host, addresses.join(", ")).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
