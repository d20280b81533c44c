//! The operator's own listener, the same in both programs: health checks and metrics at `ops.address`.
//!
//! It is bound before the process connects to the stores, so that the start can be watched, and its connections do not wait
//! for those of clients.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::shutdown::Shutdown;

/// Open connections; further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 64;
/// Connections that wait in the kernel.
const BACKLOG: u32 = 128;
/// For the pause before a request, and its head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// A connection is closed after this time, so that a client that reads nothing does not keep its place.
const LIFETIME: Duration = Duration::from_secs(600);
/// For the answer in progress when a connection is to be closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept; the usual cause is a lack of file descriptors, which ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// `ops.address` cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("ops.address {address}: {source}{}", hint(source))]
pub struct OpsListenerError {
    address: SocketAddr,
    source: std::io::Error,
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => {
            "; each gateway and worker of a host needs a port of its own (IM__OPS__ADDRESS; port 0 takes any free one)"
        }
        _ => "",
    }
}

/// Binds `address` and serves `routes` until the stop. Returns the bound address, whose port is not 0.
///
/// # Errors
/// The address cannot be bound: the port is in use, or this host does not have the address.
pub fn start(
    address: SocketAddr,
    routes: BoxedFilter<(Response,)>,
    shutdown: &Shutdown,
) -> Result<SocketAddr, OpsListenerError> {
    let bound = bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (bound, listener) = bound.map_err(|source| OpsListenerError { address, source })?;
    let stop = shutdown.clone();
    shutdown.spawn_essential(format!("ops listener on {bound}"), async move {
        stop.run_until_stopped(accept(listener, routes, &stop)).await;
    });
    Ok(bound)
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, routes: BoxedFilter<(Response,)>, stop: &Shutdown) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let serving = serve(stream, routes.clone(), stop.clone());
                stop.spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "A connection to ops.address was not accepted; accepting continues after a pause");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, routes: BoxedFilter<(Response,)>, stop: Shutdown) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(warp::service(routes)));
    tokio::pin!(connection);
    tokio::select! {
        // Its error is the client's, which disconnected or sent no HTTP.
        _ = &mut connection => return,
        () = stop.stopping() => {}
        () = sleep(LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(CLOSE_TIMEOUT, connection).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use warp::{Filter as _, Reply as _};

    use super::*;

    fn routes() -> BoxedFilter<(Response,)> {
        warp::path!("healthz").map(|| "ok\n".into_response()).boxed()
    }

    #[tokio::test]
    async fn a_port_that_is_in_use_is_an_error_that_says_what_to_set() {
        let stop = Shutdown::new();
        let bound = start(SocketAddr::from(([127, 0, 0, 1], 0)), routes(), &stop).unwrap();
        let error = start(bound, routes(), &stop).unwrap_err().to_string();
        assert!(
            error.contains(&format!("ops.address {bound}")) && error.contains("IM__OPS__ADDRESS"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn answers_until_the_stop_and_closes_idle_connections_then() {
        let stop = Shutdown::new();
        let bound = start(SocketAddr::from(([127, 0, 0, 1], 0)), routes(), &stop).unwrap();
        let mut client = TcpStream::connect(bound).await.unwrap();
        client.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        assert!(stop.finish(Duration::from_secs(5)).await, "a connection is open");
        let read = timeout(Duration::from_secs(5), client.read_to_end(&mut Vec::new())).await;
        assert!(read.is_ok(), "the client's connection is open");
        assert!(TcpStream::connect(bound).await.is_err(), "the listener is open");
    }
}
