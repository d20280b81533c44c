//! The TCP listener: limits the number of connections, sets TCP_NODELAY, and sets a deadline for request heads.
//!
//! `warp::serve` has none of the three, so hyper serves the routes directly.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use shared::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::config::Config;

/// Connections that wait in the kernel to be accepted, such as those of all clients that reconnect at once.
const BACKLOG: u32 = 4_096;
/// Most bytes of a request head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields of a request.
const HEADERS_MAX: usize = 64;
/// Pause after a failed accept; the usual cause is a lack of file descriptors, which ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A permit under the connection limit, in the extensions of a connection's requests. The task that serves the connection
/// holds it: the one here for HTTP, the connection task after an upgrade.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionPermit(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

/// The remote address of the TCP connection, in the extensions of its requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The settings of the listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListenSettings {
    address: SocketAddr,
    /// Open connections; further ones wait in the kernel.
    connections_max: usize,
    /// For the head of a request.
    header_timeout: Duration,
}

impl ListenSettings {
    /// The settings that `config` has.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            address: config.listen.address,
            connections_max: config.limits.connections_max,
            header_timeout: Duration::from_millis(config.timeouts.http_header_ms),
        }
    }
}

/// Binds the address and accepts connections until the stop. Returns the bound address.
///
/// # Errors
/// The address cannot be bound; the message names `listen.address`.
pub(crate) fn start(
    settings: ListenSettings,
    routes: BoxedFilter<(Response,)>,
    shutdown: &Shutdown,
) -> anyhow::Result<SocketAddr> {
    let listener = bind(settings.address).with_context(|| format!("listen.address: {}", settings.address))?;
    let address = listener.local_addr()?;
    let permits = Arc::new(Semaphore::new(settings.connections_max));
    let header_timeout = settings.header_timeout;
    let stop = shutdown.clone();
    shutdown.spawn(async move {
        stop.run_until_stopped(accept(listener, permits, header_timeout, routes, &stop)).await;
    });
    Ok(address)
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(
    listener: TcpListener,
    permits: Arc<Semaphore>,
    header_timeout: Duration,
    routes: BoxedFilter<(Response,)>,
    stop: &Shutdown,
) -> Infallible {
    loop {
        // The permit comes first: connections beyond the limit wait in the kernel.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { continue };
        match listener.accept().await {
            Ok((stream, address)) => {
                let extensions = (ConnectionPermit(Arc::new(permit)), Peer(address));
                #[expect(clippy::disallowed_methods, reason = "a slow HTTP client must not delay the drain")]
                tokio::spawn(serve(stream, extensions, header_timeout, routes.clone(), stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted: accepting continues after a pause");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    (permit, peer): (ConnectionPermit, Peer),
    header_timeout: Duration,
    routes: BoxedFilter<(Response,)>,
    stop: Shutdown,
) {
    let _ = stream.set_nodelay(true);
    let routes = TowerToHyperService::new(warp::service(routes));
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(permit.clone());
        request.extensions_mut().insert(peer);
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = stop.stopping() => {
            // The call in progress is answered; the connection then closes.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // Caused by the client: it disconnected, or sent invalid HTTP.
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended with an error");
    }
}
