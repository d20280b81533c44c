use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use shared::ids::unix_millis;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ALLOW: &str = r#"{"action":"allow"}"#;

/// A server that answers each request with the next of some texts, and closes the connection behind the last one.
struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

/// Reads one request with its body; `None` at the end of the connection.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let (mut read, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        read.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.is_none_or(|length| length.parse::<usize>().unwrap() <= body.len()) {
            return Some(text);
        }
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    answers: Arc<Mutex<Vec<String>>>,
    requests: Arc<Mutex<Vec<String>>>,
) {
    while let Some(request) = request(&mut stream).await {
        requests.lock().push(request);
        let answer = {
            let mut answers = answers.lock();
            if answers.is_empty() { return } else { answers.remove(0) }
        };
        if answer.is_empty() {
            // Closed without an answer.
            return;
        }
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

impl Server {
    async fn start(answers: &[String], tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, requests) = (listener.local_addr().unwrap().port(), Arc::default());
        let (answers, seen) = (Arc::new(Mutex::new(answers.to_vec())), Arc::clone(&requests));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answers, seen, tls) = (Arc::clone(&answers), Arc::clone(&seen), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, answers, seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, answers, seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, requests }
    }
}

fn config(url: String) -> config::Hook {
    config::Hook { url, secret: SECRET.into(), ..config::Hook::default() }
}

fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn in_ms(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

/// The outcome of a call that is answered so.
async fn outcome(answers: &[String]) -> (Result<Answer, CallError>, usize) {
    let server = Server::start(answers, None).await;
    let endpoint = Endpoint::new(&config(format!("http://127.0.0.1:{}/", server.port))).unwrap();
    let outcome = endpoint.call(Bytes::from_static(b"{}"), in_ms(2_000)).await;
    let requests = server.requests.lock().len();
    (outcome, requests)
}

#[tokio::test]
async fn a_call_is_a_signed_post() {
    let server = Server::start(&[response("200 OK", ALLOW), response("200 OK", ALLOW)], None).await;
    let url = format!("http://127.0.0.1:{}/hook?a=1", server.port);
    let endpoint = Endpoint::new(&config(url)).unwrap();
    let body = Bytes::from_static(b"{\"a\":1}");
    for _ in 0..2 {
        assert!(matches!(endpoint.call(body.clone(), in_ms(2_000)).await, Ok(Answer::Allow)));
    }
    let requests = server.requests.lock().clone();
    let mut ids = Vec::new();
    for request in &requests {
        let (head, sent) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /hook?a=1 HTTP/1.1\r\n"), "{head}");
        let header = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("{name} in {head}"))
        };
        assert_eq!((sent.as_bytes(), header("content-type")), (&body[..], "application/json"));
        let timestamp: i64 = header("webhook-timestamp").parse().unwrap();
        assert!((unix_millis() / 1_000 - timestamp).abs() < 60);
        let expected = SigningKey::parse(SECRET).unwrap().header(header("webhook-id"), timestamp, &body);
        assert_eq!(header("webhook-signature"), expected);
        ids.push(header("webhook-id"));
    }
    assert_ne!(ids[0], ids[1], "a decision that is remembered by the id is about one call");
}

#[tokio::test]
async fn answers_are_read_and_everything_else_is_a_failure() {
    let ok = |body: &str| response("200 OK", body);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{ALLOW}\r\n0\r\n\r\n",
        ALLOW.len()
    );
    assert!(matches!(outcome(&[chunked]).await.0, Ok(Answer::Allow)));
    let refused = outcome(&[ok(r#"{"action":"refuse","message":"no"}"#)]).await.0;
    assert!(matches!(refused, Ok(Answer::Refuse(why)) if why == "no"));
    assert!(matches!(outcome(&[ok(r#"{"action":"replace"}"#)]).await.0, Ok(Answer::Replace(_))));

    let huge = "x".repeat(ANSWER_BYTES_MAX + 1);
    let endless =
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{huge}\r\n", huge.len());
    let redirect = "HTTP/1.1 307 Temporary Redirect\r\nlocation: /\r\ncontent-length: 0\r\n\r\n".to_owned();
    for (answer, expected) in [
        (ok("allow"), "malformed"),
        (ok(""), "malformed"),
        (ok(&huge), "malformed"),
        (endless, "malformed"),
        (response("204 No Content", ""), "status"),
        (response("201 Created", ALLOW), "status"),
        (response("500 Internal Server Error", ALLOW), "status"),
        (response("401 Unauthorized", ALLOW), "status"),
        (redirect, "status"),
        ("no http\r\n\r\n".to_owned(), "unreachable"),
        (format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{ALLOW}"), "timeout"),
        ("HTTP/1.1 200 OK\r\n".to_owned(), "timeout"),
    ] {
        let (result, requests) = outcome(&[answer.clone(), answer.clone()]).await;
        let error = result.expect_err(&answer);
        assert_eq!(error.outcome(), expected, "{answer}: {error}");
        let attempts = if expected == "unreachable" { 2 } else { 1 };
        assert_eq!(requests, attempts, "a redirect is not followed: {answer}");
    }
}

#[tokio::test]
async fn a_connection_that_the_endpoint_closes_is_replaced_once() {
    let allowed = response("200 OK", ALLOW);
    let (answer, requests) = outcome(&[String::new(), allowed.clone()]).await;
    assert!(matches!(answer, Ok(Answer::Allow)), "{answer:?}");
    assert_eq!(requests, 2);
    let (answer, requests) = outcome(&[String::new(), String::new(), allowed]).await;
    assert_eq!((answer.unwrap_err().outcome(), requests), ("unreachable", 2));
}

#[tokio::test]
async fn a_dead_endpoint_is_unreachable_and_a_silent_one_takes_no_longer_than_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let endpoint = Endpoint::new(&config(url)).unwrap();
    // The kernel accepts the connection; nobody answers.
    let begin = Instant::now();
    let error = endpoint.call(Bytes::new(), in_ms(200)).await.unwrap_err();
    assert_eq!(error.outcome(), "timeout");
    assert!((200..1_000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    drop(listener);
    let error = endpoint.call(Bytes::new(), in_ms(2_000)).await.unwrap_err();
    assert_eq!(error.outcome(), "unreachable");
    assert!(error.to_string().contains("refused") && !error.to_string().contains("http://"), "{error}");
}

/// A certificate authority in a file of `folder`, and a server with its certificate for 127.0.0.1.
fn authority(folder: &Path) -> TlsAcceptor {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    std::fs::write(folder.join("ca.pem"), ca).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let cert = params.signed_by(&own, &issuer).unwrap();
    let cert = CertificateDer::from_pem_slice(cert.pem().as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(own.serialize_pem().as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(shared::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn an_endpoint_with_a_certificate_of_an_own_authority_is_trusted_if_that_is_named() {
    shared::tls::init();
    let folder = tempfile::tempdir().unwrap();
    let tls = authority(folder.path());
    let server = Server::start(&[response("200 OK", ALLOW)], Some(tls)).await;
    let plain = config(format!("https://127.0.0.1:{}/", server.port));
    let trusting = config::Hook { tls_ca: folder.path().join("ca.pem"), ..plain.clone() };
    let endpoint = Endpoint::new(&plain).unwrap();
    let error = endpoint.call(Bytes::new(), in_ms(2_000)).await.unwrap_err();
    assert_eq!(error.outcome(), "unreachable");
    assert!(error.to_string().contains("certificate"), "{error}");
    let endpoint = Endpoint::new(&trusting).unwrap();
    assert!(matches!(endpoint.call(Bytes::new(), in_ms(2_000)).await, Ok(Answer::Allow)));
}
