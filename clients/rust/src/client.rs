//! The handle of a client.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::calls::Calls;
use crate::core::{Core, History, Info};
use crate::driver::{Command, Handed};
use crate::error::Error;
use crate::event::ConnectionState;
use crate::message::{Delivery, Draft, Outgoing, Refusal};
use crate::people::{Blocks, Groups, Invitations, Profiles, presence};
use crate::protocol::StoredMessage;

/// A user's connection, conversations and calls. Cheap to clone; the client stops when all clones and the stream of events
/// are dropped.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) state: watch::Receiver<ConnectionState>,
    pub(crate) user_id: String,
    pub(crate) device_id: String,
    pub(crate) calls: Calls,
    pub(crate) task: TaskTracker,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("user_id", &self.shared.user_id).finish_non_exhaustive()
    }
}

impl Shared {
    /// Asks the client's task.
    async fn with<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Core, Instant) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let run = Box::new(move |core: &mut Core, now| {
            // Without a receiver nobody waits for it.
            let _ = answer.send(run(core, now));
        });
        self.commands.send(Command::With(run)).await.map_err(|_| Error::Stopped)?;
        answered.await.map_err(|_| Error::Stopped)
    }
}

impl Client {
    /// The user.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.shared.user_id
    }

    /// The device.
    #[must_use]
    pub fn device_id(&self) -> &str {
        &self.shared.device_id
    }

    /// State of the connection.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.shared.state.borrow().clone()
    }

    /// Waits until the client is connected.
    ///
    /// # Errors
    /// If the server refuses it for good, or if it was stopped.
    pub async fn online(&self) -> Result<(), Error> {
        let mut state = self.shared.state.clone();
        loop {
            match &*state.borrow_and_update() {
                ConnectionState::Online => return Ok(()),
                ConnectionState::Stopped { reason } if reason.code == 0 => return Err(Error::Stopped),
                ConnectionState::Stopped { reason } => return Err(reason.clone().into()),
                _ => {}
            }
            state.changed().await.map_err(|_| Error::Stopped)?;
        }
    }

    /// The conversation with this id, whether it is in the list or not. For private chats see [`direct`](Self::direct).
    #[must_use]
    pub fn conversation(&self, id: impl Into<String>) -> Conversation {
        Conversation { shared: Arc::clone(&self.shared), id: id.into(), peer: None }
    }

    /// The private chat with this user.
    #[must_use]
    pub fn direct(&self, user_id: impl Into<String>) -> Conversation {
        let (peer, me) = (user_id.into(), self.user_id());
        let (first, second) = if me <= peer.as_str() { (me, peer.as_str()) } else { (peer.as_str(), me) };
        let id = format!("private_{first}_{second}");
        Conversation { shared: Arc::clone(&self.shared), id, peer: Some(peer) }
    }

    /// The conversations of the user, as far as they are known: in the order of ids.
    ///
    /// # Errors
    /// If the client was stopped.
    pub async fn conversations(&self) -> Result<Vec<Summary>, Error> {
        self.shared.with(|core, _| core.list().into_iter().map(Summary::from).collect()).await
    }

    /// What is not known to be stored: messages that are sending, accepted or failed.
    ///
    /// # Errors
    /// If the client was stopped.
    pub async fn outbox(&self) -> Result<Vec<Outgoing>, Error> {
        self.shared.with(|core, _| core.outbox()).await
    }

    /// Groups and their members.
    #[must_use]
    pub fn groups(&self) -> Groups<'_> {
        Groups(&self.shared.calls)
    }

    /// Users whom this one has blocked.
    #[must_use]
    pub fn blocks(&self) -> Blocks<'_> {
        Blocks(&self.shared.calls)
    }

    /// Invitations into groups.
    #[must_use]
    pub fn invitations(&self) -> Invitations<'_> {
        Invitations(&self.shared.calls)
    }

    /// Profiles of users.
    #[must_use]
    pub fn profiles(&self) -> Profiles<'_> {
        Profiles(&self.shared.calls)
    }

    /// Which of up to 100 users are connected. Users that one may not ask about are left out.
    ///
    /// # Errors
    /// 400 for more users.
    pub async fn presence(&self, user_ids: &[&str]) -> Result<BTreeMap<String, bool>, Error> {
        presence(&self.shared.calls, user_ids).await
    }

    /// Any other call over HTTP; `path` begins with `/api`, and `query` is encoded.
    ///
    /// # Errors
    /// If it is refused, or if there is no answer.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, Error> {
        self.shared.calls.call(method, path, query, body).await
    }

    /// Writes what is to be kept, closes the connection, and ends the stream of events. The message that the program has
    /// taken last counts as processed; those that it has not taken come to a later client with the same store.
    pub async fn stop(&self) {
        // If the task has ended, it is stopped already.
        let _ = self.shared.commands.send(Command::Stop).await;
        self.shared.task.wait().await;
    }
}

/// What the list shows of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The conversation's id.
    pub conversation_id: String,
    /// The other user of a private chat.
    pub peer: Option<String>,
    /// The newest sequence number.
    pub last_seq: u64,
    /// How far the user has read, on whichever device.
    pub read_seq: u64,
    /// How far the other user of a private chat has read, as far as it is known.
    pub peer_read_seq: u64,
    /// Unread messages of others.
    pub unread: u64,
    /// False if the conversation is not one of the user's.
    pub is_member: bool,
}

impl From<(String, Info)> for Summary {
    fn from((conversation_id, info): (String, Info)) -> Self {
        let Info { peer, last_seq, read_seq, unread, peer_read_seq, is_member, .. } = info;
        Self { conversation_id, peer, last_seq, read_seq, peer_read_seq, unread, is_member }
    }
}

/// A page of older messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// The newest one first.
    pub messages: Vec<StoredMessage>,
    /// Whether there are older ones.
    pub has_more: bool,
}

/// A conversation. Cheap to clone.
#[derive(Clone)]
pub struct Conversation {
    shared: Arc<Shared>,
    id: String,
    peer: Option<String>,
}

impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conversation").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Conversation {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Sends a message. When this is answered the message is in the store and is sent until the server answers it, in the
    /// order of the calls, also by a later client with the same store.
    ///
    /// # Errors
    /// 429 if 10,000 messages are in the outbox, 413 if it is larger than a frame, or if the store failed.
    pub async fn send(&self, draft: impl Into<Draft>) -> Result<Sent, Error> {
        let (reply, replied) = oneshot::channel();
        let (id, peer) = (self.id.clone(), self.peer.clone());
        let command = Command::Send { id, peer, draft: draft.into(), reply };
        self.shared.commands.send(command).await.map_err(|_| Error::Stopped)?;
        let (msg_id, delivery): Handed = replied.await.map_err(|_| Error::Stopped)??;
        Ok(Sent { msg_id, delivery })
    }

    /// Recalls the message with this sequence number, which is sent as every message is.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn recall(&self, seq: u64) -> Result<Sent, Error> {
        self.send(Draft::recall(seq)).await
    }

    /// Removes a failed message from the outbox. Returns false if the message has not failed.
    ///
    /// # Errors
    /// If the client was stopped.
    pub async fn discard(&self, msg_id: impl Into<String>) -> Result<bool, Error> {
        let (id, msg_id) = (self.id.clone(), msg_id.into());
        self.shared.with(move |core, _| core.discard(&id, &msg_id)).await
    }

    /// Moves the read position to `seq`, or without it to the newest message. It is sent until it is answered.
    ///
    /// # Errors
    /// If the client was stopped.
    pub async fn mark_read(&self, seq: Option<u64>) -> Result<(), Error> {
        self.with(move |core, id, now| core.mark_read(id, seq, now)).await
    }

    /// Tells the others that the user is writing; at most every two seconds, and only while connected.
    ///
    /// # Errors
    /// If the client was stopped.
    pub async fn typing(&self) -> Result<(), Error> {
        self.with(|core, id, now| core.typing(id, now)).await
    }

    /// A page of up to `limit` (500 at most) messages below `before`; without it of the newest ones. Waits for a
    /// connection.
    ///
    /// # Errors
    /// 403 for those who are no members.
    pub async fn history(&self, before: Option<u64>, limit: usize) -> Result<HistoryPage, Error> {
        let (reply, replied) = oneshot::channel();
        self.with(move |core, id, _| {
            let conversation_id = id.to_owned();
            core.history(History { conversation_id, before, limit, reply, not_before: None });
        })
        .await?;
        let (messages, has_more) = replied.await.map_err(|_| Error::Stopped)??;
        Ok(HistoryPage { messages, has_more })
    }

    /// What the list shows of it.
    ///
    /// # Errors
    /// If the client was stopped.
    pub async fn summary(&self) -> Result<Summary, Error> {
        let id = self.id.clone();
        let summary = self.with(|core, id, _| core.info(id)).await?;
        Ok(Summary::from((id, summary)))
    }

    async fn with<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Core, &str, Instant) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (id, peer) = (self.id.clone(), self.peer.clone());
        self.shared
            .with(move |core, now| {
                core.name_peer(&id, peer.as_deref());
                run(core, &id, now)
            })
            .await
    }
}

/// A message that was handed over.
#[derive(Debug, Clone)]
pub struct Sent {
    msg_id: String,
    delivery: watch::Receiver<Delivery>,
}

impl Sent {
    /// Its id.
    #[must_use]
    pub fn msg_id(&self) -> &str {
        &self.msg_id
    }

    /// How far it has come.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.delivery.borrow().clone()
    }

    /// Waits until the server has promised to store it, and returns its sequence number, which may still change.
    ///
    /// # Errors
    /// The refusal, or if the client was stopped: then a later client with the same store sends it.
    pub async fn accepted(&mut self) -> Result<u64, Error> {
        self.reached(|delivery| match delivery {
            Delivery::Accepted { seq } | Delivery::Stored { seq } => Some(Ok(*seq)),
            Delivery::Failed(refusal) => Some(Err(refusal.clone())),
            Delivery::Sending => None,
        })
        .await
    }

    /// Waits until it is in the conversation, and returns its final sequence number.
    ///
    /// # Errors
    /// As [`accepted`](Self::accepted).
    pub async fn stored(&mut self) -> Result<u64, Error> {
        self.reached(|delivery| match delivery {
            Delivery::Stored { seq } => Some(Ok(*seq)),
            Delivery::Failed(refusal) => Some(Err(refusal.clone())),
            Delivery::Sending | Delivery::Accepted { .. } => None,
        })
        .await
    }

    async fn reached(
        &mut self,
        of: impl Fn(&Delivery) -> Option<Result<u64, Refusal>>,
    ) -> Result<u64, Error> {
        loop {
            if let Some(result) = of(&self.delivery.borrow_and_update()) {
                return Ok(result?);
            }
            self.delivery.changed().await.map_err(|_| Error::Stopped)?;
        }
    }
}
