//! `[push]`: notifications on devices that are not connected.

use std::path::PathBuf;
use std::time::Duration;

use pushservice::PushConfig;
use serde::Deserialize;
use shared::config::{ConfigError, Feed, Secret};

/// `[push]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Push {
    /// Devices may register for notifications, and get them. Requires `feed.enabled`, and the keys of at least one push service.
    /// Must be equal on all gateways.
    pub enabled: bool,
    /// Seconds before a user with a connection is notified of an unread message. A user without a connection is notified at
    /// once.
    pub delay_s: u32,
    /// Shortest time in seconds between two notifications of a conversation: those of a burst become one.
    pub interval_s: u32,
    /// Notifications contain the text of the last message. Web Push encrypts it for the device; FCM and APNs see it.
    pub text: bool,
    /// Notifications that this gateway sends at the same time.
    pub sends_at_once: usize,
    /// Private keys that sign messages of Web Push, as `imctl push vapid-key` prints them; empty: no Web Push. Several with a blank
    /// between them, the newest first: devices subscribe with the first one, and those that subscribed with another one are served
    /// as long as it is in the list.
    pub vapid_keys: Secret,
    /// A file that contains them instead, one per line. Like the other files of this section it is read again every 30 s.
    pub vapid_keys_file: PathBuf,
    /// Whom push services contact about problems, `mailto:push@example.com` or `https://example.com/contact`. Required with
    /// `vapid_keys`.
    pub vapid_subject: String,
    /// The JSON file of a service account with the role Firebase Cloud Messaging API Admin, from the console of Firebase; empty: no
    /// FCM.
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

impl Default for Push {
    fn default() -> Self {
        let services = PushConfig::default();
        Self {
            enabled: false,
            delay_s: 30,
            interval_s: 10,
            text: false,
            sends_at_once: 64,
            vapid_keys: services.vapid_keys,
            vapid_keys_file: services.vapid_keys_file,
            vapid_subject: services.vapid_subject,
            fcm_service_account_file: services.fcm_service_account_file,
            fcm_url: services.fcm_url,
            apns_key_file: services.apns_key_file,
            apns_key_id: services.apns_key_id,
            apns_team_id: services.apns_team_id,
            apns_topic: services.apns_topic,
            apns_sandbox: services.apns_sandbox,
            apns_url: services.apns_url,
            timeout_ms: services.timeout_ms,
        }
    }
}

impl Push {
    /// See [`delay_s`](Self::delay_s).
    #[must_use]
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_secs(self.delay_s.into())
    }

    /// See [`interval_s`](Self::interval_s).
    #[must_use]
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_s.into())
    }

    /// The longest time of one call.
    #[must_use]
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The keys of the push services. Authorities of certificates are those of `[outgoing]`.
    #[must_use]
    pub fn services(&self) -> PushConfig {
        PushConfig {
            vapid_keys: self.vapid_keys.clone(),
            vapid_keys_file: self.vapid_keys_file.clone(),
            vapid_subject: self.vapid_subject.clone(),
            fcm_service_account_file: self.fcm_service_account_file.clone(),
            fcm_url: self.fcm_url.clone(),
            apns_key_file: self.apns_key_file.clone(),
            apns_key_id: self.apns_key_id.clone(),
            apns_team_id: self.apns_team_id.clone(),
            apns_topic: self.apns_topic.clone(),
            apns_sandbox: self.apns_sandbox,
            apns_url: self.apns_url.clone(),
            timeout_ms: self.timeout_ms,
        }
    }

    /// Checks all keys.
    ///
    /// # Errors
    /// Names the key, and says what to write.
    pub(super) fn check(&self, feed: &Feed) -> Result<(), ConfigError> {
        for (key, value, range) in [
            ("push.delay_s", u64::from(self.delay_s), 0..=86_400),
            ("push.interval_s", u64::from(self.interval_s), 0..=86_400),
            ("push.sends_at_once", u64::try_from(self.sends_at_once).unwrap_or(u64::MAX), 1..=10_000),
        ] {
            if !range.contains(&value) {
                return Err(ConfigError::key(key, format!("{value} is not in {range:?}")));
            }
        }
        let services = self.services().validated()?;
        if !self.enabled {
            return Ok(());
        }
        if !feed.enabled {
            let why = "is true, but notifications are made from the change feed: set feed.enabled on all gateways and workers";
            return Err(ConfigError::key("push.enabled", why));
        }
        if !services.is_on() {
            let why = "is true, but there is no push service: set push.vapid_keys, push.fcm_service_account_file or \
                       push.apns_key_file";
            return Err(ConfigError::key("push.enabled", why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_need_the_feed_and_a_push_service() {
        let off = Feed::default();
        let on = Feed { enabled: true, ..Feed::default() };
        Push::default().check(&off).unwrap();
        let refused = |push: &Push, feed: &Feed| push.check(feed).unwrap_err().to_string();
        let mut push = Push { enabled: true, ..Push::default() };
        assert!(refused(&push, &off).contains("feed.enabled"));
        assert!(refused(&push, &on).contains("push.vapid_keys"));
        push.vapid_keys = "x".into();
        assert!(refused(&push, &on).contains("push.vapid_subject"));
        push.vapid_subject = "mailto:push@example.com".to_owned();
        push.check(&on).unwrap();
        push.delay_s = 86_401;
        assert!(refused(&push, &on).contains("push.delay_s"));
    }
}
