//! A fake gateway for tests: a real hub, and replies that the test controls.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ahash::{AHashMap, AHashSet};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::ids::{ConnectionId, UserId};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::backend::{Backend, Query};
use super::settings::ConnectionSettings;
use crate::auth::token::Login;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::outbox::{Outbox, ReplyTo};
use crate::wire::api_error::ApiError;
use crate::wire::chat::ChatRequest;

/// The wall clock when the test begins, in milliseconds since 1970.
pub(super) const START_UNIX_MS: i64 = 1_700_000_000_000;

/// A gateway whose tokens are `user` or `user:LIFE_MS`.
pub(super) struct FakeBackend {
    pub(super) settings: ConnectionSettings,
    pub(super) hub: Hub,
    start: Instant,
    connections: AtomicU64,
    /// One permit for each login that may finish.
    pub(super) logins: Arc<Semaphore>,
    pub(super) database_is_away: AtomicBool,
    pub(super) revoked: Mutex<AHashSet<UserId>>,
    /// Messages to these conversations need a lookup first; one permit for each lookup that may finish.
    pub(super) lookups: Mutex<AHashMap<String, Arc<Semaphore>>>,
    /// Requests are answered at once; otherwise by `answer_one`.
    pub(super) answers_at_once: AtomicBool,
    /// Requests that are not answered yet.
    owed: Arc<Mutex<VecDeque<(String, ReplyTo)>>>,
    /// Every message that was submitted, in order.
    pub(super) submitted: Arc<Mutex<Vec<String>>>,
}

impl FakeBackend {
    pub(super) fn new(settings: ConnectionSettings) -> Self {
        Self {
            settings,
            hub: Hub::new(),
            start: Instant::now(),
            connections: AtomicU64::new(1),
            logins: Arc::new(Semaphore::new(1_000)),
            database_is_away: AtomicBool::new(false),
            revoked: Mutex::default(),
            lookups: Mutex::default(),
            answers_at_once: AtomicBool::new(true),
            owed: Arc::default(),
            submitted: Arc::default(),
        }
    }

    /// Messages to this conversation need a lookup first.
    pub(super) fn look_up(&self, conversation: &str) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.lookups.lock().insert(conversation.to_owned(), Arc::clone(&gate));
        gate
    }

    /// Answers the oldest open request. False if there is none.
    pub(super) fn answer_one(&self) -> bool {
        let Some((text, reply_to)) = self.owed.lock().pop_front() else { return false };
        reply_to.send(Utf8Bytes::from(text));
        true
    }

    fn answer(&self, text: String, reply_to: ReplyTo) {
        match self.answers_at_once.load(Ordering::Relaxed) {
            true => reply_to.send(Utf8Bytes::from(text)),
            false => self.owed.lock().push_back((text, reply_to)),
        }
    }
}

impl Backend for FakeBackend {
    fn settings(&self) -> Arc<ConnectionSettings> {
        Arc::new(self.settings.clone())
    }

    fn unix_millis(&self) -> i64 {
        START_UNIX_MS + i64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    fn next_connection_id(&self) -> ConnectionId {
        ConnectionId { gateway: 1, connection: self.connections.fetch_add(1, Ordering::Relaxed) }
    }

    fn check_token(&self, token: &str) -> Result<Login, ApiError> {
        let (user, life_ms) = match token.split_once(':') {
            Some((user, life_ms)) => (user, life_ms.parse::<i64>().ok()),
            None => (token, None),
        };
        if user == "bad" {
            return Err(ApiError::Unauthenticated("the token is bad".to_owned()));
        }
        let now = self.unix_millis();
        let user = UserId::parse(user).map_err(ApiError::malformed)?;
        Ok(Login { user, issued_at_ms: now, expires_at_ms: life_ms.map(|life| now + life) })
    }

    fn is_revoked(&self, user: &UserId, _issued_at_ms: i64) -> bool {
        self.revoked.lock().contains(user)
    }

    fn register(&self, who: &Identity, outbox: &Arc<Outbox>) {
        self.hub.register(who, outbox, self.settings.connections_per_user_max);
    }

    fn deregister(&self, who: &Identity) {
        self.hub.deregister(who);
    }

    fn load_memberships(&self, _user: &UserId) -> BoxFuture<'static, Result<(), ApiError>> {
        let (logins, is_away) = (Arc::clone(&self.logins), self.database_is_away.load(Ordering::Relaxed));
        async move {
            logins.acquire().await.unwrap().forget();
            match is_away {
                true => Err(ApiError::Unavailable {
                    message: "the database is unavailable".into(),
                    retry_after_ms: 1,
                }),
                false => Ok(()),
            }
        }
        .boxed()
    }

    fn record_presence(&self, _user: &UserId, _outbox: &Arc<Outbox>) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }

    fn claim_device(&self, _who: &Arc<Identity>, _outbox: &Arc<Outbox>) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }

    fn submit(
        &self,
        by: &Arc<Identity>,
        conversation: Conversation,
        request: ChatRequest,
        reply_to: ReplyTo,
    ) -> Option<BoxFuture<'static, ()>> {
        assert_eq!(by.origin.gateway, 1);
        let id = request.msg_id.map(|id| id.as_str().to_owned()).unwrap_or_default();
        self.submitted.lock().push(id.clone());
        let gate = self.lookups.lock().get(conversation.key()).cloned();
        match gate {
            None => {
                self.answer(id, reply_to);
                None
            }
            Some(gate) => Some(
                async move {
                    gate.acquire().await.unwrap().forget();
                    reply_to.send(Utf8Bytes::from(id));
                }
                .boxed(),
            ),
        }
    }

    fn start(&self, query: Query, reply_to: ReplyTo) {
        let text = match query {
            Query::Heartbeat(_, cursor) => format!("heartbeat {cursor}"),
            Query::Pull(context, ..) => format!("pull {}", context.msg_id.unwrap_or_default()),
            Query::Ack(context, ..) => format!("ack {}", context.msg_id.unwrap_or_default()),
            Query::Sync(context, ..) => format!("sync {}", context.msg_id.unwrap_or_default()),
            Query::Typing(context, ..) => format!("typing {}", context.msg_id.unwrap_or_default()),
            Query::Watch(context, ..) => format!("watch {}", context.msg_id.unwrap_or_default()),
        };
        self.answer(text, reply_to);
    }
}
