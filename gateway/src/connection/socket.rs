//! The byte stream under a WebSocket, and its limits.
//!
//! The stream counts the bytes that are written to it: a slow reader still takes some, a stalled one takes none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Longest frame from a client, in bytes.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Size of the read buffer, and of the write buffer, of each connection. The library's default is 128 KiB.
pub(super) const BUFFER_BYTES: usize = 4 * 1024;
/// Above the largest frame that is ever written: a page of 512 KiB of contents, each byte of which JSON may turn into six.
const WRITE_BYTES_MAX: usize = 16 << 20;

/// The library's settings for one connection.
#[must_use]
pub fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BYTES_MAX)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
}

/// A byte stream that counts the bytes written to it.
#[derive(Debug)]
pub struct Counted<S> {
    inner: S,
    written: u64,
}

impl<S> Counted<S> {
    /// Wraps `inner`, with nothing written yet.
    pub fn new(inner: S) -> Self {
        Self { inner, written: 0 }
    }

    /// Bytes written so far, into the kernel's buffer at least.
    pub fn written(&self) -> u64 {
        self.written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = written {
            self.written += bytes as u64;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
