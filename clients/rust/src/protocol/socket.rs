//! Opening a WebSocket.

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, handshake::client::Request};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::error::ConnectError;

/// Small, because there may be many connections in one process.
const BUFFER_BYTES: usize = 4 * 1024;

/// A WebSocket, with TLS if the address begins with `wss`.
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
/// How the certificate of a server is verified.
pub type Tls = Arc<ClientConfig>;

/// Opens a WebSocket at `url`, with small buffers and without Nagle's delay. A token is sent as a header, since addresses
/// appear in logs and errors. Certificates are verified by the operating system's rules if `tls` is `None`.
///
/// # Errors
/// If the network fails or the server refuses.
pub async fn websocket(url: &str, token: Option<&str>, tls: Option<&Tls>) -> Result<Socket, ConnectError> {
    let mut request = url.into_client_request()?;
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(tungstenite::Error::from)?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let is_secure = request.uri().scheme_str() == Some("wss");
    let connector = match (is_secure, tls) {
        (false, _) => Connector::Plain,
        (true, Some(tls)) => Connector::Rustls(Arc::clone(tls)),
        (true, None) => Connector::Rustls(system_tls()?),
    };
    let stream = TcpStream::connect(address(&request, is_secure)).await?;
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
    // The handshake of TLS is large, and most callers do not need it.
    let opening = client_async_tls_with_config(request, stream, Some(config), Some(connector));
    Ok(Box::pin(opening).await?.0)
}

/// Host and port; an address of IPv6 has brackets in the URL only.
fn address(request: &Request, is_secure: bool) -> (&str, u16) {
    let host = request.uri().host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (host, request.uri().port_u16().unwrap_or(if is_secure { 443 } else { 80 }))
}

/// The operating system's rules; read once.
fn system_tls() -> Result<Tls, rustls::Error> {
    static TLS: OnceLock<Tls> = OnceLock::new();
    if let Some(tls) = TLS.get() {
        return Ok(Arc::clone(tls));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = Arc::new(builder.with_platform_verifier()?.with_no_client_auth());
    Ok(Arc::clone(TLS.get_or_init(|| config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_url() {
        for (url, expected) in [
            ("ws://chat.example/ws", ("chat.example", 80)),
            ("wss://chat.example/ws", ("chat.example", 443)),
            ("ws://[::1]:8080/ws", ("::1", 8080)),
        ] {
            let request = url.into_client_request().unwrap();
            assert_eq!(address(&request, url.starts_with("wss")), expected);
        }
    }

    #[test]
    fn the_rules_of_the_operating_system_can_be_read() {
        system_tls().unwrap();
    }
}
