//! Free ports on loopback.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use parking_lot::Mutex;

/// Where the first gateway listens if nothing else is asked for.
pub const DEFAULT_PORT: u16 = 8081;

/// Below the ports that Linux gives to outgoing connections (from 32,768 on by default): one of these could take a port
/// before the server that is started with it.
const PORTS: Range<u16> = 10_240..32_768;
/// Ports that are tried.
const ATTEMPTS: usize = 1_000;

/// A free port on loopback. No two calls return the same port, in this process or another, because the first caller may
/// not have bound its port yet. An abstract socket named after the port marks it as taken until the process ends.
///
/// # Errors
/// If there is none.
pub fn free_port() -> io::Result<u16> {
    static GIVEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    for _ in 0..ATTEMPTS {
        let port = rand::random_range(PORTS);
        if let Ok(given) = UnixListener::bind_addr(&name(port)?)
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        {
            GIVEN.lock().push(given);
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// The name of a port that is given, in the kernel's namespace of socket names.
fn name(port: u16) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("im-port-{port}"))
}

/// Ports for `count` gateways: `first` and those after it, or from [`DEFAULT_PORT`] on. Of the default ports, each one that
/// is taken is replaced by a free one.
///
/// # Errors
/// If one of the ports that were asked for is taken, or is above 65535.
pub fn gateway_ports(first: Option<u16>, count: usize) -> anyhow::Result<Vec<u16>> {
    let port = |n: usize| -> anyhow::Result<u16> {
        let port = u16::try_from(usize::from(first.unwrap_or(DEFAULT_PORT)) + n);
        let port = port.map_err(|_| anyhow::anyhow!("there is no port above 65535 for gateway {n}"))?;
        if is_free(port) {
            return Ok(port);
        }
        anyhow::ensure!(
            first.is_none(),
            "port {port}, for gateway {n}, is taken. This shows by which process: ss -ltnp 'sport = :{port}'. Give \
             another --port, or leave it out for any free ports"
        );
        Ok(free_port()?)
    };
    (0..count).map(port).collect()
}

/// Whether nothing listens on `port`, on any address.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_an_error_that_names_it() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = gateway_ports(Some(port), 1).unwrap_err().to_string();
        assert!(error.contains(&format!("port {port}, for gateway 0, is taken")), "{error}");
        drop(taken);
        assert_eq!(gateway_ports(Some(port), 1).unwrap(), [port]);
    }

    #[test]
    fn a_port_is_given_once_and_is_not_free_for_other_processes() {
        let ports: std::collections::BTreeSet<u16> = (0..100).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 100);
        for port in ports {
            // As another process would.
            assert!(
                UnixListener::bind_addr(&name(port).unwrap()).is_err() && PORTS.contains(&port),
                "{port}"
            );
        }
    }

    #[test]
    fn ports_end_at_65535() {
        let error = gateway_ports(Some(u16::MAX), 2).unwrap_err().to_string();
        assert!(error.contains("above 65535") || error.contains("port 65535"), "{error}");
    }

    #[test]
    fn a_taken_default_port_is_replaced() {
        // Another process may have it already.
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, DEFAULT_PORT));
        let ports = gateway_ports(None, 1).unwrap();
        assert_ne!(ports, [DEFAULT_PORT]);
        assert!(is_free(ports[0]));
    }
}
