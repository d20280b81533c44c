//! `[hook]`: the endpoint of the app that decides about messages before they are accepted.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use shared::config::{ConfigError, Secret, trimmed};
use shared::webhook_signature::SigningKey;

use super::authorities::authorities;

/// The kinds of messages that may be named in `hook.messages`.
pub(crate) const KINDS: [&str; 8] = ["text", "image", "file", "app", "edit", "recall", "reaction", "pin"];
/// Names all private chats in `hook.conversations`.
pub(crate) const PRIVATE: &str = "private";
/// Names all groups in `hook.conversations`.
pub(crate) const GROUP: &str = "group";
/// Begins the id of each group.
const GROUP_PREFIX: &str = "group_";
/// A call takes at most this part of a request's time.
const TIMEOUT_PART: u64 = 4;

/// What happens to a message about which the endpoint has not decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is accepted as it is.
    Allow,
    /// Its sender gets 503.
    Refuse,
}

/// `[hook]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hook {
    /// The endpoint of the app that decides about each message before it is accepted, `https://app.example/hook`; empty: none.
    pub url: String,
    /// Signs the calls by Standard Webhooks: `whsec_` and 24 to 64 bytes in base64. Two, with a blank between them, while the
    /// endpoint changes from one to another. Required with `url`.
    pub secret: Secret,
    /// A file that contains it instead.
    pub secret_file: PathBuf,
    /// A PEM file with the authorities of the endpoint's certificate, beside those of the system.
    pub tls_ca: PathBuf,
    /// For one call, from its begin to the end of the answer. At most a quarter of `limits.request_deadline_ms`.
    pub timeout_ms: u64,
    /// Concurrent calls of this gateway. Further messages wait for a call to end, and are decided by `on_failure` if none
    /// ends in time.
    pub calls_at_once: usize,
    /// What happens to a message about which the endpoint has not decided: it does not answer in time, or not what docs/hook.md
    /// says. `allow` accepts it as it is; with `refuse` its sender gets 503, and tries again.
    pub on_failure: OnFailure,
    /// In which conversations messages are decided about: `private`, `group`, or what the ids of groups begin with,
    /// `group_support_`.
    #[serde(deserialize_with = "trimmed")]
    pub conversations: Vec<String>,
    /// Which messages are decided about: `text`, `image`, `file`, `app` (types 100 to 255), `edit`; also `reaction`, `recall` and
    /// `pin`, which cannot be replaced. Without `edit`, a sender can change a message into what the endpoint would refuse.
    #[serde(deserialize_with = "trimmed")]
    pub messages: Vec<String>,
    /// As many calls that fail one after the other open the circuit breaker: the endpoint is not called for `breaker_open_ms`, and
    /// `on_failure` decides at once.
    pub breaker_failures: u32,
    /// So does this share of the last 64 calls, from 20 calls on, in percent.
    pub breaker_percent: u32,
    /// How long it stays open before one call tries the endpoint again.
    pub breaker_open_ms: u64,
}

impl Default for Hook {
    fn default() -> Self {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            url: String::new(),
            secret: Secret::default(),
            secret_file: PathBuf::new(),
            tls_ca: PathBuf::new(),
            timeout_ms: 1_000,
            calls_at_once: 128,
            on_failure: OnFailure::Refuse,
            conversations: all(&[PRIVATE, GROUP]),
            messages: all(&KINDS[..5]),
            breaker_failures: 10,
            breaker_percent: 50,
            breaker_open_ms: 5_000,
        }
    }
}

impl Hook {
    /// Whether an endpoint is asked.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.url.is_empty()
    }

    /// The longest time of one call.
    #[must_use]
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The certificates of `tls_ca`.
    ///
    /// # Errors
    /// The file is unusable.
    pub(crate) fn authorities(&self) -> Result<Vec<reqwest::Certificate>, ConfigError> {
        authorities("hook.tls_ca", &self.tls_ca)
    }

    /// Reads the secret, and checks all keys.
    ///
    /// # Errors
    /// Names the key, and says what to write.
    pub(super) fn validated(mut self, request_deadline_ms: u64) -> Result<Self, ConfigError> {
        self.secret = Secret::either("hook.secret", self.secret, &self.secret_file)?;
        self.check_ranges()?;
        self.check_names()?;
        if !self.is_on() {
            return Ok(self);
        }
        self.check_endpoint()?;
        let timeout_max = request_deadline_ms / TIMEOUT_PART;
        if self.timeout_ms > timeout_max {
            let why = format!(
                "{} is over a quarter of limits.request_deadline_ms, which leaves no time to send the message: write at most \
                 {timeout_max}, or raise limits.request_deadline_ms to {}",
                self.timeout_ms,
                self.timeout_ms.saturating_mul(TIMEOUT_PART)
            );
            return Err(ConfigError::key("hook.timeout_ms", why));
        }
        Ok(self)
    }

    fn check_endpoint(&self) -> Result<(), ConfigError> {
        let wrong = |why: &str| Err(ConfigError::key("hook.url", why));
        let Ok(url) = Url::parse(&self.url) else {
            return wrong("is no URL: write https://host/path");
        };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return wrong("is not http://host/path or https://host/path");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("has a user or a password: leave them out, calls are signed with hook.secret");
        }
        if url.fragment().is_some() {
            return wrong("has a fragment, which is never sent: leave out # and what follows");
        }
        if url.scheme() == "http" && !self.tls_ca.as_os_str().is_empty() {
            return wrong("has no TLS, but hook.tls_ca is set: write https://, or leave hook.tls_ca empty");
        }
        if self.secret.is_empty() {
            let why =
                "is missing: write whsec_ and the output of `openssl rand -base64 32`, or empty hook.url";
            return Err(ConfigError::key("hook.secret", why));
        }
        SigningKey::parse(self.secret.expose()).map_err(|why| ConfigError::key("hook.secret", why))?;
        self.authorities().map(|_| ())
    }

    fn check_ranges(&self) -> Result<(), ConfigError> {
        let calls_at_once = u64::try_from(self.calls_at_once).unwrap_or(u64::MAX);
        for (key, value, max) in [
            ("hook.timeout_ms", self.timeout_ms, 60_000),
            ("hook.calls_at_once", calls_at_once, 65_536),
            ("hook.breaker_failures", self.breaker_failures.into(), 1_000_000),
            ("hook.breaker_percent", self.breaker_percent.into(), 100),
            ("hook.breaker_open_ms", self.breaker_open_ms, 3_600_000),
        ] {
            if !(1..=max).contains(&value) {
                return Err(ConfigError::key(key, format!("{value} is not in 1..={max}")));
            }
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), ConfigError> {
        for (key, names) in [("hook.conversations", &self.conversations), ("hook.messages", &self.messages)] {
            if names.is_empty() {
                return Err(ConfigError::key(key, "is empty: to ask about no message, empty hook.url"));
            }
        }
        for name in &self.conversations {
            if name != PRIVATE && name != GROUP && !name.starts_with(GROUP_PREFIX) {
                let why = format!(
                    "{name} is not \"private\", \"group\", or what ids of groups begin with: \"group_…\""
                );
                return Err(ConfigError::key("hook.conversations", why));
            }
        }
        for name in &self.messages {
            if !KINDS.contains(&name.as_str()) {
                let why = format!("{name} is not one of {}", KINDS.join(", "));
                return Err(ConfigError::key("hook.messages", why));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn hook() -> Hook {
        Hook { url: "https://app.example/hook".to_owned(), secret: SECRET.into(), ..Hook::default() }
    }

    #[test]
    fn the_defaults_are_off_and_an_address_with_a_secret_is_on() {
        assert!(!Hook::default().validated(5_000).unwrap().is_on());
        assert!(hook().validated(5_000).unwrap().is_on());
        let http = Hook { url: "http://10.0.0.7:8080/hook?a=1".to_owned(), ..hook() };
        assert!(http.validated(5_000).is_ok(), "private networks are allowed");
    }

    #[test]
    fn an_unusable_value_is_refused_with_what_to_write() {
        let url = |url: &str| Hook { url: url.to_owned(), ..hook() };
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let ca = std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        for (hook, key, remedy) in [
            (url("app.example"), "hook.url: ", "https://host/path"),
            (url("ftp://app.example/"), "hook.url: ", "https://host/path"),
            (url("https://a:b@app.example/"), "hook.url: ", "leave them out"),
            (url("https://app.example/#x"), "hook.url: ", "leave out #"),
            (Hook { tls_ca: ca.clone(), ..url("http://app.example/") }, "hook.url: ", "write https://"),
            (Hook { tls_ca: ca, ..hook() }, "hook.tls_ca: ", "no certificate"),
            (Hook { tls_ca: "/nowhere.pem".into(), ..hook() }, "hook.tls_ca: ", "/nowhere.pem"),
            (Hook { secret: Secret::default(), ..hook() }, "hook.secret: ", "openssl rand"),
            (Hook { secret: "short".into(), ..hook() }, "hook.secret: ", "openssl rand"),
            (Hook { secret_file: "/nowhere".into(), ..hook() }, "hook.secret_file: ", "set one of them"),
            (Hook { timeout_ms: 1_251, ..hook() }, "hook.timeout_ms: ", "at most 1250"),
            (Hook { timeout_ms: 0, ..hook() }, "hook.timeout_ms: ", "1..=60000"),
            (Hook { calls_at_once: 0, ..hook() }, "hook.calls_at_once: ", "1..=65536"),
            (Hook { breaker_failures: 0, ..hook() }, "hook.breaker_failures: ", "1..="),
            (Hook { breaker_percent: 101, ..hook() }, "hook.breaker_percent: ", "1..=100"),
            (Hook { breaker_open_ms: 0, ..hook() }, "hook.breaker_open_ms: ", "1..="),
            (Hook { conversations: Vec::new(), ..hook() }, "hook.conversations: ", "empty hook.url"),
            (
                Hook { conversations: names(&["private_bob"]), ..hook() },
                "hook.conversations: ",
                "\"group_…\"",
            ),
            (Hook { messages: names(&["text", "edits"]), ..hook() }, "hook.messages: edits ", "text, image"),
        ] {
            let error = hook.validated(5_000).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(remedy), "{key} {remedy}: {error}");
            assert!(!error.contains("MfKQ"), "{error}");
        }
    }

    #[test]
    fn unusable_values_are_refused_also_while_it_is_off() {
        let off = Hook { breaker_percent: 0, ..Hook::default() };
        assert!(off.validated(5_000).is_err());
    }
}
