//! The configuration of a gateway.

mod authorities;
mod conversations;
mod hook;
mod limits;
mod listen;
pub(crate) mod live;
mod messages;
mod outgoing;
mod profiles;
mod push;
mod tls;
mod traces;
mod webhooks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use shared::amqp::PolicyWatch;
use shared::config::{
    Amqp, ConfigError, Feed, Files, Log, Mysql, Ops, Program, Redis, Secret, Shards, Start, Threads,
};

pub use crate::id_profile::IdProfile;
pub use conversations::{Conversations, Presence};
#[cfg(test)]
pub(crate) use hook::KINDS as HOOK_KINDS;
pub(crate) use hook::{GROUP as HOOK_GROUP, PRIVATE as HOOK_PRIVATE};
pub use hook::{Hook, OnFailure};
pub use listen::Listen;

pub use limits::Limits;
pub(crate) use limits::REPLY_BYTES_MAX;
pub use messages::Messages;
pub use outgoing::Outgoing;
pub use profiles::Profiles;
pub use push::Push;
pub use tls::Tls;
pub use traces::Traces;
pub use webhooks::Webhooks;

/// The default port of `ops.address`.
const OPS_PORT: u16 = 9091;

/// All sections. `deploy/config/gateway.toml` shows each key with its default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[listen]`
    pub listen: Listen,
    /// `[tls]`
    pub tls: Tls,
    /// `[ops]`
    pub ops: Ops<OPS_PORT>,
    /// `[web]`
    pub web: Web,
    /// `[auth]`
    pub auth: Auth,
    /// `[groups]`
    pub groups: Groups,
    /// `[messages]`
    pub messages: Messages,
    /// `[hook]`
    pub hook: Hook,
    /// `[profiles]`
    pub profiles: Profiles,
    /// `[conversations]`
    pub conversations: Conversations,
    /// `[presence]`
    pub presence: Presence,
    /// `[feed]`
    pub feed: Feed,
    /// `[outgoing]`
    pub outgoing: Outgoing,
    /// `[push]`
    pub push: Push,
    /// `[webhooks]`
    pub webhooks: Webhooks,
    /// `[files]`
    pub files: Files,
    /// `[inbox]`
    pub inbox: Inbox,
    /// `[limits]`
    pub limits: Limits,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[drain]`
    pub drain: Drain,
    /// `[mysql]`
    pub mysql: Mysql,
    /// `[redis]`
    pub redis: Redis,
    /// `[amqp]`
    pub amqp: Amqp,
    /// `[shards]`
    pub shards: Shards,
    /// `[log]`
    pub log: Log,
    /// `[traces]`
    pub traces: Traces,
    /// `[start]`
    pub start: Start,
    /// `[runtime]`
    pub runtime: Threads,
}

/// How users are authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// With a signed token.
    Jwt,
    /// With a token, or with a user id alone: for demos and tests only.
    Insecure,
}

/// `[auth]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// `jwt` or `insecure`.
    pub mode: AuthMode,
    /// Secret of HS256 tokens, at least 32 bytes.
    pub hs256_secret: Secret,
    /// A file that contains it instead.
    pub hs256_secret_file: PathBuf,
    /// A public key in PEM that verifies tokens: RSA (RS256) or Ed25519 (EdDSA). Changes take effect without a restart.
    pub public_key_file: PathBuf,
    /// A JSON Web Key Set with more public keys, selected by `kid`. Changes take effect without a restart.
    pub jwks_file: PathBuf,
    /// The required `aud` of tokens; empty: not checked.
    pub audience: String,
    /// The required `iss` of tokens; empty: not checked.
    pub issuer: String,
    /// Lifetime of tokens that the gateway issues, in seconds.
    pub token_ttl_s: u64,
    /// Anyone may create an account (`POST /api/register`) and log in to it. Requires `hs256_secret`.
    pub accounts: bool,
    /// Which ids new accounts may have.
    pub id_profile: IdProfile,
    /// Shortest new password, in characters.
    pub password_chars_min: usize,
    /// New passwords that are guessed first are refused: common ones, single words, names, dates, sequences.
    pub refuse_common_passwords: bool,
    /// The operator's key, at least 32 bytes: its owner may act for any user. Required with `jwt`.
    pub api_key: Secret,
    /// A file that contains it instead.
    pub api_key_file: PathBuf,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            mode: AuthMode::Jwt,
            hs256_secret: Secret::default(),
            hs256_secret_file: PathBuf::new(),
            public_key_file: PathBuf::new(),
            jwks_file: PathBuf::new(),
            audience: String::new(),
            issuer: String::new(),
            token_ttl_s: 86_400,
            accounts: false,
            id_profile: IdProfile::Safe,
            password_chars_min: 8,
            refuse_common_passwords: true,
            api_key: Secret::default(),
            api_key_file: PathBuf::new(),
        }
    }
}

impl Auth {
    /// Reads secrets from files, and checks all keys. [`Tokens`](crate::auth::token::Tokens) reads the key files.
    fn validated(mut self) -> Result<Self, ConfigError> {
        self.hs256_secret = Secret::either("auth.hs256_secret", self.hs256_secret, &self.hs256_secret_file)?;
        self.api_key = Secret::either("auth.api_key", self.api_key, &self.api_key_file)?;
        for (key, secret) in [("auth.hs256_secret", &self.hs256_secret), ("auth.api_key", &self.api_key)] {
            if !secret.is_empty() {
                secret.at_least(key, SECRET_BYTES_MIN)?;
            }
        }
        if self.accounts && self.hs256_secret.is_empty() {
            let why = "is true, but there is no auth.hs256_secret to sign tokens with: set it, or set this to false";
            return Err(ConfigError::key("auth.accounts", why));
        }
        // Before any key is said to be missing: a file that is named and not there is the better reason.
        let key_files =
            [("auth.public_key_file", &self.public_key_file), ("auth.jwks_file", &self.jwks_file)];
        for (key, file) in key_files.into_iter().filter(|(_, file)| !file.as_os_str().is_empty()) {
            std::fs::metadata(file)
                .map_err(|error| ConfigError::key(key, format!("{}: {error}", file.display())))?;
        }
        let any_key = !self.hs256_secret.is_empty()
            || [&self.public_key_file, &self.jwks_file].iter().any(|file| !file.as_os_str().is_empty());
        if self.mode == AuthMode::Jwt && !any_key {
            let why = "is missing: set it, auth.public_key_file or auth.jwks_file; or auth.mode = \"insecure\" for a demo";
            return Err(ConfigError::key("auth.hs256_secret", why));
        }
        if self.mode == AuthMode::Jwt && self.api_key.is_empty() {
            let why = "is missing: set it, or auth.mode = \"insecure\" for a demo";
            return Err(ConfigError::key("auth.api_key", why));
        }
        Ok(self)
    }
}

/// `[web]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Web {
    /// The web client is served at `/`.
    pub enabled: bool,
}

impl Default for Web {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// `[groups]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Groups {
    /// An unknown group is created at its first use, open to all.
    pub auto_create: bool,
    /// Which ids new groups may have.
    pub id_profile: IdProfile,
    /// A group with more members is a large group: it has a group head instead of entries in inboxes. Must be equal on all
    /// gateways.
    pub large_above: u32,
    /// Most members of a group.
    pub members_max: u32,
    /// Most groups of a user; 0 for no limit.
    pub per_user_max: u32,
    /// Groups that a user may make per day (UTC); 0 for no limit.
    pub made_per_day: u32,
    /// Members that a user may add to groups per day (UTC), those of its new groups included; 0 for no limit.
    pub members_added_per_day: u32,
    /// Only users with an account may be added to groups. Not with tokens of your own server, whose users have none.
    pub members_need_accounts: bool,
    /// Members see changes of their groups as entries of type 8. Must be equal on all gateways.
    pub system_messages: bool,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            auto_create: false,
            id_profile: IdProfile::Safe,
            large_above: 500,
            members_max: 100_000,
            per_user_max: 5_000,
            made_per_day: 200,
            members_added_per_day: 10_000,
            members_need_accounts: false,
            system_messages: true,
        }
    }
}

/// `[inbox]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Inbox {
    /// Seconds. A sync with an older cursor gets a complete list of conversations.
    pub ttl_s: u32,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { ttl_s: shared::redis::inbox::TTL_S_DEFAULT }
    }
}

/// `[timeouts]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// The heartbeat interval of clients. A connection without a frame for three intervals is closed with 4408.
    pub heartbeat_ms: u64,
    /// For the login of a connection that opened without a token; then it is closed with 4401.
    pub login_ms: u64,
    /// For a client that reads nothing from its socket; then it is closed with 4413.
    pub stalled_ms: u64,
    /// Bytes per second that a client reads at least, on average over `stalled_ms`, while frames wait for it; otherwise
    /// it is closed with 4413. 0 for no limit.
    pub drain_bytes_per_second_min: u64,
    /// For an HTTP client that reads nothing of its response; then its connection is closed.
    pub http_write_ms: u64,
    /// For the head of an HTTP request, from its first byte; for the first one from the beginning of the connection.
    pub http_header_ms: u64,
    /// For the pause between two HTTP requests of a connection; then it is closed. Longer than a load balancer keeps its
    /// connections, which would answer 502 if it used one that has just been closed.
    pub http_idle_ms: u64,
    /// For the body of an HTTP request.
    pub http_body_ms: u64,
    /// How long before its token expires a connection gets the event `token_expiring`.
    pub token_warning_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            heartbeat_ms: 30_000,
            login_ms: 10_000,
            stalled_ms: 30_000,
            drain_bytes_per_second_min: 8_192,
            http_write_ms: 30_000,
            http_header_ms: 10_000,
            http_idle_ms: 75_000,
            http_body_ms: 10_000,
            token_warning_ms: 60_000,
        }
    }
}

impl Timeouts {
    /// The longest silence of a client: three heartbeat intervals.
    #[must_use]
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.saturating_mul(3))
    }
}

/// `[drain]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// At SIGTERM, the connections are closed one by one over this time.
    pub spread_ms: u64,
}

impl Default for Drain {
    fn default() -> Self {
        Self { spread_ms: 3_000 }
    }
}

/// Shortest secret and key: the size of the hash of HS256 (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

impl Config {
    /// Reads `file` (none: defaults only) and the environment.
    ///
    /// # Errors
    /// An unreadable file, an unknown key, or an unusable value; the message names the key. Keys that only a worker has are
    /// ignored.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        shared::config::load(Program::Gateway, file, Self::validated)
    }

    /// Checks values beyond their types.
    ///
    /// # Errors
    /// A value is unusable; the message names its key.
    pub fn validated(mut self) -> Result<Self, ConfigError> {
        self.shards.checked()?;
        self.listen.check()?;
        self.tls.check()?;
        shared::advertised_address::check("ops.advertise", &self.ops.advertise)?;
        self.runtime.check()?;
        self.mysql.check()?;
        self.redis.check()?;
        self.amqp.check()?;
        PolicyWatch::check(&self.amqp)?;
        self.auth = self.auth.validated()?;
        self.feed.check()?;
        self.outgoing.check()?;
        self.push.check(&self.feed)?;
        self.webhooks.check()?;
        self.files = self.files.validated()?;
        self.limits.check()?;
        self.hook = self.hook.validated(self.limits.request_deadline_ms)?;
        self.traces.check()?;
        if self.timeouts.heartbeat_ms == 0 {
            return Err(ConfigError::key("timeouts.heartbeat_ms", "is 0"));
        }
        if !(1..=3_600_000).contains(&self.timeouts.http_idle_ms) {
            return Err(ConfigError::key("timeouts.http_idle_ms", "is not in 1..=3600000"));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insecure() -> Config {
        Config { auth: Auth { mode: AuthMode::Insecure, ..Auth::default() }, ..Config::default() }
    }

    #[test]
    fn jwt_requires_a_secret_and_a_key_and_insecure_mode_does_not() {
        let refused = |config: Config| config.validated().unwrap_err().to_string();
        let mut config = Config::default();
        assert!(refused(config.clone()).contains("auth.hs256_secret: is missing"));
        config.auth.hs256_secret = "short".into();
        assert!(refused(config.clone()).contains("auth.hs256_secret: is shorter than 32 bytes"));
        config.auth.hs256_secret = "x".repeat(32).as_str().into();
        assert!(refused(config.clone()).contains("auth.api_key: is missing"));
        config.auth.api_key = "x".repeat(31).as_str().into();
        assert!(refused(config.clone()).contains("auth.api_key: is shorter than 32 bytes"));
        config.auth.api_key = "x".repeat(32).as_str().into();
        assert!(config.clone().validated().is_ok());
        config.auth.hs256_secret = Secret::default();
        config.auth.jwks_file = "/nowhere.json".into();
        assert!(refused(config.clone()).contains("auth.jwks_file: /nowhere.json"));
        config.auth.jwks_file = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/keys/jwks.json").into();
        assert!(config.clone().validated().is_ok(), "one kind of key is enough");
        config.auth.accounts = true;
        assert!(refused(config).contains("auth.accounts"));
        assert!(insecure().validated().is_ok());
    }

    #[test]
    fn unusable_limits_are_named() {
        let mut config = insecure();
        config.limits.batch_messages_max = 0;
        assert!(config.validated().unwrap_err().to_string().contains("limits.batch_messages_max"));
        let mut config = insecure();
        config.timeouts.http_idle_ms = 0;
        assert!(config.validated().unwrap_err().to_string().contains("timeouts.http_idle_ms"));
    }

    #[test]
    fn lists_are_read_from_the_environment() {
        let environment = [("IM__LISTEN__ALLOWED_ORIGINS", "https://a.example,https://b.example")];
        let environment = environment.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let config: Config = shared::config::load_from(Program::Gateway, None, environment).unwrap();
        assert_eq!(config.listen.allowed_origins, ["https://a.example", "https://b.example"]);
    }

    #[test]
    fn secrets_are_not_shown() {
        let auth = Auth { hs256_secret: "very secret".into(), ..Auth::default() };
        assert!(!format!("{auth:?}").contains("very secret"));
    }

    #[test]
    fn the_sample_file_has_every_key_with_its_default() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/config/gateway.toml");
        let sample: Config =
            shared::config::load_from(Program::Gateway, Some(path.as_ref()), Default::default()).unwrap();
        let defaults = Config::default();
        assert_eq!(format!("{sample:?}"), format!("{defaults:?}"));
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(shared::config::sample::differing_keys(&defaults, &text), [""; 0]);
    }
}
