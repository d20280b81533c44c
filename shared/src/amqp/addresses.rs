//! The addresses in `amqp.url`: the nodes of one RabbitMQ.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionBuilder, ConnectionProperties};
use tokio::time::timeout;

use crate::config::{Amqp, ConfigError, StoreTls};
use crate::tls::TlsProblem;

/// The reason why no address gives a connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An error of lapin.
    #[error(transparent)]
    Lapin(#[from] lapin::Error),
    /// The handshake of TLS failed for a reason that a retry does not remove.
    #[error(transparent)]
    Tls(#[from] TlsProblem),
    /// A file of `amqp.tls_…` is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server did not answer within the timeout.
    #[error("RabbitMQ did not answer in time")]
    Timeout,
}

/// The addresses in `amqp.url`. A connection is made to the first one that answers, beginning behind the one that was
/// tried last.
#[derive(Debug)]
pub struct Addresses {
    settings: Amqp,
    uris: Vec<AMQPUri>,
    next: AtomicUsize,
}

impl Addresses {
    /// The addresses in `settings`. Processes begin with different ones, so that they use all nodes.
    ///
    /// # Errors
    /// Names `amqp.url` if one is not an AMQP address, or if their virtual hosts differ.
    pub fn new(settings: &Amqp) -> Result<Self, ConfigError> {
        let refused = |why: String| ConfigError::key("amqp.url", why);
        let mut uris = Vec::new();
        for text in settings.url.each() {
            let mut uri: AMQPUri = text.parse().map_err(refused)?;
            if uri.authority.host.contains(',') {
                return Err(refused("has a part that is no address".to_owned()));
            }
            uri.query.heartbeat.get_or_insert(settings.heartbeat_s);
            uris.push(uri);
        }
        if uris.windows(2).any(|pair| pair[0].vhost != pair[1].vhost) {
            return Err(refused("its addresses have different virtual hosts".to_owned()));
        }
        let next = AtomicUsize::new(rand::random_range(0..uris.len()));
        Ok(Self { settings: settings.clone(), uris, next })
    }

    /// The first address.
    pub(super) fn first(&self) -> &AMQPUri {
        &self.uris[0]
    }

    /// Connects to one of them, within `wait` for all together. `name` is shown in RabbitMQ's management.
    ///
    /// # Errors
    /// The last failure, if no address answers.
    pub async fn connect(&self, name: &str, wait: Duration) -> Result<Connection, ConnectError> {
        let count = self.uris.len();
        let wait = wait / u32::try_from(count).unwrap_or(u32::MAX);
        let mut failure = ConnectError::Timeout;
        for _ in 0..count {
            let uri = &self.uris[self.next.fetch_add(1, Ordering::Relaxed) % count];
            match timeout(wait, self.connect_to(uri, name)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = ConnectError::Timeout,
            }
        }
        Err(failure)
    }

    async fn connect_to(&self, uri: &AMQPUri, name: &str) -> Result<Connection, ConnectError> {
        let tls = self.settings.tls();
        let connected = ConnectionBuilder::new()?
            .with_uri(uri.clone())
            .with_properties(ConnectionProperties::default().with_connection_name(name.into()))
            .with_tls_config(tls_config(&tls)?)
            .connect()
            .await;
        connected.map_err(|error| match TlsProblem::of(&tls, &self.settings.url.to_string(), &error) {
            Some(problem) => problem.into(),
            None => error.into(),
        })
    }
}

/// The files of TLS, read for each connection.
fn tls_config(tls: &StoreTls<'_>) -> Result<OwnedTLSConfig, ConfigError> {
    let cert_chain = tls.ca()?.map(|pem| String::from_utf8_lossy(&pem).into_owned());
    let identity = tls.identity()?.map(|(pem, key)| OwnedIdentity::PKCS8 { pem, key });
    Ok(OwnedTLSConfig { identity, cert_chain })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(url: &str) -> Result<Addresses, String> {
        Addresses::new(&Amqp { url: url.into(), ..Amqp::default() }).map_err(|error| error.to_string())
    }

    #[test]
    fn all_addresses_must_be_valid_and_of_one_virtual_host() {
        let hosts = |url: &str| -> Vec<String> {
            addresses(url).unwrap().uris.into_iter().map(|uri| uri.authority.host).collect()
        };
        assert_eq!(hosts("amqp://a/v"), ["a"]);
        assert_eq!(hosts("amqp://u:p@a:1/v, amqp://u:p@b:2/v,amqps://c/v"), ["a", "b", "c"]);
        for url in ["amqp://a,http://b", "amqp://a,", "", "a", "amqp://a/v,amqp://b/w"] {
            let error = addresses(url).unwrap_err();
            assert!(error.contains("amqp.url"), "{url}: {error}");
        }
    }
}
