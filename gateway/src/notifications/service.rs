//! Notifications, as HTTP calls and the configuration see them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use pushservice::{Clients, PushService, Senders};
use shared::config::ConfigError;
use shared::ids::{UserId, unix_millis};
use shared::mysql::push_subscriptions::{self, StoredSubscription};
use shared::mysql::{Pool, notifications};
use shared::permits::Permits;
use shared::shutdown::Shutdown;
use uuid::Uuid;

use super::subscription::Registration;
use crate::config::{Config, Push};
use crate::feed::ChangeFeed;
use crate::key_files::{Said, reread};
use crate::outgoing::{Outgoing, RefusedUrl, client};
use crate::presence::Online;
use crate::read::Reads;
use crate::wire::api_error::ApiError;

/// How often the files of credentials are read again.
const RELOAD_INTERVAL: Duration = Duration::from_secs(30);
/// Apple asks to keep connections open.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// The parts that notifications use.
#[derive(Debug)]
pub(crate) struct NotificationDeps {
    pub(crate) pool: Pool,
    pub(crate) feed: Arc<ChangeFeed>,
    pub(crate) online: Online,
    /// For the number on an app's icon.
    pub(crate) reads: Arc<Reads>,
    pub(crate) outgoing: Outgoing,
    pub(crate) tasks: Shutdown,
}

/// Registers devices, and notifies them.
#[derive(Debug)]
pub(crate) struct Notifications {
    pub(super) deps: NotificationDeps,
    pub(super) senders: Senders,
    /// For notifications that are sent at the same time.
    pub(super) places: Permits,
    config: RwLock<Arc<Push>>,
    /// The last message of each kind that its push service has rejected.
    pub(super) rejected: Mutex<HashMap<&'static str, String>>,
    /// By how much the clock of the database is ahead of that of this machine, in milliseconds.
    clock_ahead_ms: AtomicI64,
}

impl Notifications {
    /// Reads the credentials of `config`.
    ///
    /// # Errors
    /// One of them is unusable.
    pub(crate) fn new(config: &Config, deps: NotificationDeps) -> Result<Self, ConfigError> {
        let push = &config.push;
        let configured = client(&config.outgoing, |builder| builder.pool_idle_timeout(IDLE_TIMEOUT))?;
        let clients = Clients { web_push: deps.outgoing.internet().clone(), configured };
        Ok(Self {
            senders: Senders::new(&push.services(), clients)?,
            places: Permits::new(push.sends_at_once),
            config: RwLock::new(Arc::new(push.clone())),
            rejected: Mutex::default(),
            clock_ahead_ms: AtomicI64::new(0),
            deps,
        })
    }

    /// Applies another configuration.
    pub(crate) fn set(&self, push: &Push, tasks: &Shutdown) {
        *self.config.write() = Arc::new(push.clone());
        self.places.resize(push.sends_at_once, tasks);
        if let Err(error) = self.reload() {
            tracing::error!(%error, "The keys of push services are unusable: {error}. They stay as they are");
        }
    }

    /// What applies at the moment.
    pub(super) fn config(&self) -> Arc<Push> {
        Arc::clone(&self.config.read())
    }

    /// The time by the clock of the database, as far as it is known, in milliseconds since 1970.
    pub(super) fn now(&self) -> i64 {
        unix_millis() + self.clock_ahead_ms.load(Ordering::Relaxed)
    }

    /// Compares the clock with that of the database. If that cannot be asked, the difference stays as it is.
    pub(super) async fn set_clock(&self) {
        if let Ok(now) = notifications::clock(&self.deps.pool).await {
            self.clock_ahead_ms.store(now - unix_millis(), Ordering::Relaxed);
        }
    }

    fn reload(&self) -> Result<(), ConfigError> {
        self.senders.replace(&self.config().services())
    }

    /// Reads the files of credentials periodically until the stop, so that keys are replaced without a restart.
    pub(crate) async fn follow_files(self: Arc<Self>, stop: Shutdown) {
        let said = Said {
            unusable: "The keys of push services are unusable; they stay as they are",
            usable: "The keys of push services are usable again",
        };
        reread(RELOAD_INTERVAL, &stop, said, move || self.reload()).await;
    }

    /// The kinds of devices that can be notified.
    pub(crate) fn services(&self) -> Vec<&'static str> {
        PushService::ALL
            .into_iter()
            .filter(|service| self.senders.has(*service))
            .map(PushService::name)
            .collect()
    }

    /// The key that browsers subscribe with.
    pub(crate) fn vapid_public_key(&self) -> Option<String> {
        self.senders.vapid_public_keys().first().map(ToString::to_string)
    }

    /// Registers a device of `user`. Returns the id of its subscription, the same for the same device.
    ///
    /// # Errors
    /// 400, 503.
    pub(crate) async fn register(
        &self,
        user: &UserId,
        registration: Registration,
    ) -> Result<String, ApiError> {
        let service = registration.service()?;
        if !self.senders.has(service) {
            let services = self.services().join(", ");
            let kind = service.name();
            return Err(ApiError::Malformed(format!(
                "kind {kind} is not configured on this server: it has {services}"
            )));
        }
        let new = registration.into_new(self.vapid_public_key())?;
        if service == PushService::WebPush {
            // The same check follows at each call.
            self.deps
                .outgoing
                .url(&new.target)
                .map_err(|error: RefusedUrl| ApiError::Malformed(format!("endpoint {error}")))?;
        }
        let new_id = Uuid::new_v4().simple().to_string();
        let stored = push_subscriptions::register(&self.deps.pool, user, &new_id, &new).await;
        stored.map_err(|error| ApiError::database(&error))
    }

    /// The subscriptions of `user`.
    ///
    /// # Errors
    /// 503
    pub(crate) async fn list(&self, user: &UserId) -> Result<Vec<StoredSubscription>, ApiError> {
        let found = push_subscriptions::of_users(&self.deps.pool, std::slice::from_ref(user)).await;
        Ok(found.map_err(|error| ApiError::database(&error))?.remove(user).unwrap_or_default())
    }

    /// Removes the subscription `id` of `user`.
    ///
    /// # Errors
    /// 404, 503.
    pub(crate) async fn remove(&self, user: &UserId, id: &str) -> Result<(), ApiError> {
        let removed = push_subscriptions::remove(&self.deps.pool, user, id).await;
        if removed.map_err(|error| ApiError::database(&error))? {
            return Ok(());
        }
        Err(ApiError::NotFound(
            "you have no subscription with this id: see GET /api/push/subscriptions".to_owned(),
        ))
    }

    /// Removes all subscriptions of `user`, whose tokens have ended: its devices register again after they have logged in.
    /// The tokens have ended in any case; a failure is logged.
    pub(crate) async fn logged_out(&self, user: &UserId) {
        if let Err(error) = push_subscriptions::remove_all(&self.deps.pool, user).await {
            tracing::warn!(
                user.id = %user, %error,
                "Cannot remove the push subscriptions of user {user}, who has logged out: its devices are notified until they \
                 log in again"
            );
        }
    }
}
