//! `[tls]`: the certificate of the port of clients.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use shared::config::ConfigError;

/// `[tls]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// A PEM file with the certificate of the gateway and those of its intermediate authorities, in this order. With it,
    /// the port of clients takes TLS only. Changes take effect without a restart.
    pub cert: PathBuf,
    /// A PEM file with the private key of the certificate, without a passphrase.
    pub key: PathBuf,
}

impl Tls {
    /// The files of certificate and key, if there are any.
    pub(crate) fn files(&self) -> Option<(&Path, &Path)> {
        (!self.cert.as_os_str().is_empty()).then_some((&self.cert, &self.key))
    }

    /// Checks that there are both or none.
    ///
    /// # Errors
    /// Names the key that is missing.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let (cert, key) = (self.cert.as_os_str().is_empty(), self.key.as_os_str().is_empty());
        match (cert, key) {
            (false, true) => Err(ConfigError::key("tls.key", "is missing: it belongs to tls.cert")),
            (true, false) => Err(ConfigError::key("tls.cert", "is missing: it belongs to tls.key")),
            _ => Ok(()),
        }
    }
}
