//! TLS: the one cryptography library of the process, and certificates and keys in PEM.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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
/// There is none, or one is malformed.
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

#[cfg(test)]
mod tests {
    use super::*;

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
