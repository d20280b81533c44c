//! The service account of a project, from the file that the console of Firebase gives.

use std::path::Path;

use jsonwebtoken::EncodingKey;
use serde::Deserialize;
use shared::config::{ConfigError, Secret};

const KEY: &str = "push.fcm_service_account_file";

/// The fields of the file that are used. It has more.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ServiceAccount {
    pub(super) project_id: String,
    pub(super) client_email: String,
    pub(super) private_key_id: String,
    private_key: Secret,
    pub(super) token_uri: String,
}

impl ServiceAccount {
    /// Reads the file and its key.
    ///
    /// # Errors
    /// Names the configuration key, and never shows the content.
    pub(super) fn read(path: &Path) -> Result<(Self, EncodingKey), ConfigError> {
        let wrong = |why: &str| ConfigError::key(KEY, format!("{}: {why}", path.display()));
        let text = std::fs::read(path).map_err(|error| wrong(&error.to_string()))?;
        // The error of the parser is not shown: it may contain a part of the file.
        let account: Self = serde_json::from_slice(&text).map_err(|_| {
            wrong("is no service account: save the JSON of Project settings, Service accounts, Generate new private key")
        })?;
        let is_id = |id: &str| {
            !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-:._".contains(&b))
        };
        if !is_id(&account.project_id) {
            return Err(wrong("has a project_id that is none"));
        }
        if !account.token_uri.starts_with("https://") && !account.token_uri.starts_with("http://") {
            return Err(wrong("has a token_uri that is no URL"));
        }
        let key = EncodingKey::from_rsa_pem(account.private_key.expose().as_bytes())
            .map_err(|_| wrong("has a private_key that is no RSA key in PEM"))?;
        Ok((account, key))
    }
}
