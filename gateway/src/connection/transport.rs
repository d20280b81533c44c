//! A WebSocket over any byte stream: frames in, frames out.
//!
//! Writing and reading are polled side by side, so that frames of a stalled reader are still read, and a silent
//! client still gets its pushes.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Sink as _, SinkExt as _, Stream as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::socket::{BUFFER_BYTES, Counted};
use crate::outbox::Outbox;
use crate::wire::close::Close;

/// Bytes of garbage that are read after a frame error, so that the close frame arrives before the reset.
const DISCARD_BYTES_MAX: u64 = 1 << 20;

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The gateway closes it.
    Close(Close),
    /// The client closed it, or the socket broke: nothing can be written any more.
    Gone,
}

impl Ended {
    /// Counts it in the metric of closed connections.
    pub(super) fn count(&self) {
        let code = match self {
            Self::Close(close) => close.code_text(),
            Self::Gone => "none",
        };
        metrics::counter!(shared::metrics::GATEWAY_CONNECTIONS_CLOSED, "code" => code).increment(1);
    }
}

/// An event on the socket.
#[derive(Debug)]
pub(super) enum SocketEvent {
    /// The client sent this frame.
    Frame(Message),
    /// Bytes wait for the client. It has just taken some of them, or they have just begun to wait.
    WriteBlocked {
        /// All bytes that were written to the socket.
        written: u64,
    },
    /// The client has taken all bytes that waited for it.
    WriteUnblocked,
}

/// The WebSocket of one connection.
#[derive(Debug)]
pub(super) struct Transport<S> {
    socket: WebSocketStream<Counted<S>>,
    /// Frames were handed to the socket since the last complete flush.
    unflushed: bool,
    /// The bytes written at the last [`SocketEvent::WriteBlocked`]; `None` while writing is not blocked.
    blocked_at: Option<u64>,
    /// The large frame that the socket has not written completely yet: its bytes count until then.
    writing: Option<Utf8Bytes>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    pub(super) fn new(socket: WebSocketStream<Counted<S>>) -> Self {
        Self { socket, unflushed: false, blocked_at: None, writing: None }
    }

    /// Writes the frames in `outbox`, and waits for an event. Reads frames if `reading`, and if `outbox` has room for
    /// replies. Cancel safe.
    ///
    /// # Errors
    /// [`Ended`]: closed by the outbox, by a frame that breaks the rules, or by the client.
    pub(super) async fn next(&mut self, outbox: &Outbox, reading: bool) -> Result<SocketEvent, Ended> {
        poll_fn(|cx| self.poll_next(cx, outbox, reading)).await
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Outbox,
        reading: bool,
    ) -> Poll<Result<SocketEvent, Ended>> {
        outbox.watch(cx);
        let Ok(is_blocked) = self.poll_write(cx, outbox) else { return Poll::Ready(Err(Ended::Gone)) };
        let closing = outbox.close_reason();
        if let Some(close) = closing {
            // A gateway that drains first answers the requests that it has read.
            let finish_first = matches!(close, Close::GoingAway { .. }) && outbox.owes_replies();
            if !finish_first {
                return Poll::Ready(Err(Ended::Close(close)));
            }
        }
        if let Some(event) = self.write_progress(is_blocked) {
            return Poll::Ready(Ok(event));
        }
        if reading && closing.is_none() && outbox.has_room() {
            return self.poll_read(cx);
        }
        Poll::Pending
    }

    /// Writes frames until the socket is full or the outbox is empty, then flushes once. True if bytes still wait.
    fn poll_write(&mut self, cx: &mut Context<'_>, outbox: &Outbox) -> Result<bool, Error> {
        let mut is_blocked = false;
        loop {
            if Pin::new(&mut self.socket).poll_ready(cx)?.is_pending() {
                is_blocked = true;
                break;
            }
            // The socket takes a frame only when it has written the one before.
            self.writing = None;
            let Some(frame) = outbox.pop() else { break };
            if frame.len() > BUFFER_BYTES {
                self.writing = Some(frame.clone());
            }
            Pin::new(&mut self.socket).start_send(Message::Text(frame))?;
            self.unflushed = true;
        }
        if self.unflushed && !is_blocked {
            is_blocked = Pin::new(&mut self.socket).poll_flush(cx)?.is_pending();
            self.unflushed = is_blocked;
            if !is_blocked {
                self.writing = None;
            }
        }
        self.unflushed |= is_blocked;
        Ok(is_blocked)
    }

    /// The event, if the write progress has changed since the last one.
    fn write_progress(&mut self, is_blocked: bool) -> Option<SocketEvent> {
        let written = self.socket.get_ref().written();
        match (is_blocked, self.blocked_at) {
            (false, None) => None,
            (false, Some(_)) => {
                self.blocked_at = None;
                Some(SocketEvent::WriteUnblocked)
            }
            (true, Some(before)) if before == written => None,
            (true, _) => {
                self.blocked_at = Some(written);
                Some(SocketEvent::WriteBlocked { written })
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<SocketEvent, Ended>> {
        Pin::new(&mut self.socket).poll_next(cx).map(|frame| match frame {
            Some(Ok(Message::Close(_))) => Err(Ended::Gone),
            Some(Ok(frame)) => Ok(SocketEvent::Frame(frame)),
            Some(Err(error)) => Err(ended(&error)),
            None => Err(Ended::Gone),
        })
    }

    /// Writes the replies that are ready, and the close frame, and waits for the client's close frame.
    ///
    /// # Errors
    /// The socket broke.
    pub(super) async fn close(&mut self, why: Close, outbox: &Outbox) -> Result<(), Error> {
        while let Some(frame) = outbox.pop_reply() {
            self.socket.feed(Message::Text(frame)).await?;
        }
        self.socket.send(Message::Close(Some(why.frame()))).await?;
        if matches!(why, Close::FrameTooLarge | Close::NotUtf8 | Close::ProtocolError) {
            // What follows is not a WebSocket any more. Unread bytes would make the kernel reset the connection, and the
            // close frame would never be seen.
            let mut rest = self.socket.get_mut().take(DISCARD_BYTES_MAX);
            tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
            return Ok(());
        }
        while let Some(Ok(_)) = self.socket.next().await {}
        Ok(())
    }

    /// Writes the answer to the client's own close frame.
    ///
    /// # Errors
    /// The socket broke.
    pub(super) async fn answer_close(&mut self) -> Result<(), Error> {
        self.socket.flush().await
    }
}

/// Why a frame that could not be read ends the connection.
fn ended(error: &Error) -> Ended {
    match error {
        Error::Capacity(_) => Ended::Close(Close::FrameTooLarge),
        Error::Utf8(_) => Ended::Close(Close::NotUtf8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ended::Gone,
        Error::Protocol(_) => Ended::Close(Close::ProtocolError),
        _ => Ended::Gone,
    }
}
