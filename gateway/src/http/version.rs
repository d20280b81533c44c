//! `GET /api`: the version of the protocol and of the program, the features, and the limits.

use serde::Serialize;
use shared::message::{ATTACHMENTS_MAX, BODY_BYTES_MAX, MENTIONS_MAX};
use shared::meta::META_BYTES_MAX;

use super::answer::{Answer, json};
use super::call::Call;
use super::refusals::method_not_allowed;
use crate::config::AuthMode;
use crate::connection::socket::FRAME_BYTES_MAX;
use crate::features::Feature;
use crate::wire::version::PROTOCOL;

/// Of this crate.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
struct Api<'a> {
    protocol: u32,
    version: &'a str,
    commit: &'a str,
    features: &'a [&'a str],
    auth: Auth,
    limits: Limits,
}

/// How users may log in beside tokens, for pages that show a login.
#[derive(Serialize)]
struct Auth {
    /// A user id is enough.
    insecure: bool,
    /// `POST /api/register` and `POST /api/login` are there.
    accounts: bool,
}

/// Those that apply: a limit of a feature is there if the feature is.
#[derive(Serialize)]
struct Limits {
    content_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mentions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attachments: Option<usize>,
    frame_bytes: usize,
    heartbeat_ms: u64,
}

/// Anyone may call it, since a client has to know the protocol before it logs in.
pub(super) fn route(call: &Call) -> Answer {
    if call.method() != "GET" {
        return Err(method_not_allowed("GET"));
    }
    let settings = call.deps.connections.settings.now();
    let has_meta = [Feature::Profiles, Feature::Meta].into_iter().any(|one| settings.features.is_on(one));
    let has_files = settings.features.is_on(Feature::Files);
    let limits = Limits {
        content_bytes: BODY_BYTES_MAX,
        meta_bytes: has_meta.then_some(META_BYTES_MAX),
        mentions: settings.features.is_on(Feature::Mentions).then_some(MENTIONS_MAX),
        file_bytes: has_files.then(|| call.deps.live.now().files.bytes_max),
        attachments: has_files.then_some(ATTACHMENTS_MAX),
        frame_bytes: FRAME_BYTES_MAX,
        heartbeat_ms: settings.timeouts.heartbeat_ms,
    };
    let auth = Auth {
        insecure: call.deps.settings.auth_mode == AuthMode::Insecure,
        accounts: call.deps.accounts.is_some(),
    };
    let (commit, features) = (call.deps.commit, settings.features.names());
    json(&Api { protocol: PROTOCOL, version: VERSION, commit, features: &features, auth, limits })
}
