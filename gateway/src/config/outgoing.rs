//! `[outgoing]`: HTTP requests to addresses of webhooks and push services.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use shared::config::ConfigError;

use super::authorities::authorities;
use super::listen::networks;

/// `[outgoing]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outgoing {
    /// Networks whose addresses may be called by webhooks and for notifications, also without TLS: `10.1.0.0/16`. All other
    /// addresses that are not reached over the Internet are refused, because whoever names an address would otherwise reach
    /// servers that only the gateway reaches.
    #[serde(deserialize_with = "networks")]
    pub allowed_networks: Vec<IpNet>,
    /// A PEM file with authorities of certificates, beside those of the system.
    pub tls_ca: PathBuf,
}

impl Outgoing {
    /// The certificates of `tls_ca`.
    ///
    /// # Errors
    /// The file is unusable.
    pub(crate) fn authorities(&self) -> Result<Vec<reqwest::Certificate>, ConfigError> {
        authorities("outgoing.tls_ca", &self.tls_ca)
    }

    /// Checks all keys.
    ///
    /// # Errors
    /// Names the key.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.authorities().map(drop)
    }
}
