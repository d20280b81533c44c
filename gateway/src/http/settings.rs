//! The settings of the HTTP side.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use shared::config::{FileStoreKind, Files};
use url::Url;

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
    /// Where clients send and get files, beside the gateways.
    pub(crate) file_origins: Vec<String>,
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
            file_origins: file_origins(&config.files),
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

/// The origins of the store, of gateways by their public name, and of the CDN, as far as `files` has them.
fn file_origins(files: &Files) -> Vec<String> {
    if !files.is_on() {
        return Vec::new();
    }
    let is_s3 = files.store == FileStoreKind::S3;
    let store = if files.s3_public_url.is_empty() { &files.s3_url } else { &files.s3_public_url };
    let urls = [if is_s3 { store } else { &files.base_url }, &files.cdn_base_url];
    let parsed = urls.into_iter().filter_map(|url| Url::parse(url).ok());
    let mut origins: Vec<String> = parsed
        .flat_map(|url| {
            let plain = url.origin().ascii_serialization();
            // The bucket may be in the host.
            let of_bucket = plain.replacen("://", &format!("://{}.", files.s3_bucket), 1);
            if is_s3 && !files.s3_path_style { vec![plain, of_bucket] } else { vec![plain] }
        })
        .collect();
    origins.dedup();
    origins
}
