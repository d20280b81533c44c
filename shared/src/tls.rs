//! TLS: the one cryptography library of the process, and certificates and keys in PEM.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::{ConfigError, StoreTls};
use crate::error_text::error_line;

/// Chooses the cryptography library for all TLS connections of the process: lapin, sqlx and fred must use the same one.
pub fn init() {
    // An error means that it is chosen already.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// The cryptography library of the process.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().map_or_else(|| Arc::new(aws_lc_rs::default_provider()), Arc::clone)
}

/// The certificates of a PEM file, in its order.
///
/// # Errors
/// The file has no certificate, or a malformed one.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| format!("is no certificate in PEM: {error}"))?;
    if all.is_empty() {
        return Err("has no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    Ok(all)
}

/// The first private key of a PEM file: PKCS #8, PKCS #1 or SEC1, without a passphrase.
///
/// # Errors
/// There is none, or it is malformed.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| format!("has no private key in PEM without a passphrase: {error}"))
}

/// The configuration of connections to a store with its own files.
///
/// # Errors
/// Names the key whose file is unusable.
pub fn client(tls: &StoreTls<'_>) -> Result<ClientConfig, ConfigError> {
    let mut roots = RootCertStore::empty();
    // A system without public authorities trusts the own one only.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = tls.ca()? {
        roots.add_parsable_certificates(certificates(&pem).map_err(|why| tls.unusable("tls_ca", why))?);
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| tls.unusable("tls_ca", error))?
        .with_root_certificates(roots);
    let Some((cert, key)) = tls.identity()? else { return Ok(builder.with_no_client_auth()) };
    let cert = certificates(&cert).map_err(|why| tls.unusable("tls_cert", why))?;
    let key = private_key(&key).map_err(|why| tls.unusable("tls_key", why))?;
    builder.with_client_auth_cert(cert, key).map_err(|error| tls.unusable("tls_key", error))
}

/// The reason why a TLS handshake with a store fails until an operator does something, with what to do.
#[derive(Debug, thiserror::Error)]
#[error("TLS to {url} ({section}.url): {what}; {remedy} ({error})")]
pub struct TlsProblem {
    /// Without credentials.
    url: String,
    section: &'static str,
    what: &'static str,
    remedy: String,
    /// The library's.
    error: String,
}

impl TlsProblem {
    /// The problem that `error` of a connection to the store at `url` has, if it is one of these. The libraries of the
    /// stores pass on the text of rustls, and not always the error itself.
    #[must_use]
    pub fn of(tls: &StoreTls<'_>, url: &str, error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let (error, section) = (error_line(error), tls.section);
        let (what, remedy) = problem(&error, section)?;
        Some(Self { url: url.to_owned(), section, what, remedy, error })
    }
}

fn problem(error: &str, section: &str) -> Option<(&'static str, String)> {
    let has = |texts: &[&str]| texts.iter().any(|text| error.contains(text));
    if has(&["fatal alert", "AlertReceived"]) {
        return refused_by_server(error, section);
    }
    Some(if has(&["not valid for name", "NotValidForName"]) {
        let remedy = format!("connect to a name that it has, in {section}.url, or issue one for this name");
        ("the server's certificate is for another name", remedy)
    } else if has(&["certificate expired", "Expired"]) {
        ("the server's certificate has expired", "renew it on the server".to_owned())
    } else if has(&["not valid yet", "NotValidYet"]) {
        ("the server's certificate is not valid yet", "compare the clocks of both hosts".to_owned())
    } else if has(&["UnknownIssuer"]) {
        let remedy = format!("set {section}.tls_ca to the certificate of its authority");
        ("the server's certificate is signed by an authority that is not trusted", remedy)
    } else if has(&["invalid peer certificate", "InvalidCertificate"]) {
        ("the server's certificate is unusable", "issue another one for the server".to_owned())
    } else if has(&["corrupt message", "InvalidContentType", "server does not support TLS"]) {
        let remedy = format!("connect to its TLS port in {section}.url, or switch TLS on there");
        ("the server speaks no TLS at this port", remedy)
    } else {
        return None;
    })
}

/// The problem that the server tells by an alert.
fn refused_by_server(error: &str, section: &str) -> Option<(&'static str, String)> {
    let has = |alerts: &[&str]| alerts.iter().any(|alert| error.contains(alert));
    if has(&["CertificateRequired", "HandshakeFailure"]) {
        let remedy = format!("set {section}.tls_cert and {section}.tls_key");
        return Some(("the server asks for a certificate of this process", remedy));
    }
    let alerts = ["UnknownCA", "BadCertificate", "CertificateExpired", "CertificateUnknown", "AccessDenied"];
    has(&alerts).then(|| {
        let remedy = format!("set {section}.tls_cert and {section}.tls_key to a pair that the server trusts");
        ("the server refuses the certificate of this process", remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_with_what_to_do() {
        let (ca, cert, key) = ("".as_ref(), "".as_ref(), "".as_ref());
        let tls = StoreTls { section: "redis", ca, cert, key };
        let told = |text: &str| {
            let error = std::io::Error::other(text.to_owned());
            TlsProblem::of(&tls, "rediss://cache:6380", &error).map(|problem| problem.to_string())
        };
        for (error, what, remedy) in [
            ("invalid peer certificate: UnknownIssuer", "not trusted", "set redis.tls_ca"),
            ("invalid peer certificate: certificate not valid for name \"a\"", "another name", "redis.url"),
            ("invalid peer certificate: certificate expired: verification", "has expired", "renew it"),
            ("received fatal alert: CertificateRequired", "asks for a certificate", "redis.tls_cert"),
            ("received fatal alert: CertificateExpired", "refuses the certificate", "redis.tls_cert"),
            (
                "Custom { kind: InvalidData, error: AlertReceived(UnknownCA) }",
                "refuses the certificate",
                "redis.tls_key",
            ),
            ("received corrupt message of type InvalidContentType", "speaks no TLS", "TLS port"),
        ] {
            let told = told(error).unwrap();
            assert!(
                told.contains("rediss://cache:6380") && told.contains(what) && told.contains(remedy),
                "{told}"
            );
            assert!(told.ends_with(&format!("({error})")), "{told}");
        }
        assert_eq!(told("connection refused"), None);
    }

    #[test]
    fn a_file_without_a_certificate_or_a_key_is_refused_with_what_is_missing() {
        for pem in ["", "no PEM at all"] {
            assert!(certificates(pem.as_bytes()).unwrap_err().contains("BEGIN CERTIFICATE"), "{pem:?}");
            assert!(private_key(pem.as_bytes()).unwrap_err().contains("no private key"), "{pem:?}");
        }
        let broken = b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        assert!(certificates(broken).unwrap_err().contains("no certificate"));
    }
}
