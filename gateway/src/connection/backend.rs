//! What a connection needs from the rest of the gateway.
//!
//! A trait, so that tests run a connection without stores, a broker or the real clock.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use shared::conversation::Conversation;
use shared::ids::{ConnectionId, Seq, UserId};

use super::deps::Deps;
use super::settings::ConnectionSettings;
use crate::auth::token::Login;
use crate::budget::cost;
use crate::identity::Identity;
use crate::outbox::{Outbox, ReplyTo};
use crate::wire::api_error::ApiError;
use crate::wire::chat::ChatRequest;
use crate::wire::context::RequestContext;
use crate::wire::request::{PullRequest, SyncRequest};
use crate::wire::retry_delay::RetryDelay;

/// A request that is answered by a task of its own, so that the connection reads on meanwhile.
#[derive(Debug, PartialEq, Eq)]
pub enum Query {
    /// cmd 0 with the client's sync position
    Heartbeat(Arc<Identity>, u64),
    /// cmd 3
    Pull(RequestContext, Conversation, PullRequest),
    /// cmd 4
    Ack(RequestContext, Conversation, Seq),
    /// cmd 6
    Sync(RequestContext, SyncRequest),
    /// cmd 8
    Typing(RequestContext, Conversation),
    /// cmd 9
    Watch(RequestContext, Vec<UserId>),
}

impl Query {
    /// Its cmd, as a label of metrics.
    fn name(&self) -> &'static str {
        match self {
            Self::Heartbeat(..) => "heartbeat",
            Self::Pull(..) => "pull",
            Self::Ack(..) => "ack",
            Self::Sync(..) => "sync",
            Self::Typing(..) => "typing",
            Self::Watch(..) => "watch",
        }
    }
}

/// The gateway, as one connection sees it.
pub(crate) trait Backend: Send + Sync + 'static {
    /// The settings of a connection that begins now.
    fn settings(&self) -> Arc<ConnectionSettings>;

    /// The wall clock, in milliseconds since 1970.
    fn unix_millis(&self) -> i64;

    /// A new connection id.
    fn next_connection_id(&self) -> ConnectionId;

    /// Verifies a token.
    ///
    /// # Errors
    /// 401.
    fn check_token(&self, token: &str) -> Result<Login, ApiError>;

    /// Whether a token of `user` that was issued at that time (ms since 1970) is revoked.
    fn is_revoked(&self, user: &UserId, issued_at_ms: i64) -> bool;

    /// Adds a connection to the hub: from here on it gets private messages. An older one of the device is closed, or one
    /// of the user if there are too many.
    fn register(&self, who: &Identity, outbox: &Arc<Outbox>);

    /// Removes a connection from the hub.
    fn deregister(&self, who: &Identity);

    /// Loads the memberships of a registered user, and subscribes its connections to its groups.
    ///
    /// The future ends within the request deadline. It fails with 503 if the database is unavailable or too many users log in
    /// at once.
    fn load_memberships(&self, user: &UserId) -> BoxFuture<'static, Result<(), ApiError>>;

    /// Records that a registered user is connected here. The future ends within a second; if it could not be recorded, the
    /// connection gets a resync when it is.
    fn record_presence(&self, user: &UserId, outbox: &Arc<Outbox>) -> BoxFuture<'static, ()>;

    /// Makes a registered connection the only one of its device on all gateways: older ones are closed, or this one if a newer
    /// one exists. The future ends within a second.
    fn claim_device(&self, who: &Arc<Identity>, outbox: &Arc<Outbox>) -> BoxFuture<'static, ()>;

    /// Takes a message. Its reply is sent through `reply_to`.
    ///
    /// `Some` if something has to be looked up first: the caller handles no further request of this connection until the
    /// future has ended, so that the messages of the connection keep their order.
    fn submit(
        &self,
        by: &Arc<Identity>,
        conversation: Conversation,
        request: ChatRequest,
        reply_to: ReplyTo,
    ) -> Option<BoxFuture<'static, ()>>;

    /// Starts a task that answers `query` through `reply_to`.
    fn start(&self, query: Query, reply_to: ReplyTo);
}

impl Backend for Deps {
    fn settings(&self) -> Arc<ConnectionSettings> {
        self.settings.now()
    }

    fn unix_millis(&self) -> i64 {
        shared::ids::unix_millis()
    }

    fn next_connection_id(&self) -> ConnectionId {
        self.new_connection_id()
    }

    fn check_token(&self, token: &str) -> Result<Login, ApiError> {
        self.tokens.check(token)
    }

    fn is_revoked(&self, user: &UserId, issued_at_ms: i64) -> bool {
        self.revocations.is_revoked(user, issued_at_ms)
    }

    fn register(&self, who: &Identity, outbox: &Arc<Outbox>) {
        self.hub.register(who, outbox, self.settings().connections_per_user_max);
    }

    fn deregister(&self, who: &Identity) {
        self.memberships.disconnected(who);
        self.online.gone(&who.user);
        self.devices.gone(who);
        self.watches.gone(who.origin.connection);
    }

    fn load_memberships(&self, user: &UserId) -> BoxFuture<'static, Result<(), ApiError>> {
        let deadline = self.settings().request_deadline;
        let (logins, memberships, user) =
            (Arc::clone(&self.logins), Arc::clone(&self.memberships), user.clone());
        let (budget, hub) = (self.budgets.of(&user), Arc::clone(&self.hub));
        async move {
            let load = async {
                budget.recovered().await;
                budget.spend(cost::LOGIN);
                logins.load(&user).await
            };
            let loaded = tokio::time::timeout(deadline, load).await.unwrap_or_else(|_| {
                let message = "the database did not answer in time: try again";
                Err(ApiError::unavailable(message, RetryDelay::StoreUnavailable))
            });
            memberships.logged_in(&user, loaded?);
            metrics::counter!(shared::metrics::GATEWAY_LOGINS).increment(1);
            budget.spend(cost::of_count(hub.groups_of(user.as_str()).len()));
            Ok(())
        }
        .boxed()
    }

    fn record_presence(&self, user: &UserId, outbox: &Arc<Outbox>) -> BoxFuture<'static, ()> {
        self.online.connected(user, outbox).boxed()
    }

    fn claim_device(&self, who: &Arc<Identity>, outbox: &Arc<Outbox>) -> BoxFuture<'static, ()> {
        let (devices, who, outbox) = (Arc::clone(&self.devices), Arc::clone(who), Arc::clone(outbox));
        async move { devices.claim(&who, &outbox).await }.boxed()
    }

    fn submit(
        &self,
        by: &Arc<Identity>,
        conversation: Conversation,
        request: ChatRequest,
        reply_to: ReplyTo,
    ) -> Option<BoxFuture<'static, ()>> {
        self.sends.submit(by, conversation, request, reply_to)
    }

    fn start(&self, query: Query, reply_to: ReplyTo) {
        metrics::counter!(shared::metrics::GATEWAY_REQUESTS, "cmd" => query.name()).increment(1);
        let reads = Arc::clone(&self.reads);
        match query {
            Query::Heartbeat(who, cursor) => self.shutdown.spawn(reads.heartbeat(who, cursor, reply_to)),
            Query::Pull(context, conversation, pull) => {
                self.shutdown.spawn(reads.pull(context, conversation, pull, reply_to))
            }
            Query::Ack(context, conversation, cursor) => {
                self.shutdown.spawn(reads.ack(context, conversation, cursor, reply_to))
            }
            Query::Sync(context, sync) => self.shutdown.spawn(reads.sync(context, sync, reply_to)),
            Query::Typing(context, conversation) => {
                let typing = Arc::clone(&self.typing);
                self.shutdown.spawn(typing.notice(context, conversation, reply_to))
            }
            Query::Watch(context, users) => {
                self.shutdown.spawn(Arc::clone(&self.watches).watch(context, users, reply_to))
            }
        };
    }
}
