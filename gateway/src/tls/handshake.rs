//! The handshake of a client.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Certificate;

/// Makes TLS streams of the byte streams of clients. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handshake {
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handshake")
    }
}

impl Handshake {
    /// TLS 1.2 and 1.3 with `certificate`, for HTTP/1.1: WebSockets begin with it.
    ///
    /// # Errors
    /// The cryptography library has no random numbers.
    pub(crate) fn new(certificate: Arc<Certificate>) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(shared::tls::provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificate);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Clients that reconnect, such as all of them after a restart of another gateway, skip the signature.
        config.ticketer = Ticketer::new()?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// The TLS stream over `stream`; `None` if the client fails to complete the handshake within `limit`.
    pub(crate) async fn complete<S>(&self, stream: S, limit: Duration) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let error = match timeout(limit, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not complete within {} ms", limit.as_millis()),
        };
        metrics::counter!(shared::metrics::GATEWAY_TLS_FAILED).increment(1);
        tracing::debug!(%error, "A TLS handshake of a client failed");
        None
    }
}
