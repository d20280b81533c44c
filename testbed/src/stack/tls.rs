//! TLS of private servers.

use std::path::PathBuf;

/// An authority and a certificate, as files in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate of the authority.
    pub ca: PathBuf,
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// How a server uses TLS.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// Its certificate, and the authority of those of clients.
    pub files: TlsFiles,
    /// Clients must have a certificate. MySQL asks those of its users of whom it requires one.
    pub asks_clients: bool,
}

impl ServerTls {
    /// The three files with these names for a configuration: authority, certificate, key.
    pub(super) fn named<'n>(&self, names: [&'n str; 3]) -> [(&'n str, String); 3] {
        let TlsFiles { ca, cert, key } = &self.files;
        let [ca, cert, key] = [ca, cert, key].map(|file| file.display().to_string());
        [(names[0], ca), (names[1], cert), (names[2], key)]
    }

    /// The lines for a RabbitMQ that listens on `port`.
    pub(super) fn rabbitmq_config(&self, port: u16) -> String {
        let names = ["ssl_options.cacertfile", "ssl_options.certfile", "ssl_options.keyfile"];
        let files = self.named(names).map(|(name, file)| format!("{name} = {file}\n")).concat();
        let asks = self.asks_clients;
        format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.verify = verify_peer\n\
             ssl_options.fail_if_no_peer_cert = {asks}\n{files}"
        )
    }
}
