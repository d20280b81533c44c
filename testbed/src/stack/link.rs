//! A wire between two processes that can be cut, stalled, delayed and throttled.
//!
//! A TCP proxy on a port of its own, which stays the same while its target restarts. It moves bytes and does not interpret
//! them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// Bytes of one read.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks in flight in one direction of one connection. Beyond this nothing is read, and the buffers of the sender fill, as
/// on a long wire.
const CHUNKS_MAX: usize = 64;
/// A throttled wire writes the bytes of this time at once.
const SLICE: Duration = Duration::from_millis(20);

/// As seen from the end that connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Towards the target.
    There,
    /// From the target.
    Back,
    /// Both.
    Both,
}

/// The state of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Flow {
    /// Nothing moves, not even the end of a connection.
    stalled: bool,
    delay: Duration,
    bytes_per_second: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct State {
    cut: bool,
    there: Flow,
    back: Flow,
}

/// A link, healthy at first. Closed when dropped.
#[derive(Debug)]
pub struct Link {
    port: u16,
    target: Arc<AtomicU16>,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
        // Connections watch the state, and end when its sender is dropped.
    }
}

impl Link {
    /// A link to `port` on this machine, which may be opened later.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn to(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, super::free_port()?)).await?;
        let own_port = listener.local_addr()?.port();
        let (state, watched) = watch::channel(State::default());
        let target = Arc::new(AtomicU16::new(port));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&target), watched));
        Ok(Self { port: own_port, target, state, accepting })
    }

    /// Leads new connections to another port, as after a failover. Open connections stay with the old target.
    pub fn lead_to(&self, port: u16) {
        self.target.store(port, Ordering::Relaxed);
    }

    /// The port to connect to instead.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Resets all open connections, and new ones at once.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut = true);
    }

    /// Stops all bytes. Connections stay open, and new ones can be opened.
    pub fn stall(&self, direction: Direction) {
        self.change(direction, |flow| flow.stalled = true);
    }

    /// Delays every byte.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.change(direction, |flow| flow.delay = delay);
    }

    /// Limits the rate of each connection.
    pub fn throttle(&self, direction: Direction, bytes_per_second: u64) {
        self.change(direction, |flow| flow.bytes_per_second = Some(bytes_per_second.max(1)));
    }

    /// Ends all damage. Bytes that a stall held back are delivered; connections that a cut has ended stay closed.
    pub fn heal(&self) {
        self.state.send_replace(State::default());
    }

    fn change(&self, direction: Direction, change: impl Fn(&mut Flow)) {
        self.state.send_modify(|state| {
            if direction != Direction::Back {
                change(&mut state.there);
            }
            if direction != Direction::There {
                change(&mut state.back);
            }
        });
    }
}

async fn accept(listener: TcpListener, target: Arc<AtomicU16>, state: watch::Receiver<State>) {
    loop {
        // It fails without file descriptors, for instance.
        let Ok((near, _)) = listener.accept().await else {
            sleep(SLICE).await;
            continue;
        };
        tokio::spawn(connection(near, target.load(Ordering::Relaxed), state.clone()));
    }
}

async fn connection(mut near: TcpStream, target: u16, state: watch::Receiver<State>) {
    let _ = near.set_nodelay(true);
    if state.borrow().cut {
        return reset(near);
    }
    let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return reset(near) };
    let _ = far.set_nodelay(true);
    let mut until = state.clone();
    let ended = {
        let ((near_out, near_in), (far_out, far_in)) = (near.split(), far.split());
        let moved = async {
            // Until both directions end, or one fails.
            tokio::try_join!(
                pump(near_out, far_in, |state| state.there, state.clone()),
                pump(far_out, near_in, |state| state.back, state.clone())
            )
        };
        tokio::select! {
            moved = moved => moved.is_ok(),
            // An error: the link is dropped.
            _ = until.wait_for(|state| state.cut) => false,
        }
    };
    if !ended {
        reset(near);
        reset(far);
    }
}

/// Ends a connection with a reset, which differs from an orderly end.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}

async fn pump(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    flow: fn(&State) -> Flow,
    state: watch::Receiver<State>,
) -> anyhow::Result<()> {
    let (chunks, in_flight) = mpsc::channel(CHUNKS_MAX);
    tokio::try_join!(read(from, chunks), write(in_flight, to, flow, state)).map(drop)
}

async fn read(mut from: ReadHalf<'_>, chunks: mpsc::Sender<(Instant, Bytes)>) -> anyhow::Result<()> {
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        if from.read_buf(&mut chunk).await? == 0 {
            return Ok(());
        }
        chunks.send((Instant::now(), chunk.freeze())).await?;
    }
}

async fn write(
    mut chunks: mpsc::Receiver<(Instant, Bytes)>,
    mut to: WriteHalf<'_>,
    flow: fn(&State) -> Flow,
    mut state: watch::Receiver<State>,
) -> anyhow::Result<()> {
    while let Some((read_at, mut chunk)) = chunks.recv().await {
        while !chunk.is_empty() {
            let now = flow(&*state.wait_for(|state| !flow(state).stalled).await?);
            sleep_until(read_at + now.delay).await;
            if flow(&state.borrow()).stalled {
                continue;
            }
            match now.bytes_per_second {
                None => to.write_all(&std::mem::take(&mut chunk)).await?,
                Some(rate) => {
                    let fits = usize::try_from(rate / u64::from(1000 / SLICE.subsec_millis()))?.max(1);
                    let slice = chunk.split_to(fits.min(chunk.len()));
                    to.write_all(&slice).await?;
                    sleep(Duration::from_secs_f64(1.0 / rate as f64) * u32::try_from(slice.len())?).await;
                }
            }
        }
    }
    state.wait_for(|state| !flow(state).stalled).await?;
    to.shutdown().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An echo server behind a link, and a connection to it.
    async fn echo() -> (Link, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let link = Link::to(listener.local_addr().unwrap().port()).await.unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        let stream = open(&link).await;
        (link, stream)
    }

    async fn open(link: &Link) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, link.port())).await.unwrap()
    }

    async fn echoed(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(text).await?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).await?;
        Ok(back)
    }

    #[tokio::test]
    async fn a_healthy_link_passes_all_bytes_and_the_end() {
        let (_link, mut stream) = echo().await;
        let long: Vec<u8> = (0..500_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let (mut from, mut to) = stream.split();
        let mut back = Vec::new();
        let send = async {
            to.write_all(&long).await?;
            to.shutdown().await
        };
        let (sent, read) = tokio::join!(send, from.read_to_end(&mut back));
        sent.unwrap();
        read.unwrap();
        assert!(back == long);
    }

    #[tokio::test]
    async fn a_cut_resets_open_and_new_connections_until_it_is_healed() {
        let (link, mut stream) = echo().await;
        echoed(&mut stream, b"hello").await.unwrap();
        link.cut();
        assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        // The kernel may open it before the link resets it.
        assert!(echoed(&mut open(&link).await, b"hello").await.is_err());
        link.heal();
        assert_eq!(echoed(&mut open(&link).await, b"hello").await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn a_stalled_link_keeps_its_connections_and_delivers_after_it_is_healed() {
        let (link, mut stream) = echo().await;
        echoed(&mut stream, b"before").await.unwrap();
        link.stall(Direction::Back);
        stream.write_all(b"meanwhile").await.unwrap();
        let mut back = [0; 9];
        let nothing = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut back)).await;
        assert!(nothing.is_err());
        link.heal();
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"meanwhile");
    }

    #[tokio::test]
    async fn slow_links_are_slow() {
        let (link, mut stream) = echo().await;
        link.delay(Direction::There, Duration::from_millis(100));
        let begun = Instant::now();
        echoed(&mut stream, b"hello").await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
        link.heal();
        link.throttle(Direction::Both, 10_000);
        let begun = Instant::now();
        echoed(&mut stream, &[7; 3_000]).await.unwrap();
        // The echo server sends the first slice back before it has read the last.
        assert!(begun.elapsed() >= Duration::from_millis(280), "{:?}", begun.elapsed());
    }
}
