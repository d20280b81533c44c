//! TLS and the PROXY protocol on the port of clients, and TLS to the stores, against real processes.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::signal::Signal;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use testbed::certificates::Authority;
use testbed::client::Client;
use testbed::meter::metric;
use testbed::stack::{
    Builder, MysqlServer, RabbitServer, RedisServer, ServerTls, System, TlsFiles, Urls, wait_for,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A system whose gateway has a certificate for localhost in `folder`.
async fn with_certificate(folder: &Path, builder: Builder) -> (System, Authority, TlsFiles) {
    let authority = Authority::new("clients trust this one").unwrap();
    let files = authority.write(&authority.issue(&["localhost"]).unwrap(), folder).unwrap();
    let builder = builder.gateways(1).workers(1);
    let builder = builder.set("IM__TLS__CERT", files.cert.display()).set("IM__TLS__KEY", files.key.display());
    (builder.for_test().await.unwrap(), authority, files)
}

fn port(system: &mut System) -> u16 {
    system.gateway(0).port()
}

async fn connect(port: u16, authority: &Authority) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

fn certificate(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

async fn socket(port: u16, authority: &Authority) -> Socket {
    let stream = connect(port, authority).await.unwrap();
    client_async(format!("wss://localhost:{port}/ws?user_id=alice"), stream).await.unwrap().0
}

/// Sends a message, and waits until it is answered with code 0.
async fn says(socket: &mut Socket, msg_id: &str, content: &str) {
    let payload = json!({"content": content});
    let frame = json!({"cmd": 2, "msg_id": msg_id, "conversation_id": "group_tls", "payload": payload});
    socket.send(Message::text(frame.to_string())).await.unwrap();
    let answered = async {
        loop {
            let frame = socket.next().await.unwrap().unwrap();
            let Ok(text) = frame.to_text() else { continue };
            let Ok(frame) = serde_json::from_str::<Value>(text) else { continue };
            if frame["cmd"] == 2 && frame["msg_id"] == msg_id {
                return assert_eq!(frame["code"], 0, "{frame}");
            }
        }
    };
    tokio::time::timeout(TIMEOUT, answered).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_use_http_and_websockets_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (mut system, authority, _) = with_certificate(folder.path(), Builder::new()).await;
    let port = port(&mut system);
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    for version in [reqwest::tls::Version::TLS_1_2, reqwest::tls::Version::TLS_1_3] {
        let client = reqwest::Client::builder().tls_certs_only([root.clone()]);
        let client = client.min_tls_version(version).max_tls_version(version).build().unwrap();
        let answer = client.get(format!("https://localhost:{port}/api")).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_11));
    }
    let stream = connect(port, &authority).await.unwrap();
    assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let mut alice = socket(port, &authority).await;
    // Larger than a TLS record and the buffers of a connection.
    for (n, content) in ["hello".to_owned(), "x".repeat(4_000)].iter().enumerate() {
        says(&mut alice, &format!("m{n}"), content).await;
    }
    let stranger = Authority::new("another one").unwrap();
    let error = connect(port, &stranger).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_reaches_its_stores_over_tls_only() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let authority = Authority::new("own").unwrap();
    let files =
        authority.write(&authority.issue(&["127.0.0.1"]).unwrap(), &folder.path().join("tls")).unwrap();
    let tls = || ServerTls { files: files.clone(), asks_clients: true };
    let [mysql, redis, rabbit] = ["mysql", "redis", "rabbit"].map(|name| folder.path().join(name));
    let (mysql, redis, rabbit) = tokio::try_join!(
        MysqlServer::start_with_tls(&mysql, tls()),
        RedisServer::start_with_tls(&redis, tls()),
        RabbitServer::start_with_tls(&rabbit, tls())
    )
    .unwrap();
    mysql.execute("CREATE DATABASE im").await.unwrap();
    mysql.execute("CREATE USER 'im'@'%' REQUIRE X509").await.unwrap();
    mysql.execute("GRANT ALL ON im.* TO 'im'@'%'").await.unwrap();
    let mysql_url = mysql.url().replace("root@", "im@") + "/im";
    let urls = Urls { mysql: mysql_url, redis: redis.tls_url().unwrap(), amqp: rabbit.tls_url().unwrap() };
    let mut builder = Builder::new().gateways(1).workers(1).set("IM__SHARDS__COUNT", 1);
    for section in ["MYSQL", "REDIS", "AMQP"] {
        for (key, file) in [("CA", &files.ca), ("CERT", &files.cert), ("KEY", &files.key)] {
            builder = builder.set(&format!("IM__{section}__TLS_{key}"), file.display());
        }
    }
    let system = builder.on(urls).await.unwrap();
    let mut bob = Client::connect(&system.ws_urls()[0], "bob").await.unwrap();
    let mut alice = Client::connect(&system.ws_urls()[0], "alice").await.unwrap();
    alice.say("private_alice_bob", "m1", "hello").await.unwrap();
    tokio::time::timeout(TIMEOUT, bob.wait_for(|packet| packet.cmd == 5)).await.unwrap().unwrap();
    let page = bob.pull("private_alice_bob", 0, 10).await.unwrap().messages().unwrap();
    assert_eq!(page.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_handshake_is_disconnected() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Builder::new().set("IM__TIMEOUTS__HTTP_HEADER_MS", 500);
    let (mut system, authority, _) = with_certificate(folder.path(), builder).await;
    let port = port(&mut system);
    for sent in ["", "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
        let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        client.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(TIMEOUT, client.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP/"), "{sent:?}");
    }
    let failed = metric(&system.ops_urls()[0], "im_gateway_tls_handshakes_failed_total").await;
    assert!(failed.unwrap() >= 2.0);
    says(&mut socket(port, &authority).await, "m1", "hello").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_without_a_restart_and_an_unusable_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (mut system, authority, files) = with_certificate(folder.path(), Builder::new()).await;
    let (port, ops) = (port(&mut system), system.ops_urls().remove(0));
    let mut alice = socket(port, &authority).await;
    let first = certificate(&connect(port, &authority).await.unwrap());
    let expiry = async || metric(&ops, "im_tls_certificate_expiry_timestamp_seconds").await.unwrap();
    let first_expiry = expiry().await;
    assert!(first_expiry > 3.7e9, "{first_expiry}");

    authority.write(&authority.issue_until(&["localhost"], 2089).unwrap(), folder.path()).unwrap();
    wait_for("the new certificate", TIMEOUT, async || {
        anyhow::ensure!(certificate(&connect(port, &authority).await?) != first, "the first one");
        Ok(())
    })
    .await
    .unwrap();
    assert!(expiry().await < first_expiry);
    says(&mut alice, "m1", "an open connection stays").await;

    let second = certificate(&connect(port, &authority).await.unwrap());
    std::fs::write(&files.cert, "no certificate").unwrap();
    system.gateway(0).process().unwrap().signal(Signal::SIGHUP);
    let log = system.gateway(0).log().to_owned();
    wait_for("the error", TIMEOUT, async || {
        let log = std::fs::read_to_string(&log)?;
        anyhow::ensure!(log.contains("new certificate is unusable") && log.contains("cert.pem"), "{log}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(certificate(&connect(port, &authority).await.unwrap()), second);
    says(&mut socket(port, &authority).await, "m2", "it still serves").await;
}

/// Connects from `source`, sends `header`, and requests `/api`. Returns the status; `None` if the connection is closed.
async fn status_of(port: u16, source: &str, header: &[u8]) -> Option<u16> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
    let request = b"GET /api HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    // The gateway may have closed it.
    let _ = stream.write_all(&[header, request].concat()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    answer.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()
}

/// A header of version 2 for a client at 192.0.2.`host`.
fn proxied(host: u8) -> Vec<u8> {
    let ends = [192, 0, 2, host, 127, 0, 0, 1, 0x13, 0x88, 0x1f, 0x90];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".as_slice(), &ends].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_load_balancer_names_its_clients_by_the_proxy_protocol() {
    let builder = Builder::new()
        .gateways(1)
        .workers(1)
        .set("IM__LISTEN__PROXY_PROTOCOL", true)
        .set("IM__LISTEN__TRUSTED_PROXIES", "127.0.0.1")
        .set("IM__LIMITS__ADDRESS_CALLS_PER_SECOND", 1)
        .set("IM__LIMITS__ADDRESS_CALLS_BURST", 1)
        .set("IM__TIMEOUTS__HTTP_HEADER_MS", 1_000);
    let mut system = builder.for_test().await.unwrap();
    let port = port(&mut system);
    // The limits are those of the address in the header.
    let line = b"PROXY TCP4 192.0.2.3 127.0.0.1 5000 8080\r\n".to_vec();
    for header in [proxied(1), proxied(2), line] {
        let calls = (0..10).map(|_| status_of(port, "127.0.0.1", &header));
        let codes = futures_util::future::join_all(calls).await;
        assert!(codes.contains(&Some(200)) && codes.contains(&Some(429)), "{codes:?}");
    }
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    assert_eq!(status_of(port, "127.0.0.1", local).await, Some(200), "the check of the load balancer");
    assert_eq!(status_of(port, "127.0.0.1", b"").await, None, "no header");
    assert_eq!(status_of(port, "127.0.0.2", &proxied(4)).await, None, "an address that is not trusted");
    let refused = metric(&system.ops_urls()[0], "im_gateway_proxy_headers_refused_total").await.unwrap();
    assert_eq!(refused, 2.0);
}
