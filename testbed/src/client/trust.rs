//! Which authorities the clients of this process trust, when they connect with TLS.
//!
//! One setting for the whole process: a load tool talks to one deployment, and clients are made in many places.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use im_client::protocol::{self, ConnectError, Socket, Tls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite;

/// The authorities of one file.
#[derive(Debug)]
struct Trust {
    file: PathBuf,
    sockets: Tls,
    calls: reqwest::Client,
}

static TRUST: OnceLock<Trust> = OnceLock::new();

/// Makes all clients of this process trust the certificates in `file` (PEM), and no others. To be called once, before the first
/// client connects; without it, they trust what the operating system does.
///
/// # Errors
/// If the file cannot be read, or has no certificate of an authority; or at a second call.
pub fn trust(file: &Path) -> anyhow::Result<()> {
    let trust = Trust::read(file).with_context(|| format!("--ca {}", file.display()))?;
    TRUST.set(trust).map_err(|_| anyhow::anyhow!("the authorities of this process are known already"))
}

impl Trust {
    fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(file)?;
        let (mut roots, mut calls) = (RootCertStore::empty(), Vec::new());
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.context("is no PEM file")?;
            calls.push(reqwest::Certificate::from_der(&certificate)?);
            roots.add(certificate).context("has a certificate that is malformed")?;
        }
        anyhow::ensure!(!roots.is_empty(), "has no certificate: give a PEM file with BEGIN CERTIFICATE");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let sockets = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let calls = reqwest::Client::builder().tls_certs_only(calls).build()?;
        Ok(Self { file: file.to_owned(), sockets, calls })
    }
}

/// A client of HTTP calls.
pub(super) fn http_client() -> reqwest::Client {
    TRUST.get().map_or_else(reqwest::Client::new, |trust| trust.calls.clone())
}

/// Opens a WebSocket at `url`, with TLS if that begins with `wss`. A token is sent as a header.
///
/// # Errors
/// If the network fails, the certificate is not trusted, or the server refuses.
pub async fn websocket(url: &str, token: Option<&str>) -> Result<Socket, ConnectError> {
    protocol::websocket(url, token, TRUST.get().map(|trust| &trust.sockets)).await
}

/// Why TLS with `gateway` failed, as a sentence that says how to mend it; `None` if something else failed.
#[must_use]
pub fn tls_trouble(gateway: &str, error: &ConnectError) -> Option<String> {
    let file = TRUST.get().map(|trust| trust.file.as_path());
    let error = match error {
        ConnectError::Tls(error) => error,
        ConnectError::Network(tungstenite::Error::Io(error)) => error.get_ref()?.downcast_ref()?,
        ConnectError::Network(tungstenite::Error::Tls(tungstenite::error::TlsError::Rustls(error))) => error,
        _ => return None,
    };
    Some(sentence(gateway, file, error))
}

fn sentence(gateway: &str, file: Option<&Path>, error: &rustls::Error) -> String {
    let host = gateway.split_once("://").map_or(gateway, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    let rustls::Error::InvalidCertificate(why) = error else {
        return match error {
            rustls::Error::InvalidMessage(_) => {
                format!("{host} does not speak TLS: give ws:// instead of wss://")
            }
            other => format!("TLS with {host} failed: {other}"),
        };
    };
    match (why, file) {
        (CertificateError::UnknownIssuer, Some(file)) => format!(
            "the certificate of {host} is not signed by an authority in --ca {}: give the authority's certificate",
            file.display()
        ),
        (CertificateError::UnknownIssuer, None) => format!(
            "the certificate of {host} is not signed by an authority that this machine trusts: give --ca FILE with the \
             authority's certificate"
        ),
        (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }, _) => {
            format!("the certificate of {host} is for other names ({why}): connect to one of them")
        }
        (CertificateError::Expired | CertificateError::ExpiredContext { .. }, _) => {
            format!("the certificate of {host} has expired ({why}): renew it")
        }
        _ => format!("the certificate of {host} is not accepted: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_tls_is_explained_with_its_remedy() {
        let invalid = rustls::Error::InvalidCertificate;
        let file = Path::new("ca.pem");
        for (error, file, part) in [
            (
                invalid(CertificateError::UnknownIssuer),
                Some(file),
                "not signed by an authority in --ca ca.pem",
            ),
            (invalid(CertificateError::UnknownIssuer), None, "give --ca FILE"),
            (invalid(CertificateError::NotValidForName), None, "other names"),
            (invalid(CertificateError::Expired), Some(file), "has expired"),
            (rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), None, "give ws://"),
        ] {
            let sentence = sentence("wss://chat.example:443/ws", file, &error);
            assert!(sentence.contains(part) && sentence.contains("chat.example:443"), "{sentence}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Trust::read(file.path()).unwrap_err().to_string().contains("has no certificate"));
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(Trust::read(file.path()).is_err());
        assert!(Trust::read(Path::new("/nowhere.pem")).is_err());
    }
}
