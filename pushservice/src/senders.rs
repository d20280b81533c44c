//! The entrance: credentials of all push services, which can be replaced while messages are sent.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use reqwest::Client;
use shared::config::ConfigError;

use crate::apns::{self, ApnsSender};
use crate::config::PushConfig;
use crate::fcm::FcmSender;
use crate::message::PushMessage;
use crate::outcome::Outcome;
use crate::public_key::P256PublicKey;
use crate::subscription::{PushService, Subscription};
use crate::web_push::{self, WebPushSender};

/// The HTTP clients that call push services. They need neither redirects nor cookies, and get a timeout with each request.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Calls endpoints of Web Push. Devices name them, so that this client should refuse private networks and redirects.
    pub web_push: Client,
    /// Calls FCM and APNs at the addresses of the configuration. APNs speaks HTTP/2 only: the client offers it by ALPN, as
    /// `reqwest` does unless it is told otherwise.
    pub configured: Client,
}

/// Sends messages with the credentials of a [`PushConfig`].
pub struct Senders {
    clients: Clients,
    credentials: RwLock<Arc<Credentials>>,
}

struct Credentials {
    web_push: Option<Arc<WebPushSender>>,
    fcm: Option<Arc<FcmSender>>,
    apns: Option<Arc<ApnsSender>>,
    timeout: Duration,
}

impl fmt::Debug for Senders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services = PushService::ALL.into_iter().filter(|service| self.has(*service));
        f.debug_set().entries(services.map(PushService::name)).finish()
    }
}

impl Senders {
    /// Reads the credentials of a configuration that was [checked](PushConfig::validated). It reads files, and blocks for a
    /// moment.
    ///
    /// # Errors
    /// Names the configuration key that is unusable.
    pub fn new(config: &PushConfig, clients: Clients) -> Result<Self, ConfigError> {
        let credentials = RwLock::new(Arc::new(Credentials::read(config)?));
        Ok(Self { clients, credentials })
    }

    /// Reads the credentials again, also from files whose names are the same. Later messages are sent with the new ones, and
    /// tokens of credentials that did not change are kept. With an error, nothing changes.
    ///
    /// # Errors
    /// Names the configuration key that is unusable.
    pub fn replace(&self, config: &PushConfig) -> Result<(), ConfigError> {
        let mut new = Credentials::read(config)?;
        let mut credentials = self.credentials.write();
        // Apple refuses a provider's tokens that are replaced more often than every 20 minutes.
        keep(&mut new.web_push, credentials.web_push.as_ref(), WebPushSender::is_same);
        keep(&mut new.fcm, credentials.fcm.as_ref(), FcmSender::is_same);
        keep(&mut new.apns, credentials.apns.as_ref(), ApnsSender::is_same);
        *credentials = Arc::new(new);
        Ok(())
    }

    /// Whether devices of this push service can be reached.
    #[must_use]
    pub fn has(&self, service: PushService) -> bool {
        let credentials = self.now();
        match service {
            PushService::WebPush => credentials.web_push.is_some(),
            PushService::Fcm => credentials.fcm.is_some(),
            PushService::Apns => credentials.apns.is_some(),
        }
    }

    /// The public parts of the VAPID keys, the newest first: devices subscribe with the first one as their
    /// `applicationServerKey`, and subscribe again if theirs is not in the list.
    #[must_use]
    pub fn vapid_public_keys(&self) -> Vec<P256PublicKey> {
        self.now().web_push.iter().flat_map(|sender| sender.public_keys().copied()).collect()
    }

    /// Sends `message` to one device: one attempt, within `push.timeout_ms` (FCM: also for its token).
    ///
    /// Safari revokes the permission of a page that shows no notification for a message: a [`PushMessage::Withdraw`] to it
    /// costs the subscription after a few times.
    pub async fn send(&self, subscription: &Subscription, message: &PushMessage) -> Outcome {
        let credentials = self.now();
        let timeout = credentials.timeout;
        let Clients { web_push: web_client, configured: client } = &self.clients;
        match subscription {
            Subscription::WebPush { endpoint, p256dh, auth, vapid_key } => {
                let Some(sender) = &credentials.web_push else { return not_configured("push.vapid_keys") };
                let target = web_push::Target { endpoint, p256dh, auth, vapid_key: vapid_key.as_ref() };
                sender.send(web_client, target, message, timeout).await
            }
            Subscription::Fcm { token } => {
                let Some(sender) = &credentials.fcm else {
                    return not_configured("push.fcm_service_account_file");
                };
                sender.send(client, token, message, timeout).await
            }
            Subscription::Apns { token, topic, sandbox } => {
                let Some(sender) = &credentials.apns else { return not_configured("push.apns_key_file") };
                let target = apns::Target { token, topic: topic.as_deref(), sandbox: *sandbox };
                sender.send(client, target, message, timeout).await
            }
        }
    }

    fn now(&self) -> Arc<Credentials> {
        Arc::clone(&self.credentials.read())
    }
}

impl Credentials {
    fn read(config: &PushConfig) -> Result<Self, ConfigError> {
        let web_push = config.has_web_push().then(|| WebPushSender::new(config)).transpose()?;
        let fcm = config.has_fcm().then(|| FcmSender::new(config)).transpose()?;
        let apns = config.has_apns().then(|| ApnsSender::new(config)).transpose()?;
        Ok(Self {
            web_push: web_push.map(Arc::new),
            fcm: fcm.map(Arc::new),
            apns: apns.map(Arc::new),
            timeout: config.timeout(),
        })
    }
}

/// Keeps the present sender if the new one has the same settings.
fn keep<S>(new: &mut Option<Arc<S>>, present: Option<&Arc<S>>, is_same: fn(&S, &S) -> bool) {
    if let (Some(sender), Some(present)) = (new, present)
        && is_same(sender, present)
    {
        *sender = Arc::clone(present);
    }
}

fn not_configured(key: &str) -> Outcome {
    Outcome::Rejected(format!("this push service is not configured: set {key}"))
}
