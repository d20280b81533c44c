//! The endpoint of an app, as a test controls it: HTTP by hand, so that it can answer wrongly, late or not at all.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use testbed::certificates::{Authority, Issued};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What is done about one message.
pub(crate) enum Reply {
    /// An answer after a time.
    Json(Duration, Value),
    /// A whole response.
    Raw(String),
    /// No answer, ever.
    Never,
}

/// The schema of a request.
const REQUEST: &str = "openapi.yaml#/components/schemas/HookRequest";

/// Decides about the `data` of a request.
type Decide = Arc<dyn Fn(&Value) -> Reply + Send + Sync>;

#[derive(Default)]
struct Shared {
    decide: Mutex<Option<Decide>>,
    seen: Mutex<Vec<Value>>,
    /// Requests that are not as documented.
    faults: Mutex<Vec<String>>,
}

/// A running endpoint; `None` in `running` while it is dead.
pub(crate) struct Endpoint {
    port: u16,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    running: Option<JoinSet<()>>,
}

impl Endpoint {
    /// An endpoint that allows everything.
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// The same over TLS, with a certificate for 127.0.0.1.
    pub(crate) async fn start_tls(authority: &Authority) -> Self {
        let Issued { cert, key } = authority.issue(&["127.0.0.1"]).unwrap();
        let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .unwrap();
        Self::start_with(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut endpoint = Self { port, tls, shared: Arc::default(), running: None };
        endpoint.serve(listener);
        endpoint
    }

    fn serve(&mut self, listener: TcpListener) {
        let (tls, shared, mut running) = (self.tls.clone(), Arc::clone(&self.shared), JoinSet::new());
        running.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, shared) = (tls.clone(), Arc::clone(&shared));
                connections.spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    match tls {
                        None => connection(stream, &shared).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                connection(stream, &shared).await;
                            }
                        }
                    }
                });
            }
        });
        self.running = Some(running);
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/hook", self.port)
    }

    /// From now on it does this.
    pub(crate) fn set(&self, decide: impl Fn(&Value) -> Reply + Send + Sync + 'static) {
        *self.shared.decide.lock() = Some(Arc::new(decide));
    }

    /// The `data` of all requests so far, which are as documented.
    pub(crate) fn seen(&self) -> Vec<Value> {
        assert_eq!(*self.shared.faults.lock(), [""; 0]);
        self.shared.seen.lock().clone()
    }

    /// Ends all connections, and takes no further ones.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.shutdown().await;
        }
    }

    /// Starts it again at the same address.
    pub(crate) async fn revive(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.serve(listener);
    }
}

/// An answer at once.
pub(crate) fn at_once(answer: Value) -> Reply {
    Reply::Json(Duration::ZERO, answer)
}

pub(crate) fn allow() -> Value {
    json!({"action": "allow"})
}

pub(crate) fn refuse(sentence: &str) -> Value {
    json!({"action": "refuse", "message": sentence})
}

async fn connection(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) {
    while let Some(body) = body(&mut stream).await {
        let mut request: Value = serde_json::from_slice(&body).unwrap();
        let conforms = spec::api().check(REQUEST, &request, spec::Strictness::Closed);
        shared.faults.lock().extend(conforms.err());
        let data = request["data"].take();
        shared.seen.lock().push(data.clone());
        let decide = shared.decide.lock().clone();
        let reply = decide.map_or_else(|| at_once(allow()), |decide| decide(&data));
        let response = match reply {
            Reply::Json(delay, answer) => {
                tokio::time::sleep(delay).await;
                let answer = answer.to_string();
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())
            }
            Reply::Raw(response) => response,
            Reply::Never => std::future::pending().await,
        };
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The body of the next request; `None` at the end of the connection.
async fn body(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let (mut read, mut buffer) = (Vec::new(), vec![0; 16_384]);
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let length: usize = length.parse().unwrap();
            if read.len() >= end + 4 + length {
                return Some(read.split_off(end + 4));
            }
        }
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        read.extend_from_slice(&buffer[..count]);
    }
}
