//! The settings of the HTTP side.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipnet::IpNet;

use super::cors::CrossOriginPolicy;
use crate::auth::operator::OperatorKey;
use crate::config::{AuthMode, Config, Limits};
use crate::id_profile::IdProfile;

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
    /// From the end of the body to the response.
    pub(crate) deadline: Duration,
    /// Bytes of a body, unless the call has its own limit.
    body_bytes_max: AtomicUsize,
    /// For the whole body.
    pub(crate) body_timeout: Duration,
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
            deadline: Duration::from_millis(limits.request_deadline_ms),
            body_bytes_max: AtomicUsize::new(limits.http_body_bytes_max),
            body_timeout: Duration::from_millis(config.timeouts.http_body_ms),
        }
    }

    /// Bytes of a body, unless the call has its own limit.
    pub(crate) fn body_bytes_max(&self) -> usize {
        self.body_bytes_max.load(Ordering::Relaxed)
    }

    /// Applies those of `limits` that can change while the process runs.
    pub(super) fn set_limits(&self, limits: &Limits) {
        self.body_bytes_max.store(limits.http_body_bytes_max, Ordering::Relaxed);
    }
}
