//! How the users of a test prove who they are: by their name alone, by a token signed here, or by a token from the
//! operator's interface.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use im_client::protocol::{Caller, ConnectError, Socket};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use parking_lot::Mutex;
use serde_json::json;

use super::http::Http;
use super::trust::websocket;

/// Lifetime of a token: longer than any run.
const TOKEN_TTL: Duration = Duration::from_secs(86_400);
/// Shortest secret that a gateway accepts.
const SECRET_BYTES_MIN: usize = 32;

/// How the users of a test prove who they are. Cheap to clone.
#[derive(Clone, Default)]
pub enum Credentials {
    /// `?user_id=`: accepted by gateways with `auth.mode = "insecure"` only.
    #[default]
    Insecure,
    /// Tokens that are signed here with the deployment's HS256 secret.
    Secret(Arc<EncodingKey>),
    /// Tokens from `POST /api/admin/tokens`.
    Operator(Arc<Operator>),
}

/// The operator's interface of one gateway, and the tokens that it issued.
pub struct Operator {
    http: Http,
    key: String,
    /// By user; at most one per user of the run.
    issued: Mutex<HashMap<String, String>>,
}

/// Never shows a secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Credentials {
    /// Signs tokens with the secret in `file`, which a gateway has as `auth.hs256_secret`. White space at the end of the
    /// file does not count.
    ///
    /// # Errors
    /// If the file cannot be read, or holds less than 32 bytes.
    pub fn from_secret_file(file: &Path) -> anyhow::Result<Self> {
        let secret = read(file)?;
        let bytes = secret.len();
        anyhow::ensure!(
            bytes >= SECRET_BYTES_MIN,
            "{}: a secret has at least {SECRET_BYTES_MIN} bytes, not {bytes}",
            file.display()
        );
        Ok(Self::Secret(Arc::new(EncodingKey::from_secret(secret.as_bytes()))))
    }

    /// Gets tokens from the gateway at `base` (`http://host:port`) with the operator's key in `file`, which the gateway
    /// has as `auth.api_key`.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn from_operator_key_file(file: &Path, base: &str) -> anyhow::Result<Self> {
        Ok(Self::operator(base, &read(file)?))
    }

    /// Gets tokens from the gateway at `base` (`http://host:port`) with the operator's key.
    #[must_use]
    pub fn operator(base: &str, key: &str) -> Self {
        let http = Http::of_operator(base, key);
        Self::Operator(Arc::new(Operator { http, key: key.to_owned(), issued: Mutex::default() }))
    }

    /// The kind of credentials, for reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Insecure => "user ids without tokens",
            Self::Secret(_) => "tokens signed with the HS256 secret",
            Self::Operator(_) => "tokens from the operator's interface",
        }
    }

    /// A token of `user`; `None` where users have none.
    ///
    /// # Errors
    /// If the gateway refuses to issue one.
    pub async fn token(&self, user: &str) -> anyhow::Result<Option<String>> {
        match self {
            Self::Insecure => Ok(None),
            Self::Secret(key) => Ok(Some(signed(key, user, SystemTime::now())?)),
            Self::Operator(operator) => operator.token(user).await.map(Some),
        }
    }

    /// Who calls, when `user` calls over HTTP. The operator calls for the user, which no limit of users concerns.
    ///
    /// # Errors
    /// As [`token`](Self::token).
    pub async fn caller(&self, user: &str) -> anyhow::Result<Caller> {
        Ok(match self {
            Self::Insecure => Caller::Named(user.to_owned()),
            Self::Secret(_) => Caller::Token(self.token(user).await?.unwrap_or_default()),
            Self::Operator(operator) => {
                Caller::Operator { key: operator.key.clone(), user: Some(user.to_owned()) }
            }
        })
    }

    /// Opens a WebSocket of `user` to `gateway` (`ws://host:port/ws`).
    ///
    /// # Errors
    /// [`ConnectError`], from which a caller learns whether another attempt can succeed.
    pub async fn websocket(
        &self,
        gateway: &str,
        user: &str,
        device: Option<&str>,
    ) -> Result<Socket, ConnectError> {
        let token = self.token(user).await.map_err(|error| ConnectError::Token(error.into()))?;
        let mut url = match token {
            Some(_) => format!("{gateway}?"),
            None => format!("{gateway}?user_id={user}"),
        };
        if let Some(device) = device {
            let joint = if url.ends_with('?') { "" } else { "&" };
            url = format!("{url}{joint}device_id={device}");
        }
        websocket(&url, token.as_deref()).await
    }
}

impl Operator {
    async fn token(&self, user: &str) -> anyhow::Result<String> {
        if let Some(token) = self.issued.lock().get(user) {
            return Ok(token.clone());
        }
        let body = json!({"user_id": user, "ttl_s": TOKEN_TTL.as_secs()});
        let answer = self.http.ok_when_allowed("POST", "/api/admin/tokens", body).await?;
        let token = answer["token"].as_str().context("an answer without a token")?.to_owned();
        self.issued.lock().insert(user.to_owned(), token.clone());
        Ok(token)
    }
}

fn signed(key: &EncodingKey, user: &str, now: SystemTime) -> anyhow::Result<String> {
    let now = now.duration_since(UNIX_EPOCH)?.as_secs();
    let claims = json!({"sub": user, "iat": now, "exp": now + TOKEN_TTL.as_secs()});
    Ok(encode(&Header::new(Algorithm::HS256), &claims, key)?)
}

fn read(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let text = text.trim_end();
    anyhow::ensure!(!text.is_empty(), "{} is empty", file.display());
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[tokio::test]
    async fn a_secret_signs_tokens_and_is_never_shown() {
        let secret = "a secret of thirty-two bytes, or more\n";
        let credentials = Credentials::from_secret_file(file(secret).path()).unwrap();
        let token = credentials.token("alice").await.unwrap().unwrap();
        assert_eq!(token.split('.').count(), 3);
        assert!(!format!("{credentials:?}").contains("thirty"));
        let operator = Credentials::operator("http://127.0.0.1:1", "key of the operator");
        assert!(!format!("{operator:?}").contains("key"));
        assert_eq!(Credentials::Insecure.token("alice").await.unwrap(), None);
    }

    #[test]
    fn a_short_secret_and_an_empty_file_are_refused() {
        for text in ["", "\n", "short"] {
            assert!(Credentials::from_secret_file(file(text).path()).is_err(), "{text:?}");
        }
        assert!(Credentials::from_operator_key_file(file("").path(), "http://127.0.0.1:1").is_err());
    }
}
