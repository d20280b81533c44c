//! The keys `tls_ca`, `tls_cert` and `tls_key` of each store.

use std::fmt::Display;
use std::path::Path;

use super::load::ConfigError;

/// A certificate with its intermediate ones, and its key, both in PEM.
type Identity = (Vec<u8>, Vec<u8>);

/// The files of TLS to one store.
#[derive(Debug, Clone, Copy)]
pub struct StoreTls<'a> {
    /// The section of the store: `mysql`.
    pub section: &'static str,
    /// Its `tls_ca`.
    pub ca: &'a Path,
    /// Its `tls_cert`.
    pub cert: &'a Path,
    /// Its `tls_key`.
    pub key: &'a Path,
}

impl<'a> StoreTls<'a> {
    /// Whether any of the files is given.
    #[must_use]
    pub fn is_set(&self) -> bool {
        [self.ca, self.cert, self.key].iter().any(|file| !file.as_os_str().is_empty())
    }

    /// The file of the store's authorities.
    #[must_use]
    pub fn ca_file(&self) -> Option<&'a Path> {
        (!self.ca.as_os_str().is_empty()).then_some(self.ca)
    }

    /// The files of the process's own certificate and its key.
    #[must_use]
    pub fn identity_files(&self) -> Option<(&'a Path, &'a Path)> {
        (!self.cert.as_os_str().is_empty()).then_some((self.cert, self.key))
    }

    /// The contents of [`ca_file`](Self::ca_file).
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn ca(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        self.ca_file().map(|file| self.read("tls_ca", file)).transpose()
    }

    /// The contents of [`identity_files`](Self::identity_files).
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn identity(&self) -> Result<Option<Identity>, ConfigError> {
        let Some((cert, key)) = self.identity_files() else { return Ok(None) };
        Ok(Some((self.read("tls_cert", cert)?, self.read("tls_key", key)?)))
    }

    /// The error of the key `name` of the section.
    #[must_use]
    pub fn unusable(&self, name: &str, why: impl Display) -> ConfigError {
        ConfigError::key(&format!("{}.{name}", self.section), why)
    }

    /// Checks that the files can be read, that a certificate has its key, and that the address uses TLS (`uses_tls`;
    /// `otherwise` says what to write).
    ///
    /// # Errors
    /// Names the key.
    pub(super) fn check(&self, uses_tls: bool, otherwise: &str) -> Result<(), ConfigError> {
        if !self.is_set() {
            return Ok(());
        }
        if !uses_tls {
            let why = format!("{otherwise}, since {}.tls_… is set", self.section);
            return Err(self.unusable("url", why));
        }
        match (self.cert.as_os_str().is_empty(), self.key.as_os_str().is_empty()) {
            (false, true) => return Err(self.unusable("tls_key", "is missing: it belongs to tls_cert")),
            (true, false) => return Err(self.unusable("tls_cert", "is missing: it belongs to tls_key")),
            _ => {}
        }
        self.ca()?;
        self.identity()?;
        Ok(())
    }

    fn read(&self, name: &str, file: &Path) -> Result<Vec<u8>, ConfigError> {
        std::fs::read(file).map_err(|error| self.unusable(name, format!("{}: {error}", file.display())))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Amqp, Mysql, Redis};

    #[test]
    fn files_need_an_address_with_tls_and_a_certificate_its_key() {
        let file = std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        let redis = |url: &str, key: &std::path::Path| Redis {
            url: url.into(),
            tls_cert: file.clone(),
            tls_key: key.to_owned(),
            ..Redis::default()
        };
        assert!(redis("rediss://h:1", &file).check().is_ok());
        assert!(redis("rediss-cluster://h:1", &file).check().is_ok());
        let refused = |result: Result<(), super::ConfigError>| result.unwrap_err().to_string();
        assert!(refused(redis("redis://h:1", &file).check()).contains("redis.url: has no TLS"));
        assert!(refused(redis("rediss://h:1", "".as_ref()).check()).contains("redis.tls_key: is missing"));
        assert!(
            refused(redis("rediss://h:1", "/nowhere".as_ref()).check()).contains("redis.tls_key: /nowhere")
        );
        let mysql = |url: &str| Mysql { url: url.into(), tls_ca: file.clone(), ..Mysql::default() };
        for url in
            ["mysql://h/im", "mysql://h/im?ssl-mode=VERIFY_CA", "mysql://h/im?ssl-mode=verify_identity"]
        {
            assert!(mysql(url).check().is_ok(), "{url}");
        }
        assert!(
            refused(mysql("mysql://h/im?ssl-mode=REQUIRED").check()).contains("mysql.url: has an ssl-mode")
        );
        let amqp = Amqp { tls_ca: file.clone(), ..Amqp::default() };
        assert!(refused(amqp.check()).contains("write amqps://"));
        assert!(Amqp::default().check().is_ok() && Mysql::default().check().is_ok());
    }
}
