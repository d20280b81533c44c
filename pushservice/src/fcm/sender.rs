//! One message to FCM.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url};
use shared::config::ConfigError;

use super::access_token::AccessTokens;
use super::account::ServiceAccount;
use super::errors::{is_token_refused, outcome};
use super::payload::body;
use crate::config::{PushConfig, base_url};
use crate::message::PushMessage;
use crate::outcome::Outcome;
use crate::response::{Response, call};

/// Sends messages of FCM.
pub(crate) struct FcmSender {
    url: Url,
    tokens: AccessTokens,
}

impl FcmSender {
    /// Reads the service account of `config`.
    ///
    /// # Errors
    /// Names the configuration key that is unusable.
    pub(crate) fn new(config: &PushConfig) -> Result<Self, ConfigError> {
        let (account, key) = ServiceAccount::read(&config.fcm_service_account_file)?;
        let mut url = base_url("push.fcm_url", &config.fcm_url)?;
        url.set_path(&format!("/v1/projects/{}/messages:send", account.project_id));
        Ok(Self { url, tokens: AccessTokens::new(account, key) })
    }

    /// Whether `other` was made from the same settings.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.url == other.url && self.tokens.account() == other.tokens.account()
    }

    pub(crate) async fn send(
        &self,
        client: &Client,
        token: &str,
        message: &PushMessage,
        timeout: Duration,
    ) -> Outcome {
        let Some(body) = body(token, message) else {
            return Outcome::Rejected("the data of the message have over 4096 bytes".to_owned());
        };
        let sent = async {
            let access_token = self.tokens.get(client, None, timeout).await?;
            let response = self.post(client, &access_token, &body, timeout).await?;
            if !is_token_refused(&response) {
                return Ok(response);
            }
            // The token was revoked, such as after a change of the account's roles.
            let access_token = self.tokens.get(client, Some(&access_token), timeout).await?;
            self.post(client, &access_token, &body, timeout).await
        };
        match sent.await {
            Ok(response) => outcome(&response),
            Err(outcome) => outcome,
        }
    }

    async fn post(
        &self,
        client: &Client,
        access_token: &Arc<str>,
        body: &serde_json::Value,
        timeout: Duration,
    ) -> Result<Response, Outcome> {
        call(client.post(self.url.clone()).bearer_auth(access_token).json(body), timeout).await
    }
}
