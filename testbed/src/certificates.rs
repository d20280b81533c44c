//! Certificates that tests make on the fly.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::stack::TlsFiles;

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, in PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub cert: String,
    /// Its key, in PKCS #8.
    pub key: String,
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// The library's.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2090, 1, 1);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Its own certificate in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate of a server and client with these names or IP addresses, until the year 2090.
    ///
    /// # Errors
    /// The library's.
    pub fn issue(&self, names: &[&str]) -> anyhow::Result<Issued> {
        self.issue_until(names, 2090)
    }

    /// As [`issue`](Self::issue), until the first day of `year`.
    ///
    /// # Errors
    /// The library's.
    pub fn issue_until(&self, names: &[&str], year: i32) -> anyhow::Result<Issued> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "im");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { cert, key: key.serialize_pem() })
    }

    /// Writes its own certificate, and `issued`, into `folder`.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, issued: &Issued, folder: &Path) -> anyhow::Result<TlsFiles> {
        std::fs::create_dir_all(folder)?;
        let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| folder.join(name));
        for (file, text) in [(&ca, self.pem.as_str()), (&cert, &issued.cert), (&key, &issued.key)] {
            // Renamed, so that a reader sees no half of it.
            let unfinished = file.with_extension("unfinished");
            std::fs::write(&unfinished, text)?;
            std::fs::rename(&unfinished, file)?;
        }
        Ok(TlsFiles { ca, cert, key })
    }
}
