//! Checks that the servers are installed, and installs them if allowed.

use super::apt::{self, Install};
use super::engines;
use super::programs::{self, libfaketime};

/// What the system needs: alternative programs, and the package to install if there is none of them.
const REQUIRED: [(&[&str], &str); 3] = [
    (&["mariadbd", "mysqld"], "mariadb-server"),
    (&["redis-server", "valkey-server"], "redis-server"),
    (&["rabbitmq-server"], "rabbitmq-server"),
];

/// Makes sure that all servers are installed.
///
/// # Errors
/// Names what to install.
pub async fn require(install: Install) -> anyhow::Result<()> {
    if Box::pin(engines::require(install)).await? {
        return Ok(());
    }
    let missing: Vec<_> = REQUIRED
        .iter()
        .filter(|(names, _)| names.iter().all(|name| programs::find(name).is_none()))
        .map(|(_, package)| *package)
        .collect();
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
