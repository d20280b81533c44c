//! The certificate of the gateway, which is replaced while it runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use shared::config::ConfigError;
use shared::ids::unix_millis;
use shared::shutdown::Shutdown;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Tls;

/// How often the files are read.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// The contents of both files.
#[derive(PartialEq, Eq)]
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// A pair that fits together.
struct Pair {
    files: Files,
    certified: Arc<CertifiedKey>,
    /// In seconds since 1970.
    expires_s: i64,
}

/// The current certificate with its key.
pub(crate) struct Certificate {
    settings: Tls,
    pair: RwLock<Pair>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate")
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.pair.read().certified))
    }
}

impl Certificate {
    /// Reads both files, if there are any. A certificate that has expired is logged, and used: clients say why they refuse
    /// it.
    ///
    /// # Errors
    /// A file cannot be read or is malformed, or the key is that of another certificate; the message names the setting.
    pub(crate) fn load(settings: &Tls) -> Result<Option<Arc<Self>>, ConfigError> {
        let Some((cert, key)) = settings.files() else { return Ok(None) };
        let pair = Pair::of(Files::read(cert, key)?, settings)?;
        if pair.has_expired() {
            tracing::error!(file = %cert.display(), "The certificate {} has expired; clients refuse it", cert.display());
        }
        pair.report();
        Ok(Some(Arc::new(Self { settings: settings.clone(), pair: RwLock::new(pair) })))
    }

    /// Reads the files again. Returns whether there is a new certificate; if it is unusable, the current one stays.
    ///
    /// # Errors
    /// As [`load`](Self::load), or it has expired.
    fn reload(&self) -> Result<bool, ConfigError> {
        let Some((cert, key)) = self.settings.files() else { return Ok(false) };
        let files = Files::read(cert, key)?;
        if files == self.pair.read().files {
            return Ok(false);
        }
        let pair = Pair::of(files, &self.settings)?;
        if pair.has_expired() {
            return Err(ConfigError::key(
                "tls.cert",
                format!("{}: the certificate has expired", cert.display()),
            ));
        }
        pair.report();
        *self.pair.write() = pair;
        Ok(true)
    }

    /// Reads the files periodically and at SIGHUP until the stop.
    pub(crate) async fn follow_files(self: Arc<Self>, shutdown: Shutdown) {
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(error) => {
                tracing::error!(%error, "SIGHUP cannot be awaited; certificate files are not read again");
                return shutdown.stopping().await;
            }
        };
        let mut failures = Failures::default();
        loop {
            let is_asked = tokio::select! {
                slept = shutdown.sleep(RELOAD_INTERVAL) => match slept {
                    true => false,
                    false => return,
                },
                _ = hangups.recv() => true,
            };
            let this = Arc::clone(&self);
            let Ok(read) = tokio::task::spawn_blocking(move || this.reload()).await else { continue };
            match &read {
                Ok(true) => {
                    tracing::info!("The certificate of the gateway was replaced; new connections use it")
                }
                Ok(false) if failures.are_logged => {
                    tracing::info!("The certificate files are those in use again")
                }
                _ => {}
            }
            if let Some(error) = failures.next(read.err().map(|error| error.to_string()), is_asked) {
                tracing::error!(%error, "The new certificate is unusable, the one before stays in use: {error}");
            }
        }
    }
}

/// Which failures to log: each one once, and not before it is seen twice, since both files are not replaced at one moment.
#[derive(Debug, Default)]
struct Failures {
    last: Option<String>,
    are_logged: bool,
}

impl Failures {
    /// The failure to log after a look at the files, which the operator asked for if `is_asked`.
    fn next(&mut self, failure: Option<String>, is_asked: bool) -> Option<String> {
        let is_same = failure == self.last;
        self.are_logged &= is_same;
        self.last = failure;
        let log = self.last.is_some() && (is_asked || is_same && !self.are_logged);
        self.are_logged |= log;
        self.last.clone().filter(|_| log)
    }
}

impl Files {
    fn read(cert: &Path, key: &Path) -> Result<Self, ConfigError> {
        let read = |name: &str, file: &Path| {
            let failed = |error| ConfigError::key(name, format!("{}: {error}", file.display()));
            std::fs::read(file).map_err(failed)
        };
        Ok(Self { cert: read("tls.cert", cert)?, key: read("tls.key", key)? })
    }
}

impl Pair {
    fn of(files: Files, settings: &Tls) -> Result<Self, ConfigError> {
        let of_cert =
            |why: String| ConfigError::key("tls.cert", format!("{} {why}", settings.cert.display()));
        let of_key = |why: String| ConfigError::key("tls.key", format!("{} {why}", settings.key.display()));
        let chain = shared::tls::certificates(&files.cert).map_err(of_cert)?;
        let key = shared::tls::private_key(&files.key).map_err(of_key)?;
        let first = x509_parser::parse_x509_certificate(&chain[0]);
        let (_, first) = first.map_err(|error| of_cert(format!("is no certificate: {error}")))?;
        let expires_s = first.validity().not_after.timestamp();
        let certified = CertifiedKey::from_der(chain, key, &shared::tls::provider());
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                of_key("is the key of another certificate than tls.cert".to_owned())
            }
            error => of_key(format!("is unusable: {error}")),
        })?;
        Ok(Self { files, certified: Arc::new(certified), expires_s })
    }

    fn has_expired(&self) -> bool {
        self.expires_s.saturating_mul(1_000) <= unix_millis()
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn report(&self) {
        metrics::gauge!(shared::metrics::TLS_EXPIRY).set(self.expires_s as f64);
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate for localhost and its key, in PEM, until the year `expires`.
    fn made(expires: i32) -> (String, String) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(expires, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn write(&self, cert: &str, key: &str) -> Tls {
            let (cert_file, key_file) = (self.0.path().join("cert.pem"), self.0.path().join("key.pem"));
            std::fs::write(&cert_file, cert).unwrap();
            std::fs::write(&key_file, key).unwrap();
            Tls { cert: cert_file, key: key_file }
        }
    }

    #[test]
    fn a_new_pair_replaces_the_one_in_use_unless_it_is_unusable() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let ((first, first_key), (second, second_key), (expired, expired_key)) =
            (made(2090), made(2091), made(2021));
        let settings = folder.write(&first, &first_key);
        let certificate = Certificate::load(&settings).unwrap().unwrap();
        let in_use = || certificate.pair.read().certified.cert[0].clone();
        let initial = in_use();
        assert!(!certificate.reload().unwrap());
        for (cert, key, why) in [
            (second.as_str(), first_key.as_str(), "another certificate"),
            ("", &second_key, "no certificate"),
            (&second, "", "no private key"),
            (&expired, &expired_key, "expired"),
        ] {
            folder.write(cert, key);
            let error = certificate.reload().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert_eq!(in_use(), initial, "{why}");
        }
        std::fs::remove_file(&settings.cert).unwrap();
        assert!(certificate.reload().unwrap_err().to_string().contains("cert.pem"));
        folder.write(&second, &second_key);
        assert!(certificate.reload().unwrap());
        assert_ne!(in_use(), initial);
        let year_s = 31_557_600;
        let until = 1970 + (certificate.pair.read().expires_s + year_s / 2) / year_s;
        assert_eq!(until, 2091);
    }

    #[test]
    fn the_first_pair_must_be_usable() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let refused = |settings: &Tls| Certificate::load(settings).unwrap_err().to_string();
        let (cert, key) = made(2090);
        assert!(refused(&folder.write(&cert, &made(2090).1)).contains("tls.key"));
        assert!(refused(&folder.write(&key, &key)).contains("tls.cert"));
        assert!(Certificate::load(&Tls::default()).unwrap().is_none());
        let half = Tls { cert: "/cert.pem".into(), key: Default::default() };
        assert!(refused(&half).contains("/cert.pem"), "and config names tls.key");
    }

    #[test]
    fn a_failure_is_logged_when_it_is_seen_twice_and_once() {
        let mut failures = Failures::default();
        let failed = |text: &str| Some(text.to_owned());
        assert_eq!(failures.next(failed("half written"), false), None);
        assert_eq!(failures.next(None, false), None);
        assert_eq!(failures.next(failed("a"), false), None);
        assert_eq!(failures.next(failed("a"), false), failed("a"));
        assert_eq!(failures.next(failed("a"), false), None);
        assert_eq!(failures.next(failed("a"), true), failed("a"), "an operator who asks is answered");
        assert_eq!(failures.next(failed("b"), false), None);
        assert_eq!(failures.next(failed("b"), false), failed("b"));
    }
}
