//! `[push]`: the credentials of the push services.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use shared::config::{ConfigError, Secret};

use crate::subscription::is_topic;

/// Longest `push.timeout_ms`.
const TIMEOUT_MS_MAX: u64 = 60_000;

/// `[push]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PushConfig {
    /// Private keys that sign messages of Web Push, as `imctl push vapid-key` prints them; empty: no Web Push. Several with a
    /// blank between them, the newest first: devices subscribe with the first one, and those that subscribed with another one
    /// are served as long as it is in the list.
    pub vapid_keys: Secret,
    /// A file that contains them instead, one per line.
    pub vapid_keys_file: PathBuf,
    /// Whom push services contact about problems, `mailto:push@example.com` or `https://example.com/contact`. Required with
    /// `vapid_keys`.
    pub vapid_subject: String,
    /// The JSON file of a service account with the role Firebase Cloud Messaging API Admin, from the console of Firebase;
    /// empty: no FCM.
    pub fcm_service_account_file: PathBuf,
    /// The address of FCM.
    pub fcm_url: String,
    /// The file `AuthKey_….p8` of a key for APNs, from Apple's developer account; empty: no APNs.
    pub apns_key_file: PathBuf,
    /// The key's id, 10 characters. Required with `apns_key_file`.
    pub apns_key_id: String,
    /// The id of the developer team, 10 characters. Required with `apns_key_file`.
    pub apns_team_id: String,
    /// The app's bundle id, for devices that name none. Required with `apns_key_file`.
    pub apns_topic: String,
    /// Whether devices that do not say it have tokens of Apple's sandbox: the app was built for development.
    pub apns_sandbox: bool,
    /// The address of APNs instead of Apple's two; empty: Apple's.
    pub apns_url: String,
    /// For one call of a push service, from its begin to the end of the answer.
    pub timeout_ms: u64,
}

impl Default for PushConfig {
    fn default() -> Self {
        Self {
            vapid_keys: Secret::default(),
            vapid_keys_file: PathBuf::new(),
            vapid_subject: String::new(),
            fcm_service_account_file: PathBuf::new(),
            fcm_url: "https://fcm.googleapis.com".to_owned(),
            apns_key_file: PathBuf::new(),
            apns_key_id: String::new(),
            apns_team_id: String::new(),
            apns_topic: String::new(),
            apns_sandbox: false,
            apns_url: String::new(),
            timeout_ms: 10_000,
        }
    }
}

impl PushConfig {
    /// Whether any push service is configured.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.has_web_push() || self.has_fcm() || self.has_apns()
    }

    /// The longest time of one call.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Checks all keys. The files of the credentials are read by [`Senders`](crate::Senders), which read them again when they
    /// are replaced.
    ///
    /// # Errors
    /// Names the key, and says what to write.
    pub fn validated(self) -> Result<Self, ConfigError> {
        if !(1..=TIMEOUT_MS_MAX).contains(&self.timeout_ms) {
            let why = format!("{} is not in 1..={TIMEOUT_MS_MAX}", self.timeout_ms);
            return Err(ConfigError::key("push.timeout_ms", why));
        }
        base_url("push.fcm_url", &self.fcm_url)?;
        if !self.apns_url.is_empty() {
            base_url("push.apns_url", &self.apns_url)?;
        }
        self.check_web_push()?;
        self.check_apns()?;
        Ok(self)
    }

    pub(crate) fn has_web_push(&self) -> bool {
        !self.vapid_keys.is_empty() || !is_empty(&self.vapid_keys_file)
    }

    pub(crate) fn has_fcm(&self) -> bool {
        !is_empty(&self.fcm_service_account_file)
    }

    pub(crate) fn has_apns(&self) -> bool {
        !is_empty(&self.apns_key_file)
    }

    fn check_web_push(&self) -> Result<(), ConfigError> {
        if !self.vapid_keys.is_empty() && !is_empty(&self.vapid_keys_file) {
            let why = "push.vapid_keys is set as well: set one of them";
            return Err(ConfigError::key("push.vapid_keys_file", why));
        }
        let subject = &self.vapid_subject;
        let is_contact = subject.strip_prefix("mailto:").is_some_and(|address| address.contains('@'))
            || Url::parse(subject).is_ok_and(|url| url.scheme() == "https");
        if self.has_web_push() && !is_contact {
            let why = "is no contact: write mailto:push@example.com or https://example.com/contact";
            return Err(ConfigError::key("push.vapid_subject", why));
        }
        Ok(())
    }

    fn check_apns(&self) -> Result<(), ConfigError> {
        if !self.has_apns() {
            return Ok(());
        }
        for (key, id) in [("push.apns_key_id", &self.apns_key_id), ("push.apns_team_id", &self.apns_team_id)]
        {
            if id.len() != 10 || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(ConfigError::key(key, "is no id of Apple: write its 10 letters and digits"));
            }
        }
        if !is_topic(&self.apns_topic) {
            let why = "is no bundle id: write letters, digits, hyphens and periods, com.example.app";
            return Err(ConfigError::key("push.apns_topic", why));
        }
        Ok(())
    }
}

/// The address of a push service, without its path.
pub(crate) fn base_url(key: &str, text: &str) -> Result<Url, ConfigError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    match url {
        Some(url) if url.path() == "/" && url.query().is_none() => Ok(url),
        _ => Err(ConfigError::key(key, "is not http://host or https://host, without a path")),
    }
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> PushConfig {
        PushConfig {
            vapid_keys: "x".into(),
            vapid_subject: "mailto:push@example.com".to_owned(),
            fcm_service_account_file: "account.json".into(),
            apns_key_file: "key.p8".into(),
            apns_key_id: "ABC123DEFG".to_owned(),
            apns_team_id: "DEF123GHIJ".to_owned(),
            apns_topic: "com.example.app".to_owned(),
            ..PushConfig::default()
        }
    }

    #[test]
    fn the_defaults_are_off() {
        assert!(!PushConfig::default().validated().unwrap().is_on());
        assert!(all().validated().unwrap().is_on());
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let read = serde_json::from_str::<PushConfig>(r#"{"fcm_key": ""}"#);
        assert!(read.unwrap_err().to_string().contains("fcm_key"));
    }

    #[test]
    fn an_unusable_value_is_refused_with_what_to_write() {
        let text = ToOwned::to_owned;
        for (config, key, remedy) in [
            (PushConfig { timeout_ms: 0, ..all() }, "push.timeout_ms", "1..=60000"),
            (PushConfig { fcm_url: text("fcm"), ..all() }, "push.fcm_url", "https://host"),
            (PushConfig { fcm_url: text("http://a/b"), ..all() }, "push.fcm_url", "without a path"),
            (PushConfig { apns_url: text("ftp://a"), ..all() }, "push.apns_url", "https://host"),
            (PushConfig { vapid_keys_file: "x".into(), ..all() }, "push.vapid_keys_file", "one of them"),
            (PushConfig { vapid_subject: text(""), ..all() }, "push.vapid_subject", "mailto:"),
            (PushConfig { vapid_subject: text("a@b.c"), ..all() }, "push.vapid_subject", "mailto:"),
            (PushConfig { apns_key_id: text("ABC"), ..all() }, "push.apns_key_id", "10 letters"),
            (PushConfig { apns_team_id: text(""), ..all() }, "push.apns_team_id", "10 letters"),
            (PushConfig { apns_topic: text("a b"), ..all() }, "push.apns_topic", "com.example.app"),
        ] {
            let error = config.validated().unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(remedy), "{key} {remedy}: {error}");
        }
    }
}
