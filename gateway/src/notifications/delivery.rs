//! Sends one notification to all devices of its user, and records the end.
//!
//! Before the first call, the row says what is being sent, if it is still as it was decided about: so a gateway that was
//! frozen sends nothing of what others have gone on with. A gateway that is killed leaves the row as it is, and the next one
//! sends the same number under the same key, which devices show once.

use std::time::Duration;

use futures_util::future::join_all;
use pushservice::{Outcome, PushMessage, PushService, Subscription};
use shared::ids::{Seq, UserId};
use shared::metrics::{GATEWAY_NOTIFICATIONS, GATEWAY_NOTIFICATIONS_WITHDRAWN};
use shared::mysql::notifications::{self, DueRow, Key, Sent, Unread};
use shared::mysql::push_subscriptions::{self, StoredSubscription};
use shared::mysql::{self, profiles};

use super::compose::{self, Content};
use super::rules::{millis, next_look, rest};
use super::service::Notifications;
use super::subscription::{of_stored, takes_withdrawals};

/// Beside the time of a call, before another gateway may send a notification again.
const MARGIN: Duration = Duration::from_secs(10);

/// A device that is told something now.
type Target = (StoredSubscription, Subscription);

/// The devices of a user.
struct Devices {
    ready: Vec<Target>,
    /// Nothing is sent to these before a time: their push services want it so.
    resting: Vec<StoredSubscription>,
}

impl Devices {
    fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.resting.is_empty()
    }

    /// Whether one of them has an icon with a number that only the push service sets.
    fn has_badge(&self) -> bool {
        self.ready.iter().any(|(_, subscription)| subscription.service() != PushService::WebPush)
    }
}

/// What became of a message.
struct Delivered {
    is_accepted: bool,
    /// Devices that have not got it.
    pending: Vec<String>,
    /// When it is sent to them again.
    retry_at: Option<i64>,
}

impl Notifications {
    /// Shows the number `seq`.
    pub(super) async fn show(
        &self,
        key: &Key,
        row: DueRow,
        group_name: &str,
        unread: &Unread,
        (seq, is_quiet, pending_only): (Seq, bool, bool),
    ) -> Result<(), mysql::Error> {
        let pool = &self.deps.pool;
        let is_wanted = |device: &StoredSubscription| !pending_only || row.pending.contains(&device.id);
        let devices = self.devices(&key.user, is_wanted).await?;
        if devices.is_empty() && !pending_only {
            return notifications::remove(pool, &[(key, row.version)]).await;
        }
        if devices.ready.is_empty() {
            let looks = row.looks.saturating_add(1);
            let at = earliest(&devices.resting).unwrap_or_else(|| self.now() + next_look(row.looks));
            return notifications::look_again(pool, key, row.version, at, looks).await;
        }
        let sender = unread.newest.message.sender.clone();
        let sender_name = self.nickname(&sender).await?;
        let badge = self.badge(&key.user, &devices).await;
        let content = Content {
            conversation: &key.conversation,
            group_name,
            sender_name: &sender_name,
            unread,
            seq,
            has_text: self.config().text,
            is_quiet,
            badge,
        };
        let message = compose::show(&content);
        if !notifications::begin(pool, key, row.version, Some(seq), self.until()).await? {
            return Ok(());
        }
        let Delivered { is_accepted, pending, retry_at } = self.deliver(key, devices, &message).await?;
        // What no device takes is not sent again.
        let is_settled = is_accepted || pending.is_empty();
        let now = self.now();
        let sent = Sent {
            shown_seq: if is_settled { seq } else { row.shown_seq },
            shown_at: if is_settled && !pending_only { now } else { row.shown_at },
            pending: pending.join(" "),
            due_at: retry_at.unwrap_or_else(|| now + next_look(0)),
            looks: 0,
        };
        if !notifications::sent(pool, key, row.version + 1, &sent).await? {
            notifications::sent_meanwhile(pool, key, &sent).await?;
        }
        Ok(())
    }

    /// Tells the devices that it is over, and removes the row.
    pub(super) async fn withdraw(&self, key: &Key, row: DueRow) -> Result<(), mysql::Error> {
        let pool = &self.deps.pool;
        let is_again = row.is_withdrawn && !row.pending.is_empty();
        let is_wanted = |device: &StoredSubscription| !is_again || row.pending.contains(&device.id);
        let mut devices = self.devices(&key.user, is_wanted).await?;
        devices.ready.retain(|(_, subscription)| takes_withdrawals(subscription));
        if devices.is_empty() {
            return notifications::remove(pool, &[(key, row.version)]).await;
        }
        let badge = self.badge(&key.user, &devices).await;
        let seq = row.last_seq.max(row.sending_seq);
        let message = compose::withdraw(&key.conversation, seq, badge);
        if !notifications::begin(pool, key, row.version, None, self.until()).await? {
            return Ok(());
        }
        let Delivered { pending, retry_at, .. } = self.deliver(key, devices, &message).await?;
        metrics::counter!(GATEWAY_NOTIFICATIONS_WITHDRAWN).increment(1);
        let Some(due_at) = retry_at else {
            return notifications::remove(pool, &[(key, row.version + 1)]).await;
        };
        let looks = row.looks.saturating_add(1);
        let DueRow { shown_seq, shown_at, .. } = row;
        let sent = Sent { shown_seq, shown_at, pending: pending.join(" "), due_at, looks };
        notifications::sent(pool, key, row.version + 1, &sent).await.map(drop)
    }

    /// Until when nobody else sends what this gateway begins to send.
    fn until(&self) -> i64 {
        self.now() + millis(self.config().timeout() * 2 + MARGIN)
    }

    async fn devices(
        &self,
        user: &UserId,
        is_wanted: impl Fn(&StoredSubscription) -> bool,
    ) -> Result<Devices, mysql::Error> {
        let now = self.now();
        let stored = push_subscriptions::of_users(&self.deps.pool, std::slice::from_ref(user)).await?;
        let mut devices = Devices { ready: Vec::new(), resting: Vec::new() };
        for stored in stored.into_values().flatten().filter(is_wanted) {
            let Some(subscription) = of_stored(&stored) else { continue };
            if !self.senders.has(subscription.service()) {
                continue;
            }
            if stored.retry_at > now {
                devices.resting.push(stored);
            } else {
                devices.ready.push((stored, subscription));
            }
        }
        Ok(devices)
    }

    async fn nickname(&self, user: &UserId) -> Result<String, mysql::Error> {
        let found = profiles::find(&self.deps.pool, std::slice::from_ref(user)).await?.pop();
        Ok(found.map_or_else(|| user.as_str().to_owned(), |profile| profile.nickname))
    }

    async fn badge(&self, user: &UserId, devices: &Devices) -> Option<u32> {
        if !devices.has_badge() {
            return None;
        }
        let total = self.deps.reads.unread_total(user).await?;
        Some(u32::try_from(total).unwrap_or(u32::MAX))
    }

    /// Sends `message` to the devices that are ready, and records what their push services say about them.
    async fn deliver(
        &self,
        key: &Key,
        devices: Devices,
        message: &PushMessage,
    ) -> Result<Delivered, mysql::Error> {
        let pool = &self.deps.pool;
        let sent = devices.ready.iter().map(|(_, subscription)| self.send(subscription, message));
        let outcomes = join_all(sent).await;
        let (mut accepted, mut ended) = (Vec::new(), Vec::new());
        let mut pending: Vec<String> = devices.resting.iter().map(|device| device.id.clone()).collect();
        let mut retry_at = earliest(&devices.resting);
        for ((stored, subscription), outcome) in devices.ready.iter().zip(outcomes) {
            let kind = subscription.service().name();
            metrics::counter!(GATEWAY_NOTIFICATIONS, "service" => kind, "outcome" => outcome.label())
                .increment(1);
            match outcome {
                Outcome::Accepted => accepted.push(stored),
                Outcome::Gone(reason) => {
                    tracing::info!(user.id = %key.user, %kind, %reason, "A push subscription has ended and is removed");
                    ended.push(stored.id.as_str());
                }
                Outcome::Retry { after, reason } => {
                    let at = self.now() + rest(after, stored.failures);
                    tracing::debug!(user.id = %key.user, %kind, %reason, "A push service takes a notification later");
                    push_subscriptions::failed(pool, &stored.id, at).await?;
                    pending.push(stored.id.clone());
                    retry_at = Some(retry_at.map_or(at, |earlier| earlier.min(at)));
                }
                Outcome::Rejected(reason) => self.log_rejected(kind, reason),
            }
        }
        push_subscriptions::remove_ended(pool, &key.user, &ended).await?;
        push_subscriptions::accepted(pool, &accepted, self.now()).await?;
        Ok(Delivered { is_accepted: !accepted.is_empty(), pending, retry_at })
    }

    async fn send(&self, subscription: &Subscription, message: &PushMessage) -> Outcome {
        // The networks that may be called may have changed since the device registered.
        if let Subscription::WebPush { endpoint, .. } = subscription
            && let Err(error) = self.deps.outgoing.url(endpoint.as_str())
        {
            return Outcome::Rejected(format!("the endpoint of a device {error}"));
        }
        self.senders.send(subscription, message).await
    }

    /// Once, until another reason comes.
    fn log_rejected(&self, kind: &'static str, reason: String) {
        let mut rejected = self.rejected.lock();
        if rejected.get(kind) == Some(&reason) {
            return;
        }
        tracing::error!(%kind, %reason, "A notification was rejected by its push service ({kind}): {reason}");
        rejected.insert(kind, reason);
    }
}

fn earliest(resting: &[StoredSubscription]) -> Option<i64> {
    resting.iter().map(|device| device.retry_at).min()
}
