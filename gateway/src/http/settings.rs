//! The settings of the HTTP side.

use std::time::Duration;

use ipnet::IpNet;

use super::cors::CrossOriginPolicy;
use crate::auth::operator::OperatorKey;
use crate::config::{AuthMode, Config};
use crate::id_profile::IdProfile;

/// A rate per second, and how many at once after a pause.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RateSettings {
    /// 0 for no limit.
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
}

/// The settings of HTTP calls and of the WebSocket handshake.
#[derive(Debug)]
pub(crate) struct HttpSettings {
    pub(crate) cross_origin: CrossOriginPolicy,
    /// Networks of load balancers that name the client.
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) auth_mode: AuthMode,
    /// Whether the web client is served at `/`.
    pub(crate) web_client: bool,
    pub(crate) operator: OperatorKey,
    /// Which ids new groups may have.
    pub(crate) group_ids: IdProfile,
    /// Concurrent calls; a further one gets 503.
    pub(crate) calls_max: usize,
    /// Concurrent calls of one address; 0 for no limit.
    pub(crate) address_calls_max: usize,
    /// From the end of the body to the response.
    pub(crate) deadline: Duration,
    /// Bytes of a body, unless the call has its own limit.
    pub(crate) body_bytes_max: usize,
    /// For the whole body.
    pub(crate) body_timeout: Duration,
    /// Calls of one address.
    pub(crate) address_rate: RateSettings,
    /// Calls of one user.
    pub(crate) user_rate: RateSettings,
}

impl HttpSettings {
    /// The settings that `config` has.
    pub(crate) fn of(config: &Config) -> Self {
        let limits = &config.limits;
        Self {
            cross_origin: CrossOriginPolicy::new(&config.listen, config.auth.mode),
            trusted_proxies: config.listen.trusted_proxies.clone(),
            auth_mode: config.auth.mode,
            web_client: config.web.enabled,
            operator: OperatorKey::new(config.auth.api_key.clone()),
            group_ids: config.groups.id_profile,
            calls_max: limits.http_calls_max,
            address_calls_max: limits.address_calls_at_once,
            deadline: Duration::from_millis(limits.request_deadline_ms),
            body_bytes_max: limits.http_body_bytes_max,
            body_timeout: Duration::from_millis(config.timeouts.http_body_ms),
            address_rate: RateSettings {
                per_second: limits.address_calls_per_second,
                burst: limits.address_calls_burst,
            },
            user_rate: RateSettings {
                per_second: limits.user_calls_per_second,
                burst: limits.user_calls_burst,
            },
        }
    }
}
