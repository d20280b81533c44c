//! A byte stream whose client has to read: a write that makes no progress for too long is an error.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A byte stream with a timeout for writes, until it is lifted: a WebSocket has deadlines of its own.
#[derive(Debug)]
pub(crate) struct WriteTimeout<S> {
    inner: S,
    timeout: Duration,
    lifted: Arc<AtomicBool>,
    /// Runs while a write makes no progress. Kept from one wait to the next.
    timer: Option<Pin<Box<Sleep>>>,
    is_blocked: bool,
}

impl<S> WriteTimeout<S> {
    /// Writes to `inner` fail after `timeout` without progress, unless `lifted`.
    pub(crate) fn new(inner: S, timeout: Duration, lifted: Arc<AtomicBool>) -> Self {
        Self { inner, timeout, lifted, timer: None, is_blocked: false }
    }

    fn bounded<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() || self.lifted.load(Ordering::Relaxed) {
            self.is_blocked = false;
            return written;
        }
        let timeout = self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if !self.is_blocked {
            self.is_blocked = true;
            timer.as_mut().reset(Instant::now() + timeout);
        }
        ready!(timer.as_mut().poll(cx));
        let message = "the client did not read its response in time";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.bounded(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.bounded(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_write_without_progress_fails_and_a_slow_one_does_not() {
        let (mut client, server) = duplex(100);
        let mut server = WriteTimeout::new(server, TIMEOUT, Arc::default());
        let slow = tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(TIMEOUT - Duration::from_secs(1)).await;
                client.read_exact(&mut [0; 50]).await.unwrap();
            }
            client
        });
        server.write_all(&[0; 350]).await.unwrap();
        let _client = slow.await.unwrap();
        let start = Instant::now();
        let refused = server.write_all(&[0; 350]).await.unwrap_err();
        assert_eq!((refused.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_websocket_has_deadlines_of_its_own() {
        let (_client, server) = duplex(100);
        let mut server = WriteTimeout::new(server, TIMEOUT, Arc::new(AtomicBool::new(true)));
        let write = tokio::time::timeout(TIMEOUT * 3, server.write_all(&[0; 350]));
        assert!(write.await.is_err());
    }
}
