//! TLS to MySQL, Redis and RabbitMQ, with real servers: what is trusted, and what a refusal says.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::path::Path;
use std::time::Duration;

use shared::amqp::{Broker, Topology};
use shared::config::{Amqp, Mysql, Redis};
use shared::health::Health;
use shared::mysql::{self, Ping};
use shared::redis;
use shared::shard::ShardLayout;
use testbed::certificates::Authority;
use testbed::stack::{MysqlServer, RabbitServer, RedisServer, ServerTls, TlsFiles};

/// Certificates of a server, and of this process.
struct Certificates {
    folder: tempfile::TempDir,
    authority: Authority,
    /// Of the server at 127.0.0.1.
    server: TlsFiles,
    /// Of this process.
    own: TlsFiles,
    /// Those of an authority that the server does not trust.
    strange: TlsFiles,
}

impl Certificates {
    fn new() -> Self {
        shared::tls::init();
        let folder = tempfile::tempdir().unwrap();
        let (authority, stranger) = (Authority::new("own").unwrap(), Authority::new("strange").unwrap());
        let write = |authority: &Authority, name: &str| {
            let issued = authority.issue(&["127.0.0.1"]).unwrap();
            let files = authority.write(&issued, &folder.path().join(name)).unwrap();
            readable(&folder.path().join(name));
            files
        };
        let (server, own, strange) =
            (write(&authority, "server"), write(&authority, "own"), write(&stranger, "strange"));
        readable(folder.path());
        Self { folder, authority, server, own, strange }
    }

    fn of_server(&self) -> ServerTls {
        ServerTls { files: self.server.clone(), asks_clients: true }
    }

    /// The certificate of the server, after its next start, is one that expired in 2021.
    fn expire(&self) {
        let expired = self.authority.issue_until(&["127.0.0.1"], 2021).unwrap();
        self.authority.write(&expired, &self.folder.path().join("server")).unwrap();
    }
}

/// Some servers run as a user of their own.
fn readable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Which files a client has, and what the refusal says; no word if it is not refused.
fn cases(
    certificates: &Certificates,
) -> [(Option<&TlsFiles>, Option<&TlsFiles>, &'static [&'static str]); 2] {
    let Certificates { own, strange, .. } = certificates;
    [
        (Some(own), Some(own), &[]),
        (Some(strange), Some(own), &["signed by an authority that is not trusted", "tls_ca"]),
    ]
}

fn check(result: Result<(), String>, words: &[&str], url: &str) {
    match result {
        Ok(()) => assert!(words.is_empty(), "{url}: it was not refused: {words:?}"),
        Err(refusal) => {
            assert!(!words.is_empty() && words.iter().all(|word| refusal.contains(word)), "{url}: {refusal}");
            assert!(!refusal.contains("guest:guest"), "{refusal}");
        }
    }
}

/// The address with a name that the certificate has not.
fn by_name(url: &str) -> String {
    url.replace("127.0.0.1", "localhost")
}

const OTHER_NAME: &[&str] = &["certificate is for another name", ".url"];
const EXPIRED: &[&str] = &["certificate has expired", "renew"];

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_reached_over_tls_and_a_wrong_certificate_is_refused_with_the_reason() {
    let certificates = Certificates::new();
    let folder = certificates.folder.path().join("redis");
    let mut server = RedisServer::start_with_tls(&folder, certificates.of_server()).await.unwrap();
    let url = server.tls_url().unwrap();
    let connect = async |url: &str, ca: Option<&TlsFiles>, identity: Option<&TlsFiles>| {
        let file = |file: Option<&std::path::PathBuf>| file.cloned().unwrap_or_default();
        let settings = Redis {
            url: url.into(),
            tls_ca: file(ca.map(|files| &files.ca)),
            tls_cert: file(identity.map(|files| &files.cert)),
            tls_key: file(identity.map(|files| &files.key)),
            ..Redis::default()
        };
        let connected = redis::connect(&settings, Duration::from_secs(3)).await;
        connected.map(drop).map_err(|error| error.to_string())
    };
    for (ca, identity, words) in cases(&certificates) {
        check(connect(&url, ca, identity).await, words, &url);
    }
    let own = Some(&certificates.own);
    check(connect(&by_name(&url), own, own).await, OTHER_NAME, &url);
    check(connect(&url, own, None).await, &["asks for a certificate", "redis.tls_cert"], &url);
    check(
        connect(&url, own, Some(&certificates.strange)).await,
        &["refuses the certificate", "redis.tls_key"],
        &url,
    );
    server.kill();
    certificates.expire();
    server.start_again().await.unwrap();
    check(connect(&url, own, own).await, EXPIRED, &url);
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_is_reached_over_tls_and_a_wrong_certificate_is_refused_with_the_reason() {
    let certificates = Certificates::new();
    let folder = certificates.folder.path().join("mysql");
    let mut server = MysqlServer::start_with_tls(&folder, certificates.of_server()).await.unwrap();
    server.execute("CREATE DATABASE im").await.unwrap();
    // It logs in with its certificate only.
    server.execute("CREATE USER 'im'@'%' REQUIRE X509").await.unwrap();
    server.execute("GRANT ALL ON im.* TO 'im'@'%'").await.unwrap();
    let url = server.url().replace("root@", "im@") + "/im";
    let connect = async |url: &str, ca: Option<&TlsFiles>, identity: Option<&TlsFiles>| {
        let file = |file: Option<&std::path::PathBuf>| file.cloned().unwrap_or_default();
        let settings = Mysql {
            url: url.into(),
            tls_ca: file(ca.map(|files| &files.ca)),
            tls_cert: file(identity.map(|files| &files.cert)),
            tls_key: file(identity.map(|files| &files.key)),
            ..Mysql::default()
        };
        let pool = mysql::connect(&settings, Ping::Never, Duration::from_secs(3)).await;
        let pool = pool.map_err(|error| error.to_string())?;
        let cipher: (String, String) =
            sqlx::query_as("SHOW STATUS LIKE 'Ssl_cipher'").fetch_one(pool.sqlx_pool()).await.unwrap();
        pool.close().await;
        if cipher.1.is_empty() { Err("no TLS".to_owned()) } else { Ok(()) }
    };
    for (ca, identity, words) in cases(&certificates) {
        check(connect(&url, ca, identity).await, words, &url);
    }
    let own = Some(&certificates.own);
    check(connect(&by_name(&url), own, own).await, OTHER_NAME, &url);
    check(connect(&url, own, None).await, &["Access denied"], &url);
    server.kill();
    certificates.expire();
    server.start_again().await.unwrap();
    check(connect(&url, own, own).await, EXPIRED, &url);
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_is_reached_over_tls_and_a_wrong_certificate_is_refused_with_the_reason() {
    let certificates = Certificates::new();
    let folder = certificates.folder.path().join("rabbitmq");
    let mut server = RabbitServer::start_with_tls(&folder, certificates.of_server()).await.unwrap();
    let url = server.tls_url().unwrap();
    let connect = async |url: &str, ca: Option<&TlsFiles>, identity: Option<&TlsFiles>| {
        let file = |file: Option<&std::path::PathBuf>| file.cloned().unwrap_or_default();
        let settings = Amqp {
            url: url.into(),
            tls_ca: file(ca.map(|files| &files.ca)),
            tls_cert: file(identity.map(|files| &files.cert)),
            tls_key: file(identity.map(|files| &files.key)),
            ..Amqp::default()
        };
        let topology = Topology::new("tls", ShardLayout::new(1).unwrap());
        let broker = Broker::new(&settings, topology, "a test", Health::new().check("rabbitmq")).unwrap();
        let connected = broker.wait_until_up(Duration::from_secs(10)).await;
        broker.close().await;
        connected.map_err(|error| error.to_string())
    };
    for (ca, identity, words) in cases(&certificates) {
        check(connect(&url, ca, identity).await, words, &url);
    }
    let own = Some(&certificates.own);
    check(connect(&by_name(&url), own, own).await, OTHER_NAME, &url);
    check(connect(&url, own, None).await, &["asks for a certificate", "amqp.tls_cert"], &url);
    check(
        connect(&url, own, Some(&certificates.strange)).await,
        &["refuses the certificate", "amqp.tls_key"],
        &url,
    );
    let plain = server.url().replace("amqp://", "amqps://");
    check(connect(&plain, own, own).await, &["speaks no TLS", "amqp.url"], &plain);
    server.kill();
    certificates.expire();
    server.start_again().await.unwrap();
    check(connect(&url, own, own).await, EXPIRED, &url);
}
