//! The authorities of servers that the gateway calls.

use std::path::Path;

use shared::config::ConfigError;

/// The certificates in the PEM file at `path`; none if it is empty.
///
/// # Errors
/// The file is unusable; the message names `key`.
pub(super) fn authorities(key: &str, path: &Path) -> Result<Vec<reqwest::Certificate>, ConfigError> {
    if path.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let unusable = |why: String| ConfigError::key(key, format!("{}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    shared::tls::certificates(&pem).map_err(unusable)?;
    reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))
}
