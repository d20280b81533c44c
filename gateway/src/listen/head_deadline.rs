//! The deadlines of an HTTP connection: for the head of a request, and for the pause before the next one.
//!
//! hyper has one deadline for both, from the end of the response before to the end of the head. A load balancer keeps its
//! connections for a minute or more without a request; a head that takes so long is an attack.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The durations of the deadlines.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadTimeouts {
    /// For the head of a request, from its first byte; for the first one from the beginning of the connection.
    pub(super) head: Duration,
    /// For the pause between two requests.
    pub(super) idle: Duration,
}

/// The phases of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// A head is expected, or arrives.
    Head,
    /// A call is served, or the connection is a WebSocket: no deadline.
    Call,
    /// The response is complete, or is being sent.
    Idle,
}

/// The phase of a connection and its deadline, shared by the stream, the service and the task of the connection. All of
/// them run in one task.
#[derive(Debug)]
struct State {
    timeouts: HeadTimeouts,
    start: Instant,
    phase: AtomicU8,
    /// In milliseconds after the start.
    deadline_ms: AtomicU64,
}

/// The deadline of one connection.
#[derive(Debug, Clone)]
pub(super) struct HeadDeadline(Arc<State>);

impl HeadDeadline {
    /// The deadline of a connection that begins now.
    pub(super) fn new(timeouts: HeadTimeouts) -> Self {
        let state = State {
            timeouts,
            start: Instant::now(),
            phase: AtomicU8::new(Phase::Idle as u8),
            deadline_ms: AtomicU64::new(0),
        };
        let this = Self(Arc::new(state));
        this.enter(Phase::Head);
        this
    }

    /// A head is complete, and its call begins.
    pub(super) fn call_begins(&self) {
        self.enter(Phase::Call);
    }

    /// The response of the call begins.
    pub(super) fn call_ends(&self) {
        self.enter(Phase::Idle);
    }

    /// Waits until the deadline has passed. To be polled after the connection: bytes that have arrived change the deadline.
    pub(super) async fn passed(&self) {
        let mut sleep = std::pin::pin!(sleep_until(self.deadline()));
        std::future::poll_fn(|cx| self.poll_passed(cx, sleep.as_mut())).await;
    }

    fn poll_passed(&self, cx: &mut Context<'_>, mut sleep: Pin<&mut Sleep>) -> Poll<()> {
        loop {
            let deadline = self.deadline();
            // A timer that fires too early is set again, which is cheaper than to set it at each change.
            if deadline < sleep.deadline() {
                sleep.as_mut().reset(deadline);
            }
            ready!(sleep.as_mut().poll(cx));
            if self.deadline() <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(self.deadline());
        }
    }

    fn received(&self) {
        if self.is(Phase::Idle) {
            self.enter(Phase::Head);
        }
    }

    fn sent(&self) {
        if self.is(Phase::Idle) {
            self.enter(Phase::Idle);
        }
    }

    fn is(&self, phase: Phase) -> bool {
        self.0.phase.load(Ordering::Relaxed) == phase as u8
    }

    fn enter(&self, phase: Phase) {
        let State { timeouts, start, .. } = &*self.0;
        let elapsed_ms =
            |after: Duration| u64::try_from((start.elapsed() + after).as_millis()).unwrap_or(u64::MAX);
        let deadline_ms = match phase {
            Phase::Head => elapsed_ms(timeouts.head),
            Phase::Idle => elapsed_ms(timeouts.idle),
            // A day: more than any call takes.
            Phase::Call => elapsed_ms(Duration::from_secs(86_400)),
        };
        self.0.deadline_ms.store(deadline_ms, Ordering::Relaxed);
        self.0.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn deadline(&self) -> Instant {
        self.0.start + Duration::from_millis(self.0.deadline_ms.load(Ordering::Relaxed))
    }
}

/// A stream that tells the deadline of its connection about the bytes of a head.
#[derive(Debug)]
pub(super) struct Watched<S> {
    inner: S,
    deadline: HeadDeadline,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, deadline: HeadDeadline) -> Self {
        Self { inner, deadline }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.deadline.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.deadline.sent();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, buffers))?;
        self.deadline.sent();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::{sleep, timeout};

    use super::*;

    const TIMEOUTS: HeadTimeouts =
        HeadTimeouts { head: Duration::from_secs(10), idle: Duration::from_secs(75) };

    /// The seconds from now until the deadline has passed.
    async fn left(deadline: &HeadDeadline) -> u64 {
        let begun = Instant::now();
        deadline.passed().await;
        begun.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_has_the_time_of_a_head() {
        assert_eq!(left(&HeadDeadline::new(TIMEOUTS)).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_counts_from_its_first_byte_and_a_pause_from_the_last_response() {
        let deadline = HeadDeadline::new(TIMEOUTS);
        let (mut client, server) = duplex(1_024);
        let mut server = Watched::new(server, deadline.clone());
        client.write_all(b"GET /").await.unwrap();
        server.read_exact(&mut [0; 5]).await.unwrap();
        deadline.call_begins();
        assert!(
            timeout(Duration::from_secs(3_600), deadline.passed()).await.is_err(),
            "a call has no deadline"
        );
        deadline.call_ends();
        sleep(Duration::from_secs(70)).await;
        server.write_all(b"200").await.unwrap();
        sleep(Duration::from_secs(74)).await;
        client.write_all(b"G").await.unwrap();
        let mut passed = std::pin::pin!(deadline.passed());
        assert!(timeout(Duration::ZERO, &mut passed).await.is_err());
        server.read_exact(&mut [0; 1]).await.unwrap();
        // One byte every 9 seconds does not keep the connection open.
        let begun = Instant::now();
        assert!(timeout(Duration::from_secs(9), &mut passed).await.is_err());
        client.write_all(b"E").await.unwrap();
        server.read_exact(&mut [0; 1]).await.unwrap();
        passed.await;
        assert_eq!(begun.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_after_its_time() {
        let deadline = HeadDeadline::new(TIMEOUTS);
        deadline.call_begins();
        deadline.call_ends();
        assert_eq!(left(&deadline).await, 75);
    }
}
