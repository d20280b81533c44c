//! A gateway's settings.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use shared::config::{Amqp, ConfigError, Log, Mysql, Redis, Shards, Start};

/// All of them. `deploy/config/gateway.toml` shows each key with its default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[listen]`
    pub listen: Listen,
    /// `[auth]`
    pub auth: Auth,
    /// `[groups]`
    pub groups: Groups,
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
    /// `[start]`
    pub start: Start,
}

/// `[listen]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Address and port for WebSocket and HTTP.
    pub address: SocketAddr,
    /// Origins (`https://chat.example`) that browsers may connect from, beside the host itself; `*` allows all.
    pub allowed_origins: Vec<String>,
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: SocketAddr::from(([0, 0, 0, 0], 8080)), allowed_origins: Vec::new() }
    }
}

/// How users prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// By a signed token.
    Jwt,
    /// By a token, or by saying so: for demos and tests only.
    Insecure,
}

/// `[auth]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// `jwt` or `insecure`.
    pub mode: AuthMode,
    /// Secret of HS256 tokens, at least 32 bytes. Required with `jwt`.
    pub hs256_secret: String,
}

impl Default for Auth {
    fn default() -> Self {
        Self { mode: AuthMode::Jwt, hs256_secret: String::new() }
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// `[groups]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Groups {
    /// An unknown group comes into being at its first use, open to all.
    pub auto_create: bool,
}

/// `[limits]`: what one gateway holds at most. All memory that clients can make it use is bounded by these.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections; further ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// Connections of one user; beyond, a new one is closed with 4429.
    pub connections_per_user_max: usize,
    /// Requests of one connection that are not answered yet; beyond, its frames are left in the socket.
    pub requests_per_connection_max: usize,
    /// Bytes of pushes that wait for one slow reader; beyond, they are dropped and it is told to pull.
    pub push_bytes_per_connection_max: usize,
    /// Malformed frames in a row before a connection is closed with 4429.
    pub malformed_frames_max: u32,
    /// Messages between admission and answer; beyond, 503.
    pub messages_in_flight_max: usize,
    /// Messages that wait for one shard's pipeline; beyond, 503.
    pub shard_queue_messages_max: usize,
    /// Messages per published batch.
    pub batch_messages_max: usize,
    /// Bytes per published batch, contents and overhead.
    pub batch_bytes_max: usize,
    /// Batches of all shards that are numbered and published at once. Under load the other shards gather meanwhile:
    /// fewer, larger batches.
    pub batches_at_once: usize,
    /// Every request is answered within this time.
    pub request_deadline_ms: u64,
    /// Messages per second and user; 0 for no limit.
    pub user_messages_per_second: u32,
    /// Messages that a user may send at once after a pause.
    pub user_messages_burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            connections_per_user_max: 32,
            requests_per_connection_max: 256,
            push_bytes_per_connection_max: 256 * 1024,
            malformed_frames_max: 64,
            messages_in_flight_max: 50_000,
            shard_queue_messages_max: 8_192,
            batch_messages_max: 256,
            batch_bytes_max: 256 * 1024,
            batches_at_once: 2,
            request_deadline_ms: 5_000,
            user_messages_per_second: 50,
            user_messages_burst: 200,
        }
    }
}

/// `[timeouts]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// How often clients are asked to give a sign of life. After three times as long without one: 4408.
    pub heartbeat_ms: u64,
    /// For the login of a connection that brought no token: 4401.
    pub login_ms: u64,
    /// For a reader that takes nothing from its socket: 4413.
    pub stalled_ms: u64,
    /// For the head of an HTTP request.
    pub http_header_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { heartbeat_ms: 30_000, login_ms: 10_000, stalled_ms: 30_000, http_header_ms: 10_000 }
    }
}

impl Timeouts {
    /// Three missed heartbeats.
    #[must_use]
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.saturating_mul(3))
    }
}

/// `[drain]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// At SIGTERM clients are closed one after the other over this time.
    pub spread_ms: u64,
}

impl Default for Drain {
    fn default() -> Self {
        Self { spread_ms: 3_000 }
    }
}

/// Shortest secret: as many bytes as the hash of HS256 has (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

impl Config {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// Names the key.
    pub fn validated(self) -> Result<Self, ConfigError> {
        self.shards.checked()?;
        if self.auth.mode == AuthMode::Jwt && self.auth.hs256_secret.is_empty() {
            let why = "is missing: set it, or auth.mode = \"insecure\" for a demo";
            return Err(ConfigError::key("auth.hs256_secret", why));
        }
        if !self.auth.hs256_secret.is_empty() && self.auth.hs256_secret.len() < SECRET_BYTES_MIN {
            return Err(ConfigError::key("auth.hs256_secret", "is shorter than 32 bytes"));
        }
        let limits = &self.limits;
        for (key, value, max) in [
            ("limits.connections_max", limits.connections_max, tokio::sync::Semaphore::MAX_PERMITS),
            ("limits.connections_per_user_max", limits.connections_per_user_max, usize::MAX),
            ("limits.requests_per_connection_max", limits.requests_per_connection_max, 65_536),
            ("limits.push_bytes_per_connection_max", limits.push_bytes_per_connection_max, usize::MAX),
            (
                "limits.messages_in_flight_max",
                limits.messages_in_flight_max,
                tokio::sync::Semaphore::MAX_PERMITS,
            ),
            ("limits.shard_queue_messages_max", limits.shard_queue_messages_max, 1 << 20),
            (
                "limits.batch_messages_max",
                limits.batch_messages_max,
                shared::redis::sequence::MESSAGES_PER_CALL_MAX,
            ),
            // RabbitMQ 4 takes bodies of up to 16 MiB.
            ("limits.batch_bytes_max", limits.batch_bytes_max, 8 << 20),
            ("limits.batches_at_once", limits.batches_at_once, 4_096),
        ] {
            if !(1..=max).contains(&value) {
                return Err(ConfigError::key(key, format!("{value} is not in 1..={max}")));
            }
        }
        if limits.request_deadline_ms == 0 {
            return Err(ConfigError::key("limits.request_deadline_ms", "is 0"));
        }
        if self.timeouts.heartbeat_ms == 0 {
            return Err(ConfigError::key("timeouts.heartbeat_ms", "is 0"));
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
    fn a_deployment_needs_a_secret_and_a_demo_does_not() {
        let missing = Config::default().validated().unwrap_err().to_string();
        assert!(missing.contains("auth.hs256_secret"), "{missing}");
        assert!(insecure().validated().is_ok());
        let mut short = Config::default();
        short.auth.hs256_secret = "short".into();
        assert!(short.validated().unwrap_err().to_string().contains("32 bytes"));
    }

    #[test]
    fn unusable_limits_are_named() {
        let mut config = insecure();
        config.limits.batch_messages_max = 0;
        assert!(config.validated().unwrap_err().to_string().contains("limits.batch_messages_max"));
    }

    #[test]
    fn lists_come_from_the_environment_too() {
        let environment = [("IM__LISTEN__ALLOWED_ORIGINS", "https://a.example,https://b.example")];
        let environment = environment.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let config: Config = shared::config::load_from(None, environment).unwrap();
        assert_eq!(config.listen.allowed_origins, ["https://a.example", "https://b.example"]);
    }

    #[test]
    fn secrets_are_not_shown() {
        let auth = Auth { hs256_secret: "very secret".into(), ..Auth::default() };
        assert!(!format!("{auth:?}").contains("very secret"));
    }

    #[test]
    fn the_sample_file_shows_every_key_with_its_default() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/config/gateway.toml");
        let sample: Config =
            shared::config::load_from(Some(path.as_ref()), std::collections::HashMap::new()).unwrap();
        let defaults = Config::default();
        assert_eq!(format!("{:?}", sample.limits), format!("{:?}", defaults.limits));
        assert_eq!(format!("{:?}", sample.timeouts), format!("{:?}", defaults.timeouts));
        assert_eq!(format!("{:?}", sample.listen), format!("{:?}", defaults.listen));
        assert_eq!(format!("{:?}", sample.drain), format!("{:?}", defaults.drain));
    }
}
