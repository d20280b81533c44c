//! The address at which other processes reach the metrics of this one, and its entry in Redis.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::config::ConfigError;
use crate::redis;
use crate::redis::process_addresses::ProcessAddresses;
use crate::shutdown::Shutdown;

/// How often the entry is renewed.
const INTERVAL: Duration = Duration::from_secs(2);
/// The lifetime of an entry that is not renewed.
const EXPIRY: Duration = Duration::from_secs(6);
/// For the name of the Redis server.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Checks a configured address: empty, a host, or a host and a port.
///
/// # Errors
/// Names `key` and says what to write.
pub fn check(key: &str, address: &str) -> Result<(), ConfigError> {
    if address.is_empty() || with_port(address, 1).is_some() {
        return Ok(());
    }
    let why = format!("{address:?} is no address: write a host, or host:port, without a scheme");
    Err(ConfigError::key(key, why))
}

/// The address to publish: `configured` if it is not empty, with the port of `bound` if it has none.
///
/// Otherwise it is `bound`, the socket that serves the metrics. An unspecified IP address (`0.0.0.0`, `[::]`) is replaced by
/// the one from which this host reaches Redis, since other processes are in that network, too. A loopback address stays:
/// gateways of other hosts find another process there, or none, and say so.
pub async fn address(configured: &str, bound: SocketAddr, redis: &redis::Client) -> String {
    if let Some(address) = with_port(configured, bound.port()) {
        return address;
    }
    let ip = if bound.ip().is_unspecified() { local_ip(redis, bound.is_ipv4()).await } else { bound.ip() };
    SocketAddr::new(ip, bound.port()).to_string()
}

/// Keeps the address of `process` in Redis until the stop, then removes it.
pub async fn keep(addresses: ProcessAddresses, process: String, address: String, stop: Shutdown) {
    loop {
        // A failure is reported by the heartbeat, which is written more often.
        let _ = addresses.publish(&process, &address, EXPIRY).await;
        if !stop.sleep(INTERVAL).await {
            break;
        }
    }
    let _ = addresses.remove(&process).await;
}

/// `host:port` of a host or of a host and a port; `None` if the text is neither.
fn with_port(text: &str, port: u16) -> Option<String> {
    // An IPv6 address without a port has colons, too.
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, port).to_string());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0).then(|| address.to_string());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
        None => (text, port),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (!host.is_empty() && host.chars().all(is_name)).then(|| format!("{host}:{port}"))
}

/// The IP address from which this host reaches Redis; the loopback address if that is not known.
async fn local_ip(redis: &redis::Client, v4: bool) -> IpAddr {
    for (host, port) in redis.servers() {
        let lookup = tokio::net::lookup_host((host, port));
        let Ok(Ok(servers)) = timeout(RESOLVE_TIMEOUT, lookup).await else { continue };
        // A socket that is bound to [::] is reached over IPv4, too.
        for server in servers.filter(|server| !v4 || server.is_ipv4()) {
            if let Ok(ip) = source_ip(server).await {
                return ip;
            }
        }
    }
    if v4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

/// The source address of packets to `server`. Sends none.
async fn source_ip(server: SocketAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_address_is_a_host_with_or_without_a_port() {
        for (text, address) in [
            ("10.0.0.7", "10.0.0.7:9090"),
            ("10.0.0.7:8080", "10.0.0.7:8080"),
            ("fd00::7", "[fd00::7]:9090"),
            ("[fd00::7]", "[fd00::7]:9090"),
            ("[fd00::7]:8080", "[fd00::7]:8080"),
            ("im-worker_1.internal", "im-worker_1.internal:9090"),
            ("localhost:1", "localhost:1"),
        ] {
            assert_eq!(with_port(text, 9090).as_deref(), Some(address), "{text}");
            assert!(check("ops.advertise", text).is_ok(), "{text}");
        }
        for text in ["http://a:1", "a:", ":80", "a:0", "10.0.0.7:0", "a:70000", "a b", "a/b", "a:1:2", " "] {
            let error = check("ops.advertise", text).unwrap_err().to_string();
            assert!(error.contains("ops.advertise") && error.contains("host:port"), "{error}");
        }
        assert!(check("ops.advertise", "").is_ok());
    }

    #[tokio::test]
    async fn the_source_address_towards_the_own_host_is_the_loopback_address() {
        let ip = source_ip(SocketAddr::from(([127, 0, 0, 1], 6379))).await.unwrap();
        assert_eq!(ip, Ipv4Addr::LOCALHOST);
    }
}
