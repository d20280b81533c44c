//! A connection of a test.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use anyhow::Context as _;
use im_client::protocol::{Chat, ConnectError, Connection, Entry, Packet, StoredMessage, chat_frame};

use super::conformance::INSPECTOR;
use super::credentials::Credentials;
use super::trust::websocket;

/// The result of a sync, over all pages.
#[derive(Debug, Clone)]
pub struct Synced {
    /// In order; a conversation may occur more than once.
    pub entries: Vec<Entry>,
    /// The cursor of the next sync.
    pub cursor: u64,
    /// Whether it was a complete list.
    pub reset: bool,
}

impl Synced {
    /// The newest entry of a conversation.
    #[must_use]
    pub fn of(&self, conversation: &str) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.conversation_id == conversation)
    }
}

/// A [`Connection`] whose frames are checked against `docs/api`, with what tests do on it.
#[derive(Debug)]
pub struct Client(Connection);

impl Deref for Client {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

impl Client {
    /// Connects to the gateway at `url` as `user`, on a device of its own.
    ///
    /// # Errors
    /// If there is no WebSocket.
    pub async fn connect(url: &str, user: &str) -> anyhow::Result<Self> {
        Self::open(&format!("{url}?user_id={user}")).await
    }

    /// Connects to this address as it is.
    ///
    /// # Errors
    /// If there is no WebSocket.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        let socket = websocket(url, None).await.with_context(|| format!("connecting to {url}"))?;
        Ok(Self(Connection::new(socket).with_inspector(INSPECTOR)))
    }

    /// Connects to the gateway at `url` as `user`, whom `credentials` prove.
    ///
    /// # Errors
    /// If there is no WebSocket.
    pub async fn connect_with(
        credentials: &Credentials,
        url: &str,
        user: &str,
    ) -> Result<Self, ConnectError> {
        let socket = credentials.websocket(url, user, None).await?;
        Ok(Self(Connection::new(socket).with_inspector(INSPECTOR)))
    }

    /// Sends a text message, again after 429 and 503, until it is accepted; returns its sequence number.
    ///
    /// # Errors
    /// If a retry does not change the refusal.
    pub async fn say(&mut self, conversation: &str, msg_id: &str, content: &str) -> anyhow::Result<u64> {
        let chat = Chat {
            conversation: conversation.to_owned(),
            msg_id: msg_id.to_owned(),
            content: content.to_owned(),
            stored: false,
        };
        let reply = self.chat_until_taken(&chat).await?;
        anyhow::ensure!(reply.code == 0, "refused with {}: {}", reply.code, reply.payload);
        reply.seq.context("code 0 without seq")
    }

    /// Sends a message again after 429 and 503, when the gateway says so; returns the first other reply.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn chat_until_taken(&mut self, chat: &Chat) -> anyhow::Result<Packet> {
        self.send_until_taken(&chat.msg_id, &chat_frame(chat)).await
    }

    /// The same of a message of any kind: `frame` has the id `msg_id`.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn send_until_taken(&mut self, msg_id: &str, frame: &str) -> anyhow::Result<Packet> {
        loop {
            self.send(frame.to_owned()).await?;
            let is_reply = |packet: &Packet| packet.cmd == 2 && packet.msg_id.as_deref() == Some(msg_id);
            let reply = self.wait_for(is_reply).await?;
            let Some(wait) = reply.retry_after_ms() else { return Ok(reply) };
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    /// All messages after `cursor`, page by page, with retries after 503.
    ///
    /// # Errors
    /// If a retry does not change the refusal.
    pub async fn pull_all(
        &mut self,
        conversation: &str,
        mut cursor: u64,
    ) -> anyhow::Result<Vec<StoredMessage>> {
        let mut all = Vec::new();
        loop {
            let page = self.pull(conversation, cursor, 500).await?;
            if let Some(wait) = page.retry_after_ms() {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                continue;
            }
            anyhow::ensure!(page.code == 0, "pull refused with {}: {}", page.code, page.payload);
            all.extend(page.messages()?);
            cursor = page.next_cursor_seq.context("a pull without next_cursor_seq")?;
            if page.has_more != Some(true) {
                return Ok(all);
            }
        }
    }

    /// All entries that changed after `cursor`, page by page, with retries after 503.
    ///
    /// # Errors
    /// If a retry does not change the refusal.
    pub async fn sync_all(&mut self, mut cursor: u64) -> anyhow::Result<Synced> {
        let mut synced = Synced { entries: Vec::new(), cursor, reset: false };
        loop {
            let page = self.sync(cursor, 500).await?;
            if let Some(wait) = page.retry_after_ms() {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                continue;
            }
            anyhow::ensure!(page.code == 0, "sync refused with {}: {}", page.code, page.payload);
            synced.reset |= page.reset;
            synced.entries.extend(page.entries()?);
            cursor = page.next_cursor_seq.context("a sync without next_cursor_seq")?;
            synced.cursor = cursor;
            if page.has_more != Some(true) {
                return Ok(synced);
            }
        }
    }
}
