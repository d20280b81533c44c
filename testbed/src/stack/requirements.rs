//! Checks that the servers are installed, and installs them if allowed.

use super::apt::{self, Install};
use super::engines;
use super::programs::{self, libfaketime};

/// What the system needs, one a line: a Debian package, and the programs of which one must be there. `deploy/prepare.sh` reads
/// the same file.
const REQUIRED: &str = include_str!("../../../deploy/servers.txt");

/// The packages of which no program `is_there`.
fn missing(is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let packages = REQUIRED.lines().filter_map(|line| line.split_once(' '));
    packages.filter(|(_, programs)| !programs.split(' ').any(&is_there)).map(|(package, _)| package).collect()
}

/// Makes sure that all servers are installed.
///
/// # Errors
/// Names what to install.
pub async fn require(install: Install) -> anyhow::Result<()> {
    if Box::pin(engines::require(install)).await? {
        return Ok(());
    }
    let missing = missing(|program| programs::find(program).is_some());
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!(
        "missing: {0}. Install them (Debian, Ubuntu: apt-get install {0}), or use running servers (--mysql-url, \
         --redis-url, --amqp-url), or run everything with Docker: docker compose up --build",
        missing.join(" ")
    );
    anyhow::ensure!(install == Install::Allowed, "{by_hand}");
    Box::pin(apt::install(&missing, &by_hand)).await
}

/// As [`require`], and installs libfaketime, if allowed. Where it is missing, only the faults of clocks fail.
///
/// # Errors
/// Names what to install.
pub async fn require_for_chaos(install: Install) -> anyhow::Result<()> {
    require(install).await?;
    if install == Install::No || libfaketime().is_some() {
        return Ok(());
    }
    let by_hand = "missing: libfaketime. Install it (Debian, Ubuntu: apt-get install faketime)";
    Box::pin(apt::install(&["faketime"], by_hand)).await
}

/// As [`require_for_chaos`], with what clusters of MariaDB and Redis need.
///
/// # Errors
/// Names what to install.
pub async fn require_for_clusters(install: Install) -> anyhow::Result<()> {
    require_for_chaos(install).await?;
    const GALERA: &str = "/usr/lib/galera/libgalera_smm.so";
    let mut missing: Vec<&str> = [
        ("haproxy", "haproxy"),
        ("mariadb-backup", "mariadb-backup"),
        ("socat", "socat"),
        ("redis-cli", "redis-tools"),
    ]
    .iter()
    .filter(|(name, _)| programs::find(name).is_none())
    .map(|(_, package)| *package)
    .collect();
    if !std::path::Path::new(GALERA).is_file() {
        missing.push("galera-4");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand =
        format!("missing for clusters: {0} (Debian, Ubuntu: apt-get install {0})", missing.join(" "));
    anyhow::ensure!(install == Install::Allowed, "{by_hand}");
    Box::pin(apt::install(&missing, &by_hand)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_missing_if_none_of_its_programs_is_there() {
        assert_eq!(missing(|_| false), ["mariadb-server", "redis-server", "rabbitmq-server"]);
        assert_eq!(missing(|program| ["mysqld", "valkey-server"].contains(&program)), ["rabbitmq-server"]);
        assert_eq!(missing(|_| true), [""; 0]);
    }
}
