//! A wire between two processes that can be cut, stalled, slowed down and narrowed.
//!
//! A TCP proxy on a port of its own, which stays the same while what is behind it restarts. It moves bytes and knows
//! nothing of what they mean.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks on their way in one direction of one connection. When they are as many, nothing more is read, and the sender's
/// own buffers fill, as on a long wire.
const CHUNKS_MAX: usize = 64;
/// A narrow wire passes on what fits into this time at once.
const SLICE: Duration = Duration::from_millis(20);

/// Seen from the end that connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Towards what is behind the link.
    There,
    /// What comes back from it.
    Back,
    /// Both.
    Both,
}

/// What one direction is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Flow {
    /// Nothing moves, the end of a connection neither.
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

/// A link, whole at first. Gone when dropped.
#[derive(Debug)]
pub struct Link {
    port: u16,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
        // Connections watch the state, and end with it.
    }
}

impl Link {
    /// A link to what listens on `port` on this machine, now or later.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn to(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, super::free_port()?)).await?;
        let own_port = listener.local_addr()?.port();
        let (state, watched) = watch::channel(State::default());
        let accepting =
            tokio::spawn(accept(listener, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), watched));
        Ok(Self { port: own_port, state, accepting })
    }

    /// Where to connect instead.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Resets every connection, and every new one at once.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut = true);
    }

    /// Nothing moves any more, and nobody is told: connections stay, and new ones can be opened.
    pub fn stall(&self, direction: Direction) {
        self.change(direction, |flow| flow.stalled = true);
    }

    /// Every byte takes so much longer.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.change(direction, |flow| flow.delay = delay);
    }

    /// Each connection gets no more than this through.
    pub fn throttle(&self, direction: Direction, bytes_per_second: u64) {
        self.change(direction, |flow| flow.bytes_per_second = Some(bytes_per_second.max(1)));
    }

    /// Whole again. What a stall had held back goes on; what a cut has ended does not.
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

async fn accept(listener: TcpListener, target: SocketAddr, state: watch::Receiver<State>) {
    loop {
        // Out of file descriptors, for instance.
        let Ok((near, _)) = listener.accept().await else {
            sleep(SLICE).await;
            continue;
        };
        tokio::spawn(connection(near, target, state.clone()));
    }
}

async fn connection(mut near: TcpStream, target: SocketAddr, state: watch::Receiver<State>) {
    let _ = near.set_nodelay(true);
    if state.borrow().cut {
        return reset(near);
    }
    let Ok(mut far) = TcpStream::connect(target).await else { return reset(near) };
    let _ = far.set_nodelay(true);
    let mut until = state.clone();
    let ended = {
        let ((near_out, near_in), (far_out, far_in)) = (near.split(), far.split());
        let moved = async {
            // Both end in order, or one fails.
            tokio::try_join!(
                pump(near_out, far_in, |state| state.there, state.clone()),
                pump(far_out, near_in, |state| state.back, state.clone())
            )
        };
        tokio::select! {
            moved = moved => moved.is_ok(),
            // An error: the link itself is gone.
            _ = until.wait_for(|state| state.cut) => false,
        }
    };
    if !ended {
        reset(near);
        reset(far);
    }
}

/// Nobody takes a reset for an orderly end.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}

async fn pump(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    flow: fn(&State) -> Flow,
    state: watch::Receiver<State>,
) -> anyhow::Result<()> {
    let (chunks, on_their_way) = mpsc::channel(CHUNKS_MAX);
    tokio::try_join!(read(from, chunks), write(on_their_way, to, flow, state)).map(drop)
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
    while let Some((came, mut chunk)) = chunks.recv().await {
        while !chunk.is_empty() {
            let now = flow(&*state.wait_for(|state| !flow(state).stalled).await?);
            sleep_until(came + now.delay).await;
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

    /// Something that sends back what it gets, behind a link.
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

    async fn say(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(text).await?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).await?;
        Ok(back)
    }

    #[tokio::test]
    async fn a_whole_link_passes_everything_and_the_end_too() {
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
    async fn a_cut_resets_what_is_open_and_what_is_opened_until_it_is_healed() {
        let (link, mut stream) = echo().await;
        say(&mut stream, b"hello").await.unwrap();
        link.cut();
        assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        // The kernel may open it before the link resets it.
        assert!(say(&mut open(&link).await, b"hello").await.is_err());
        link.heal();
        assert_eq!(say(&mut open(&link).await, b"hello").await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn a_stalled_link_keeps_its_connections_and_what_was_said_meanwhile() {
        let (link, mut stream) = echo().await;
        say(&mut stream, b"before").await.unwrap();
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
        say(&mut stream, b"hello").await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
        link.heal();
        link.throttle(Direction::Both, 10_000);
        let begun = Instant::now();
        say(&mut stream, &[7; 3_000]).await.unwrap();
        // What is read in one piece is on its way back as soon as its first slice is.
        assert!(begun.elapsed() >= Duration::from_millis(280), "{:?}", begun.elapsed());
    }
}
