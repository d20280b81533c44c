//! Accepting connections: capped, without Nagle's delay, with a deadline for the request's head.
//!
//! `warp::serve` has none of the three, so the routes are served by hyper directly.

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

/// Connections that the kernel keeps while they wait to be accepted: a herd that returns at once waits here.
const BACKLOG: u32 = 4_096;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of a request.
const HEADERS_MAX: usize = 64;
/// Pause after a failed accept: mostly because file descriptors have run out, and will be free again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection's place under the cap, in the extensions of its requests. Held by whoever serves the connection: here
/// while it speaks HTTP, by the WebSocket's task afterwards.
#[derive(Debug, Clone)]
pub struct Place(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

/// The other end of the TCP connection, in the extensions of its requests.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Binds and starts accepting until `shutdown` is asked to stop. Returns the bound address.
///
/// # Errors
/// Names `listen.address`.
pub fn start(
    config: &Config,
    routes: BoxedFilter<(Response,)>,
    shutdown: &Shutdown,
) -> anyhow::Result<SocketAddr> {
    let listener =
        bind(config.listen.address).with_context(|| format!("listen.address: {}", config.listen.address))?;
    let address = listener.local_addr()?;
    let places = Arc::new(Semaphore::new(config.limits.connections_max));
    let header_timeout = Duration::from_millis(config.timeouts.http_header_ms);
    let stop = shutdown.clone();
    // Not one of the tasks that are waited for: the listening socket must be gone at once when asked to stop.
    tokio::spawn(async move {
        stop.run_until_stopped(accept(listener, places, header_timeout, routes)).await;
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
    places: Arc<Semaphore>,
    header_timeout: Duration,
    routes: BoxedFilter<(Response,)>,
) -> Infallible {
    loop {
        // The place is taken first: beyond the cap, connections wait in the kernel.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { continue };
        match listener.accept().await {
            Ok((stream, address)) => {
                let about = (Place(Arc::new(place)), Peer(address));
                tokio::spawn(serve(stream, about, header_timeout, routes.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "accepting failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    (place, peer): (Place, Peer),
    header_timeout: Duration,
    routes: BoxedFilter<(Response,)>,
) {
    let _ = stream.set_nodelay(true);
    let routes = TowerToHyperService::new(warp::service(routes));
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(place.clone());
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
    // An error here is the client's: it went away, or sent no HTTP.
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection ended");
    }
}
