//! One connection, for requests that are answered one after the other.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::conformance;
use super::credentials::{ConnectError, Credentials};
use super::packet::{Chat, Entry, Packet, StoredMessage, chat_frame, pull_frame};

/// Longest wait for a frame; the server answers each request within 5 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Small, because there are many connections in one process.
const BUFFER_BYTES: usize = 4 * 1024;

/// Opens a WebSocket at `url`, with small buffers and without Nagle's delay.
///
/// # Errors
/// If the network fails or the server refuses.
pub async fn websocket(url: &str) -> Result<WebSocketStream<TcpStream>, Error> {
    websocket_as(url, None).await
}

/// The same with a token. It is sent as a header: addresses appear in logs and errors.
pub(super) async fn websocket_as(
    url: &str,
    token: Option<&str>,
) -> Result<WebSocketStream<TcpStream>, Error> {
    let mut request = url.into_client_request()?;
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {token}"))?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let (host, port) = (request.uri().host().unwrap_or_default(), request.uri().port_u16().unwrap_or(80));
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
    Ok(client_async_with_config(request, stream, Some(config)).await?.0)
}

/// The connection has ended, with the server's close frame if there was one.
#[derive(Debug, thiserror::Error)]
#[error("the connection has ended: {0:?}")]
pub struct Ended(pub Option<(u16, String)>);

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

impl From<Option<CloseFrame>> for Ended {
    fn from(frame: Option<CloseFrame>) -> Self {
        Self(frame.map(|frame| (frame.code.into(), frame.reason.to_string())))
    }
}

impl Ended {
    /// The time before the next connection, if the server named one.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let (_, reason) = self.0.as_ref()?;
        Some(Duration::from_millis(reason.strip_prefix("retry_after_ms=")?.parse().ok()?))
    }
}

/// A client that waits for the reply to each request; other frames are set aside.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    aside: VecDeque<Packet>,
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
        let socket = websocket(url).await.with_context(|| format!("connecting to {url}"))?;
        Ok(Self { socket, aside: VecDeque::new() })
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
        Ok(Self { socket, aside: VecDeque::new() })
    }

    /// Sends a text frame.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn send(&mut self, text: impl Into<String>) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::text(text.into())).await?)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn send_frame(&mut self, frame: Message) -> anyhow::Result<()> {
        Ok(self.socket.send(frame).await?)
    }

    /// The next frame from the server, set aside or new.
    ///
    /// # Errors
    /// [`Ended`], or no frame within 15 s.
    pub async fn next(&mut self) -> anyhow::Result<Packet> {
        match self.aside.pop_front() {
            Some(packet) => Ok(packet),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> anyhow::Result<Packet> {
        let text = self.next_text().await?;
        serde_json::from_str(&text).with_context(|| format!("not the protocol: {text}"))
    }

    /// The next frame from the server as text. Frames that were set aside are not returned.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn next_text(&mut self) -> anyhow::Result<Utf8Bytes> {
        let received = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(text),
                    Some(Ok(Message::Close(frame))) => return Err(Ended::from(frame).into()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(anyhow::Error::from(Ended(None)).context(error)),
                    None => return Err(Ended(None).into()),
                }
            }
        };
        let text =
            tokio::time::timeout(ANSWER_TIMEOUT, received).await.context("no frame came in time")??;
        conformance::check_frame(&text)?;
        Ok(text)
    }

    /// The next frame that `wanted` accepts; others are set aside.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn wait_for(&mut self, wanted: impl Fn(&Packet) -> bool) -> anyhow::Result<Packet> {
        if let Some(place) = self.aside.iter().position(&wanted) {
            return self.aside.remove(place).context("the frame was there");
        }
        loop {
            let packet = self.receive().await?;
            if wanted(&packet) {
                return Ok(packet);
            }
            self.aside.push_back(packet);
        }
    }

    /// Sends a request, and waits for the next frame with that `cmd`.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn request(&mut self, cmd: i64, text: impl Into<String>) -> anyhow::Result<Packet> {
        self.send(text).await?;
        self.wait_for(|packet| packet.cmd == cmd).await
    }

    /// Sends a message, and waits for its reply.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn chat(&mut self, chat: &Chat) -> anyhow::Result<Packet> {
        self.send(chat_frame(chat)).await?;
        self.wait_for(|packet| packet.cmd == 2 && packet.msg_id.as_deref() == Some(&chat.msg_id)).await
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
        loop {
            let reply = self.chat(chat).await?;
            let Some(wait) = reply.retry_after_ms() else { return Ok(reply) };
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    /// One page.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn pull(&mut self, conversation: &str, cursor: u64, limit: usize) -> anyhow::Result<Packet> {
        self.request(3, pull_frame(conversation, cursor, limit, false)).await
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

    /// One sync.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn sync(&mut self, cursor: u64, limit: usize) -> anyhow::Result<Packet> {
        self.request(6, format!(r#"{{"cmd":6,"cursor_seq":{cursor},"payload":{{"limit":{limit}}}}}"#)).await
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

    /// Reads until the server closes, and returns the code and reason.
    ///
    /// # Errors
    /// If the server sends nothing for 15 s.
    pub async fn until_closed(&mut self) -> anyhow::Result<Ended> {
        loop {
            if let Err(error) = self.receive().await {
                return error.downcast::<Ended>();
            }
        }
    }

    /// The socket itself.
    pub fn socket(&mut self) -> &mut WebSocketStream<TcpStream> {
        &mut self.socket
    }
}
