//! The TCP listener: limits the number of connections, sets TCP_NODELAY, completes TLS handshakes, and sets deadlines for
//! them, for request heads and for idle connections.
//!
//! `warp::serve` has none of the three, so hyper serves the routes directly.

mod capacity;
mod head_deadline;
mod proxy_header;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use parking_lot::Mutex;
use shared::shutdown::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use warp::filters::BoxedFilter;
use warp::http::Version;
use warp::http::uri::Authority;
use warp::reply::Response;

use crate::config::Config;
use crate::shares::{Share, Shares};
use crate::tls::Handshake;
use crate::write_timeout::WriteTimeout;
pub(crate) use capacity::Capacity;
use head_deadline::{HeadDeadline, HeadTimeouts, Watched};

/// Connections that wait in the kernel to be accepted, such as those of all clients that reconnect at once.
const BACKLOG: u32 = 4_096;
/// Most bytes of a request head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields of a request.
const HEADERS_MAX: usize = 64;
/// For a request head of a client that has many other connections: a client that sends at once needs less.
const HURRIED_HEADER_TIMEOUT: Duration = Duration::from_secs(1);
/// One address has at most this part of all connections, before they are upgraded.
const ADDRESS_PART: usize = 4;
/// Pause after a failed accept; the usual cause is a lack of file descriptors, which ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A permit under the connection limit, in the extensions of a connection's requests. The task that serves the connection
/// holds it: the one here for HTTP, the connection task after an upgrade.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionPermit(Arc<Held>);

#[derive(Debug)]
struct Held {
    _connection: OwnedSemaphorePermit,
    /// Its place among the connections of its address that are not upgraded.
    pending: Mutex<Option<Share<IpAddr>>>,
    /// It is a WebSocket, which has deadlines of its own.
    is_upgraded: Arc<AtomicBool>,
}

impl ConnectionPermit {
    fn new(connection: OwnedSemaphorePermit, pending: Option<Share<IpAddr>>) -> Self {
        let (pending, is_upgraded) = (Mutex::new(pending), Arc::default());
        Self(Arc::new(Held { _connection: connection, pending, is_upgraded }))
    }

    /// The connection is a WebSocket from here on.
    pub(crate) fn upgraded(&self) {
        self.0.is_upgraded.store(true, Ordering::Relaxed);
        self.0.pending.lock().take();
    }
}

/// The remote address of the TCP connection, in the extensions of its requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// What the request line says beside the path, in the extensions of a request.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The version of HTTP.
    pub(crate) version: Version,
    /// The host of a target in absolute form: `GET http://host/path`.
    pub(crate) authority: Option<Authority>,
}

/// The settings of the listener.
#[derive(Debug, Clone)]
pub(crate) struct ListenSettings {
    address: SocketAddr,
    capacity: Arc<Capacity>,
    /// Load balancers, which have connections of many clients.
    trusted_proxies: Vec<IpNet>,
    /// Connections begin with a header of the PROXY protocol.
    proxy_protocol: bool,
    /// For the head of a request.
    header_timeout: Duration,
    /// For the pause between two requests.
    idle_timeout: Duration,
    /// For a client that reads nothing of its response.
    write_timeout: Duration,
    /// Clients use TLS.
    tls: Option<Handshake>,
}

impl ListenSettings {
    /// The settings that `config` has.
    pub(crate) fn of(config: &Config, capacity: Arc<Capacity>) -> Self {
        Self {
            address: config.listen.address,
            capacity,
            trusted_proxies: config.listen.trusted_proxies.clone(),
            proxy_protocol: config.listen.proxy_protocol,
            header_timeout: Duration::from_millis(config.timeouts.http_header_ms),
            idle_timeout: Duration::from_millis(config.timeouts.http_idle_ms),
            write_timeout: Duration::from_millis(config.timeouts.http_write_ms),
            tls: None,
        }
    }

    /// The same with TLS, if there is a handshake.
    pub(crate) fn with_tls(self, tls: Option<Handshake>) -> Self {
        Self { tls, ..self }
    }

    /// The time for a request head of a client at `peer`, which has `pending` other connections that are not upgraded;
    /// `None` if it may have no further one.
    fn header_timeout(&self, pending: usize) -> Option<Duration> {
        let (connections_max, pending_max) = self.capacity.get();
        // A few addresses must not take all connections.
        let most = pending_max.max(connections_max / ADDRESS_PART);
        match pending {
            _ if pending_max == 0 || pending < pending_max => Some(self.header_timeout),
            _ if pending < most => Some(HURRIED_HEADER_TIMEOUT.min(self.header_timeout)),
            _ => None,
        }
    }

    /// The deadlines of a connection that has `head` for each request head. One of an address with many others may not wait
    /// for its next request longer than that.
    fn timeouts(&self, head: Duration) -> HeadTimeouts {
        let idle = if head < self.header_timeout { head } else { self.idle_timeout };
        HeadTimeouts { head, idle }
    }

    fn is_trusted(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&peer))
    }
}

/// Binds the address and accepts connections until the stop. Returns the bound address.
///
/// # Errors
/// The address cannot be bound.
pub(crate) fn start(
    settings: ListenSettings,
    routes: BoxedFilter<(Response,)>,
    shutdown: &Shutdown,
) -> anyhow::Result<SocketAddr> {
    let listener = bind(settings.address).with_context(|| format!("listen.address: {}", settings.address))?;
    let address = listener.local_addr()?;
    let stop = shutdown.clone();
    let entrance = Arc::new(Entrance { settings, pending: Shares::new(), routes, stop: shutdown.clone() });
    shutdown.spawn_essential(format!("listener on {address}"), async move {
        stop.run_until_stopped(accept(listener, entrance)).await;
    });
    Ok(address)
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, entrance: Arc<Entrance>) -> Infallible {
    let permits = Arc::clone(entrance.settings.capacity.permits());
    loop {
        // The permit comes first: connections beyond the limit wait in the kernel.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { continue };
        match listener.accept().await {
            Ok((stream, peer)) if entrance.settings.proxy_protocol => {
                let serving = Arc::clone(&entrance).serve_proxied(nodelay(stream), peer, permit);
                #[expect(clippy::disallowed_methods, reason = "a slow HTTP client must not delay the drain")]
                tokio::spawn(serving);
            }
            Ok((stream, address)) => {
                if let Some(client) = entrance.admit(address, permit) {
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "a slow HTTP client must not delay the drain"
                    )]
                    tokio::spawn(client.begin(nodelay(stream)));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted: accepting continues after a pause");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What all connections of a listener have in common.
struct Entrance {
    settings: ListenSettings,
    /// Connections that are not upgraded, by address.
    pending: Shares<IpAddr>,
    routes: BoxedFilter<(Response,)>,
    stop: Shutdown,
}

impl Entrance {
    /// The client at `address`, unless that has too many connections.
    fn admit(&self, address: SocketAddr, permit: OwnedSemaphorePermit) -> Option<Client> {
        let settings = &self.settings;
        let peer = address.ip().to_canonical();
        let share = (!settings.is_trusted(peer)).then(|| self.pending.take(&network(peer), usize::MAX));
        let (share, others) = share.flatten().unzip();
        let Some(header_timeout) = settings.header_timeout(others.unwrap_or(0)) else {
            metrics::counter!(shared::metrics::GATEWAY_CONNECTIONS_REFUSED).increment(1);
            return None;
        };
        Some(Client {
            permit: ConnectionPermit::new(permit, share),
            peer: Peer(address),
            timeouts: settings.timeouts(header_timeout),
            write_timeout: settings.write_timeout,
            tls: settings.tls.clone(),
            routes: self.routes.clone(),
            stop: self.stop.clone(),
        })
    }

    /// Serves a connection that a TCP load balancer at `peer` opened for its client.
    async fn serve_proxied(
        self: Arc<Self>,
        mut stream: TcpStream,
        peer: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) {
        let client = self.proxied_client(&mut stream, peer);
        match self.stop.run_until_stopped(client).await {
            None => {}
            Some(Ok(address)) => {
                if let Some(client) = self.admit(address.unwrap_or(peer), permit) {
                    client.begin(stream).await;
                }
            }
            Some(Err(error)) => {
                metrics::counter!(shared::metrics::GATEWAY_PROXY_REFUSED).increment(1);
                tracing::debug!(%peer, %error, "A connection without a PROXY header of a trusted address was closed");
            }
        }
    }

    async fn proxied_client(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
    ) -> std::io::Result<Option<SocketAddr>> {
        if !self.settings.is_trusted(peer.ip().to_canonical()) {
            return Err(std::io::Error::other("the address is not in listen.trusted_proxies"));
        }
        tokio::time::timeout(self.settings.header_timeout, proxy_header::read(stream)).await?
    }
}

fn nodelay(stream: TcpStream) -> TcpStream {
    let _ = stream.set_nodelay(true);
    stream
}

/// The key of limits per address: an IPv6 client controls a whole /64 network.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// A connection, and how it is served.
struct Client {
    permit: ConnectionPermit,
    peer: Peer,
    timeouts: HeadTimeouts,
    write_timeout: Duration,
    tls: Option<Handshake>,
    routes: BoxedFilter<(Response,)>,
    stop: Shutdown,
}

impl Client {
    async fn begin(self, stream: TcpStream) {
        let is_upgraded = Arc::clone(&self.permit.0.is_upgraded);
        let stream = WriteTimeout::new(stream, self.write_timeout, is_upgraded);
        match self.tls.clone() {
            None => self.serve(stream).await,
            // In a box, so that a connection without TLS takes no memory for it.
            Some(tls) => Box::pin(self.serve_tls(stream, tls)).await,
        }
    }

    /// Completes the TLS handshake, and serves. The handshake has the time of a request head, which is short for an address
    /// with many pending connections.
    async fn serve_tls(self, stream: WriteTimeout<TcpStream>, tls: Handshake) {
        let handshake = tls.complete(stream, self.timeouts.head);
        if let Some(Some(stream)) = self.stop.run_until_stopped(handshake).await {
            self.serve(stream).await;
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let Self { permit, peer, timeouts, routes, stop, .. } = self;
        let routes = TowerToHyperService::new(warp::service(routes));
        let deadline = HeadDeadline::new(timeouts);
        let of_calls = deadline.clone();
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(permit.clone());
            request.extensions_mut().insert(peer);
            let target = Target { version: request.version(), authority: request.uri().authority().cloned() };
            request.extensions_mut().insert(target);
            of_calls.call_begins();
            let (answer, of_call) = (routes.call(request), of_calls.clone());
            async move {
                let answer = answer.await;
                of_call.call_ends();
                answer
            }
        });
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(Watched::new(stream, deadline.clone())), service)
            .with_upgrades();
        tokio::pin!(connection);
        let served = tokio::select! {
            biased;
            served = &mut connection => served,
            () = deadline.passed() => return,
            () = stop.stopping() => {
                // The call in progress is answered; the connection then closes.
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    served = connection => served,
                    () = deadline.passed() => return,
                }
            }
        };
        // Caused by the client: it disconnected, or sent invalid HTTP.
        if let Err(error) = served {
            tracing::debug!(%error, "an HTTP connection ended with an error");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_many_pending_connections_is_hurried_and_then_refused() {
        let mut config = Config::default();
        config.listen.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        let settings = ListenSettings::of(&config, Arc::new(Capacity::new(1_000, 100)));
        let [hurried, usual] = [1, 10].map(|s| settings.timeouts(Duration::from_secs(s)).idle.as_secs());
        assert_eq!((hurried, usual), (1, 75));
        let seconds = |pending| settings.header_timeout(pending).map(|timeout| timeout.as_secs());
        assert_eq!([0, 99, 100, 249, 250].map(seconds), [Some(10), Some(10), Some(1), Some(1), None]);
        assert!(settings.is_trusted("10.1.2.3".parse().unwrap()));
        assert!(!settings.is_trusted("192.0.2.1".parse().unwrap()));
        let settings = ListenSettings::of(&config, Arc::new(Capacity::new(1_000, 0)));
        assert!(settings.header_timeout(1_000_000).is_some(), "no limit");
    }
}
