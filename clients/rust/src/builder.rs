//! The settings of a client, and its start.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use serde_json::from_str;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::calls::Calls;
use crate::client::{Client, Shared};
use crate::core::{Core, Meta, Start};
use crate::dial::{Dialer, Identity};
use crate::driver::{Driver, Links};
use crate::error::Error;
use crate::event::ConnectionState;
use crate::events::Events;
use crate::protocol::{Caller, Http, Tls, http_base};
use crate::queue::Queue;
use crate::store::{MemoryStore, Store};
use crate::tokens::{TokenReason, Tokens};

/// Messages that wait for the program; further ones stay on the server.
const QUEUE_DEFAULT: usize = 1_000;
/// Commands that wait for the client's task; callers of further ones wait.
const COMMANDS_MAX: usize = 1_024;

/// The settings of a client.
pub struct Builder {
    urls: Vec<String>,
    identity: Option<Identity>,
    device_id: Option<String>,
    store: Arc<dyn Store>,
    start: Start,
    queue: usize,
    tls: Option<Tls>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("urls", &self.urls).finish_non_exhaustive()
    }
}

impl Client {
    /// Begins a client of the server at `url`: `https://chat.example` or `wss://chat.example/ws`.
    #[must_use]
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder {
            urls: vec![url.into()],
            identity: None,
            device_id: None,
            store: Arc::new(MemoryStore::default()),
            start: Start::default(),
            queue: QUEUE_DEFAULT,
            tls: None,
        }
    }
}

impl Builder {
    /// A further address, which is tried after a failure of the one before it.
    #[must_use]
    pub fn or_url(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// Connects as this user, to servers that believe a name (`auth.mode = "insecure"`).
    #[must_use]
    pub fn user(self, user_id: impl Into<String>) -> Self {
        Self { identity: Some(Identity::User(user_id.into())), ..self }
    }

    /// Provides a token: for the first connection, for one that is about to expire, or instead of one that was refused.
    /// `None` ends the session: the client stops. After an error, which becomes an event, it is called again later.
    #[must_use]
    pub fn token_provider<F, R, E>(self, provider: F) -> Self
    where
        F: Fn(TokenReason) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Option<String>, E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let tokens = Tokens::new(Arc::new(move |reason| {
            let token = provider(reason);
            Box::pin(async move { token.await.map_err(Into::into) })
        }));
        Self { identity: Some(Identity::Tokens(tokens)), ..self }
    }

    /// The device; a random one by default, which is kept in the store.
    #[must_use]
    pub fn device(self, device_id: impl Into<String>) -> Self {
        Self { device_id: Some(device_id.into()), ..self }
    }

    /// Where cursors and unsent messages are kept; in memory by default.
    #[must_use]
    pub fn store(self, store: impl Store) -> Self {
        Self { store: Arc::new(store), ..self }
    }

    /// Where to begin in conversations that the store does not have; after the read position by default.
    #[must_use]
    pub fn begin_at(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// How many messages wait for the program, and how many other events; 1,000 by default.
    #[must_use]
    pub fn queue(self, capacity: usize) -> Self {
        Self { queue: capacity, ..self }
    }

    /// How the server's certificate is verified; by the operating system's rules by default.
    #[must_use]
    pub fn tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Loads the store and begins to connect. Returns when the user is known: at once from the store or the settings,
    /// otherwise with the first login. All else goes on in a task of the client, on the present tokio runtime.
    ///
    /// # Errors
    /// If the store fails, belongs to another user or holds something else, if the settings make no sense, or if the
    /// first login is refused for good.
    pub async fn connect(self) -> Result<(Client, Events), Error> {
        let Self { urls, identity, device_id, store, start, queue, tls } = self;
        let identity =
            identity.ok_or_else(|| Error::Settings("give either a user or a token provider".to_owned()))?;
        let records = store.load().await.map_err(Error::Store)?;
        let meta = match records.get("meta") {
            Some(meta) => from_str(meta).map_err(|error| Error::Store(error.into()))?,
            None => Meta::default(),
        };
        let meta = with_identity(meta, &identity, device_id)?;
        let (queue, urls) = (Arc::new(Queue::new(queue)), Arc::<[String]>::from(urls));
        let core = Core::restore(meta, &records, start, Arc::clone(&queue))
            .map_err(|error| Error::Store(error.into()))?;
        let (device_id, known) = (core.meta.device_id.clone(), core.meta.user_id.clone());
        let gateway = Arc::new(AtomicUsize::new(0));
        let gateways = gateways(&urls, tls.as_ref())?;
        let calls = Calls { gateways, gateway: Arc::clone(&gateway), identity: identity.clone() };
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let (state, seen) = watch::channel(ConnectionState::Connecting);
        let (user, mut identified) = watch::channel(known);
        let links = Links { commands: received, queue: Arc::clone(&queue), state, user, gateway };
        let dialer = Dialer { identity, device_id: device_id.clone(), tls };
        let task = TaskTracker::new();
        task.spawn(Driver::new(core, dialer, urls, store, links).run());
        task.close();
        // If it stops before, its state says why.
        let user_id = match identified.wait_for(Option::is_some).await {
            Ok(user) => user.clone().unwrap_or_default(),
            Err(_) => {
                return Err(match &*seen.borrow() {
                    ConnectionState::Stopped { reason } => reason.clone().into(),
                    _ => Error::Stopped,
                });
            }
        };
        let events = Events::new(queue, commands.clone());
        let shared = Shared { commands, state: seen, user_id, device_id, calls, task };
        Ok((Client { shared: Arc::new(shared) }, events))
    }
}

/// The store's record, as far as it fits the settings.
fn with_identity(kept: Meta, identity: &Identity, device_id: Option<String>) -> Result<Meta, Error> {
    let user_id = match (identity, kept.user_id) {
        (Identity::User(user), Some(kept)) if *user != kept => {
            return Err(Error::OtherUser { kept, user: user.clone() });
        }
        (Identity::User(user), _) => Some(user.clone()),
        (Identity::Tokens(_), kept) => kept,
    };
    let random = || uuid::Uuid::new_v4().simple().to_string();
    let kept_device = Some(kept.device_id).filter(|device_id| !device_id.is_empty());
    let device_id = device_id.or(kept_device).unwrap_or_else(random);
    Ok(Meta { user_id, device_id, position: kept.position })
}

fn gateways(urls: &[String], tls: Option<&Tls>) -> Result<Arc<[Http]>, Error> {
    let builder = reqwest::Client::builder();
    let builder = match tls {
        Some(tls) => builder.tls_backend_preconfigured((**tls).clone()),
        None => builder,
    };
    let client = builder.build().map_err(|error| Error::Settings(error.to_string()))?;
    Ok(urls.iter().map(|url| Http::with_client(client.clone(), &http_base(url), Caller::Nobody)).collect())
}
