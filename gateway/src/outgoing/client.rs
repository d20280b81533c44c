//! The clients, one for each scheme.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Url, redirect};
use shared::config::ConfigError;
use shared::error_text::error_line;
use url::Host;

use super::resolver::{Policy, Resolver};
use crate::config;

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that was not used for this long is not used again: many servers close theirs after 5 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Longest URL.
const URL_BYTES_MAX: usize = 2_048;

/// A URL that is not called. Its `Display` says what to write.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RefusedUrl(String);

/// Calls addresses that may be called.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// For `https://`: the Internet and the allowed networks.
    tls: (Client, Policy),
    /// For `http://`: the allowed networks only.
    plain: (Client, Policy),
}

/// A client with the authorities of `config`, and with what `set` sets. It follows no redirects.
///
/// # Errors
/// `outgoing.tls_ca` is unusable, or TLS cannot be set up.
pub(crate) fn client(
    config: &config::Outgoing,
    set: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Result<Client, ConfigError> {
    let builder = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("im-gateway/", env!("CARGO_PKG_VERSION")))
        .tls_certs_merge(config.authorities()?);
    set(builder).build().map_err(|error| ConfigError::key("outgoing.tls_ca", error_line(&error)))
}

impl Outgoing {
    /// The clients of `config`.
    ///
    /// # Errors
    /// `outgoing.tls_ca` is unusable, or TLS cannot be set up.
    pub(crate) fn new(config: &config::Outgoing) -> Result<Self, ConfigError> {
        let networks: Arc<[_]> = config.allowed_networks.clone().into();
        let make = |is_global_allowed| {
            let policy = Policy { is_global_allowed, networks: Arc::clone(&networks) };
            let resolver = Arc::new(Resolver(policy.clone()));
            let client =
                client(config, |builder| builder.pool_idle_timeout(IDLE_TIMEOUT).dns_resolver(resolver))?;
            Ok::<_, ConfigError>((client, policy))
        };
        Ok(Self { tls: make(true)?, plain: make(false)? })
    }

    /// Reads a URL, and checks what can be checked without DNS.
    ///
    /// # Errors
    /// [`RefusedUrl`]
    pub(crate) fn url(&self, text: &str) -> Result<Url, RefusedUrl> {
        let refused = |why: &str| RefusedUrl(why.to_owned());
        if text.len() > URL_BYTES_MAX {
            return Err(refused("is longer than 2048 bytes"));
        }
        let url = Url::parse(text)
            .map_err(|error| RefusedUrl(format!("is no URL ({error}): write https://host/path")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("has a user name or a password: calls are signed instead"));
        }
        if url.fragment().is_some() {
            return Err(refused("has a fragment (#), which is never sent: remove it"));
        }
        let policy = match url.scheme() {
            "https" => &self.tls.1,
            "http" => &self.plain.1,
            _ => return Err(refused("begins neither with https:// nor with http://")),
        };
        let address = match url.host() {
            None => return Err(refused("has no host: write https://host/path")),
            Some(Host::Domain(_)) => return Ok(url),
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
        };
        if policy.allows(address) {
            return Ok(url);
        }
        let host = address.to_string();
        Err(RefusedUrl(policy.refusal(&host, host.clone()).to_string()))
    }

    /// The client for `https://`.
    pub(crate) fn internet(&self) -> &Client {
        &self.tls.0
    }

    /// The client that calls `url`. It follows no redirects, and has no timeout but that of connecting.
    pub(crate) fn client(&self, url: &Url) -> &Client {
        if url.scheme() == "https" { &self.tls.0 } else { &self.plain.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(networks: &[&str]) -> Outgoing {
        let allowed_networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        Outgoing::new(&config::Outgoing { allowed_networks, ..config::Outgoing::default() }).unwrap()
    }

    #[test]
    fn a_url_of_a_private_network_is_refused_however_it_is_written() {
        let outgoing = outgoing(&[]);
        for url in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://0x7f000001/",
            "https://2130706433/",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:169.254.169.254]/latest/meta-data",
            "https://10.0.0.1:8443/",
            "http://1.1.1.1/",
            "http://127.0.0.1/",
        ] {
            let error = outgoing.url(url).unwrap_err().to_string();
            assert!(error.contains("outgoing.allowed_networks"), "{url}: {error}");
        }
    }

    #[test]
    fn a_url_that_is_none_is_refused() {
        let outgoing = outgoing(&[]);
        for (url, part) in [
            ("", "is no URL"),
            ("example.org/hook", "is no URL"),
            ("ftp://example.org", "https://"),
            ("https://user:secret@example.org/", "signed"),
            ("https://example.org/#top", "fragment"),
            (&format!("https://example.org/{}", "a".repeat(2_048)), "2048"),
        ] {
            let error = outgoing.url(url).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[test]
    fn allowed_networks_may_be_called_without_tls() {
        let outgoing = outgoing(&["127.0.0.0/8"]);
        for url in
            ["http://127.0.0.1:9/", "https://127.1:9/", "https://1.1.1.1/", "https://example.org/a?b=c"]
        {
            outgoing.url(url).unwrap();
        }
        outgoing.url("http://10.0.0.1/").unwrap_err();
    }

    #[tokio::test]
    async fn a_name_of_a_private_address_is_not_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let refusing = outgoing(&[]);
        for scheme in ["http", "https"] {
            let url = refusing.url(&format!("{scheme}://localhost:{port}/")).unwrap();
            let error = refusing.client(&url).get(url.clone()).send().await.unwrap_err();
            let error = error_line(&error);
            assert!(error.contains("outgoing.allowed_networks"), "{error}");
        }
        let allowing = outgoing(&["127.0.0.0/8", "::1/128"]);
        let url = allowing.url(&format!("http://localhost:{port}/")).unwrap();
        let calling = tokio::spawn(allowing.client(&url).get(url.clone()).send());
        let (stream, _) = listener.accept().await.unwrap();
        drop(stream);
        calling.await.unwrap().unwrap_err();
    }
}
