//! `gateway health` and `worker health`: the health check of a container by the binary itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::timeout;

use crate::config::ConfigError;
use crate::ops_client;

/// Bytes of an answer that are shown.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Ask the process that runs with the same configuration on this host whether it is ready. Prints one line; exit code 0 if
/// it is, 1 if it is not, cannot be asked, or does not answer in time.
#[derive(Debug, Clone, Args)]
pub struct HealthCommand {
    /// Ask only whether the process is alive (/healthz), although a store may be unavailable.
    #[arg(long)]
    live: bool,
    /// The longest wait for the answer.
    #[arg(long, value_name = "MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    timeout_ms: u64,
}

impl HealthCommand {
    /// Asks the process at `ops_address`, prints the line, and returns the exit code.
    pub async fn run(self, program: &str, ops_address: Result<SocketAddr, ConfigError>) -> ExitCode {
        let asked = match ops_address {
            Ok(address) => self.ask(address).await,
            Err(error) => Err(error.to_string()),
        };
        match asked {
            Ok(answer) => {
                println!("{program}: {answer}");
                ExitCode::SUCCESS
            }
            Err(reason) => {
                eprintln!("{program}: {reason}");
                ExitCode::FAILURE
            }
        }
    }

    /// The answer of a process that is healthy, or the reason, each on one line.
    async fn ask(&self, configured: SocketAddr) -> Result<String, String> {
        let address = reachable(configured)?;
        let path = if self.live { "/healthz" } else { "/readyz" };
        let add = |text: &mut Vec<u8>, data: &[u8]| {
            text.extend_from_slice(&data[..data.len().min(ANSWER_BYTES_MAX - text.len())]);
            Ok(())
        };
        let target = address.to_string();
        let asked =
            timeout(Duration::from_millis(self.timeout_ms), ops_client::get(&target, path, add)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {} ms", self.timeout_ms)));
        let (status, text) = asked.map_err(|error| format!("ops.address {address}: {error}"))?;
        let line = text.trim().replace('\n', "; ");
        match status {
            200 => Ok(line),
            503 => Err(format!("not ready: {line}")),
            _ => Err(format!("ops.address {address}: another program answers there, with status {status}")),
        }
    }
}

/// The address at which this host reaches a listener.
fn reachable(address: SocketAddr) -> Result<SocketAddr, String> {
    if address.port() == 0 {
        return Err("ops.address has port 0, so that the port is not known: set one".to_owned());
    }
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use warp::http::StatusCode;
    use warp::{Filter as _, Reply as _};

    use super::*;
    use crate::ops_listener;
    use crate::shutdown::Shutdown;

    const READY: HealthCommand = HealthCommand { live: false, timeout_ms: 5_000 };

    #[tokio::test]
    async fn the_answer_decides() {
        let stop = Shutdown::new();
        let unavailable = |text: &'static str| {
            move || warp::reply::with_status(text, StatusCode::SERVICE_UNAVAILABLE).into_response()
        };
        let ready = warp::path!("readyz").map(unavailable("mysql: gone\nredis: not connected\n"));
        let alive = warp::path!("healthz").map(|| "ok\n".into_response());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = ops_listener::start(any, ready.or(alive).unify().boxed(), &stop).unwrap();
        let reason = READY.ask(address).await.unwrap_err();
        assert_eq!(reason, "not ready: mysql: gone; redis: not connected");
        let live = HealthCommand { live: true, ..READY };
        assert_eq!(live.ask(address).await.unwrap(), "ok");
        assert_eq!(format!("{:?}", live.run("test", Ok(address)).await), format!("{:?}", ExitCode::SUCCESS));
        stop.finish(Duration::from_secs(5)).await;
        assert!(READY.ask(address).await.unwrap_err().contains("cannot connect"));
    }

    #[tokio::test]
    async fn a_process_that_does_not_answer_is_not_healthy() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let command = HealthCommand { live: true, timeout_ms: 50 };
        let reason = command.ask(silent.local_addr().unwrap()).await.unwrap_err();
        assert!(reason.contains("no answer within 50 ms"), "{reason}");
        let error = Err(ConfigError::key("ops.address", "is malformed"));
        assert_eq!(format!("{:?}", READY.run("test", error).await), format!("{:?}", ExitCode::FAILURE));
    }

    #[test]
    fn an_unspecified_address_is_asked_on_the_loopback() {
        let asked = |text: &str| reachable(text.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(asked("0.0.0.0:9091").unwrap(), "127.0.0.1:9091");
        assert_eq!(asked("[::]:9091").unwrap(), "[::1]:9091");
        assert_eq!(asked("10.0.0.7:9091").unwrap(), "10.0.0.7:9091");
        assert!(asked("127.0.0.1:0").unwrap_err().contains("port 0"));
    }
}
