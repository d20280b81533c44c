//! One connection, for requests that are answered one after the other.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::error::{ConnectError, Ended, Error};
use super::frame::{Chat, Packet, chat_frame, pull_frame};
use super::inspect::{Inspector, Received};
use super::socket::{Socket, websocket};

/// Longest wait for a frame; the server answers each request within 5 s.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Frames that are set aside; beyond that the program reads too little.
const ASIDE_MAX: usize = 100_000;

/// A connection that waits for the reply to each request. Other frames are set aside, up to 100,000, and returned by
/// [`next`](Self::next).
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    aside: VecDeque<Packet>,
    inspector: Option<Inspector>,
}

impl Connection {
    /// Connects to this address as it is.
    ///
    /// # Errors
    /// If there is no WebSocket.
    pub async fn open(url: &str) -> Result<Self, ConnectError> {
        Ok(Self::new(websocket(url, None, None).await?))
    }

    /// Uses a WebSocket that is open.
    #[must_use]
    pub fn new(socket: Socket) -> Self {
        Self { socket, aside: VecDeque::new(), inspector: None }
    }

    /// Shows each frame to `inspector` before it is parsed.
    #[must_use]
    pub fn with_inspector(self, inspector: Option<Inspector>) -> Self {
        Self { inspector, ..self }
    }

    /// Sends a text frame.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn send(&mut self, text: impl Into<String>) -> Result<(), Error> {
        Ok(self.socket.send(Message::text(text.into())).await?)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn send_frame(&mut self, frame: Message) -> Result<(), Error> {
        Ok(self.socket.send(frame).await?)
    }

    /// The next frame from the server, set aside or new.
    ///
    /// # Errors
    /// [`Ended`], or no frame within 15 s.
    pub async fn next(&mut self) -> Result<Packet, Error> {
        tokio::time::timeout(ANSWER_TIMEOUT, self.receive())
            .await
            .unwrap_or(Err(Error::Silent(ANSWER_TIMEOUT)))
    }

    /// The same, however long it takes. It may be dropped at any time without the loss of a frame.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn receive(&mut self) -> Result<Packet, Error> {
        match self.aside.pop_front() {
            Some(packet) => Ok(packet),
            None => parsed(&self.receive_text().await?),
        }
    }

    async fn receive_new(&mut self) -> Result<Packet, Error> {
        parsed(&self.next_text().await?)
    }

    /// The next frame from the server as text. Frames that were set aside are not returned.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn next_text(&mut self) -> Result<Utf8Bytes, Error> {
        let received = tokio::time::timeout(ANSWER_TIMEOUT, self.receive_text()).await;
        received.unwrap_or(Err(Error::Silent(ANSWER_TIMEOUT)))
    }

    /// The same, however long it takes. It may be dropped at any time without the loss of a frame.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn receive_text(&mut self) -> Result<Utf8Bytes, Error> {
        let text = loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => break text,
                Some(Ok(Message::Close(frame))) => return Err(Ended::from(frame).into()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Ended(None).into()),
            }
        };
        if let Some(inspector) = self.inspector {
            inspector(&Received::Frame(&text)).map_err(Error::Rejected)?;
        }
        Ok(text)
    }

    /// The next frame that `wanted` accepts; others are set aside.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn wait_for(&mut self, wanted: impl Fn(&Packet) -> bool) -> Result<Packet, Error> {
        if let Some(place) = self.aside.iter().position(&wanted) {
            return self.aside.remove(place).ok_or(Error::Aside(place));
        }
        loop {
            let packet = self.receive_new().await?;
            if wanted(&packet) {
                return Ok(packet);
            }
            if self.aside.len() == ASIDE_MAX {
                return Err(Error::Aside(ASIDE_MAX));
            }
            self.aside.push_back(packet);
        }
    }

    /// Sends a request, and waits for the next frame with that `cmd`.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn request(&mut self, cmd: i64, text: impl Into<String>) -> Result<Packet, Error> {
        self.send(text).await?;
        self.wait_for(|packet| packet.cmd == cmd).await
    }

    /// Sends a message, and waits for its reply.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn chat(&mut self, chat: &Chat) -> Result<Packet, Error> {
        self.send(chat_frame(chat)).await?;
        self.wait_for(|packet| packet.cmd == 2 && packet.msg_id.as_deref() == Some(&chat.msg_id)).await
    }

    /// One page.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn pull(&mut self, conversation: &str, cursor: u64, limit: usize) -> Result<Packet, Error> {
        self.request(3, pull_frame(conversation, cursor, limit, false)).await
    }

    /// One sync.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn sync(&mut self, cursor: u64, limit: usize) -> Result<Packet, Error> {
        self.request(6, format!(r#"{{"cmd":6,"cursor_seq":{cursor},"payload":{{"limit":{limit}}}}}"#)).await
    }

    /// Reads until the server closes, and returns the code and reason.
    ///
    /// # Errors
    /// If the server sends nothing for 15 s.
    pub async fn until_closed(&mut self) -> Result<Ended, Error> {
        loop {
            if let Err(error) = self.receive_new().await {
                return error.into_ended();
            }
        }
    }

    /// The socket itself.
    pub fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }
}

fn parsed(text: &str) -> Result<Packet, Error> {
    serde_json::from_str(text).map_err(|error| Error::Malformed(format!("{text} ({error})")))
}
