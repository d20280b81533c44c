//! An HTTP server over TCP, by HTTP/1 or HTTP/2, with or without TLS, that a test can stop and start again.

use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::answer::Answer;
use crate::certificates::Authority;

/// Answers a request.
pub(super) type Handler = Arc<dyn Fn(&Parts, &Bytes) -> Answer + Send + Sync>;

/// The server. It stops when it is dropped.
pub(super) struct Server {
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    handler: Handler,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.lock().take() {
            accepting.abort();
        }
    }
}

impl Server {
    /// A server on a free port, with a certificate of `authority` if there is one.
    pub(super) async fn start(authority: Option<&Authority>, handler: Handler) -> anyhow::Result<Self> {
        let tls = authority.map(acceptor).transpose()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let server = Self { address: listener.local_addr()?, tls, handler, accepting: Mutex::default() };
        server.accept(listener);
        Ok(server)
    }

    /// Its address without a path.
    pub(super) fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    /// Closes the port and all connections.
    pub(super) async fn stop(&self) {
        let accepting = self.accepting.lock().take();
        if let Some(accepting) = accepting {
            accepting.abort();
            // The port is closed when the task has ended; it ends with an error, since it was aborted.
            drop(accepting.await);
        }
    }

    /// Opens the same port again.
    pub(super) async fn restart(&self) -> anyhow::Result<()> {
        self.stop().await;
        self.accept(TcpListener::bind(self.address).await?);
        Ok(())
    }

    fn accept(&self, listener: TcpListener) {
        let (tls, handler) = (self.tls.clone(), Arc::clone(&self.handler));
        let accepting = tokio::spawn(async move {
            // They end with this task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, handler) = (tls.clone(), Arc::clone(&handler));
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, handler).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, handler).await;
                            }
                        }
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        *self.accepting.lock() = Some(accepting);
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, handler: Handler) {
    let service = service_fn(move |request| answer(request, Arc::clone(&handler)));
    let builder = Builder::new(TokioExecutor::new());
    // A connection that breaks is the other end's business.
    builder.serve_connection(TokioIo::new(stream), service).await.unwrap_or_default();
}

async fn answer(
    request: hyper::Request<Incoming>,
    handler: Handler,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let answer = match body.collect().await {
        Ok(body) => handler(&parts, &body.to_bytes()),
        Err(_) => Answer::status(400),
    };
    tokio::time::sleep(answer.delay).await;
    let mut response = hyper::Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    let response = response.body(Full::from(answer.body));
    Ok(response.unwrap_or_else(|_| hyper::Response::new(Full::from("the script has an invalid answer"))))
}

fn acceptor(authority: &Authority) -> anyhow::Result<TlsAcceptor> {
    let issued = authority.issue(&["127.0.0.1", "localhost"])?;
    let certificate = CertificateDer::from_pem_slice(issued.cert.as_bytes()).context("certificate")?;
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).context("key")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
