//! Finding programs, and installing the packages that bring them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether missing packages may be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Install {
    /// With apt-get, if this is Debian or Ubuntu and we are root or may `sudo` without a password.
    Allowed,
    /// Say what is missing.
    No,
}

/// Where programs are that are not on everyone's `PATH`.
const MORE_PLACES: [&str; 4] = ["/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/lib/rabbitmq/bin"];

/// Where the programs of a Debian system are.
pub(super) const PLACES: [&str; 4] = ["/usr/lib/rabbitmq/bin", "/usr/sbin", "/usr/bin", "/sbin"];

/// The program's file.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(MORE_PLACES.iter().map(PathBuf::from));
    places.map(|place| place.join(program)).find(|file| file.is_file())
}

/// What the system needs: programs of which one must be there, and the package to install otherwise.
const NEEDED: [(&[&str], &str); 3] = [
    (&["mariadbd", "mysqld"], "mariadb-server"),
    (&["redis-server", "valkey-server"], "redis-server"),
    (&["rabbitmq-server"], "rabbitmq-server"),
];

/// Makes sure that all servers' programs are here.
///
/// # Errors
/// Says exactly what to install.
pub fn require(install: Install) -> anyhow::Result<()> {
    if super::engines::require(install)? {
        return Ok(());
    }
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(programs, _)| programs.iter().all(|p| find(p).is_none()))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!(
        "missing: {0}. Install them (Debian, Ubuntu: apt-get install {0}), or use servers that already run \
         (--mysql-url, --redis-url, --amqp-url), or run everything with Docker: docker compose up --build",
        missing.join(" ")
    );
    if install == Install::No {
        anyhow::bail!("{by_hand}");
    }
    packages(&missing, &by_hand)
}

/// The same, and installs what only faults of clocks need; where nothing may be installed, such a fault says itself what
/// is missing.
///
/// # Errors
/// Says exactly what to install.
pub fn require_for_chaos(install: Install) -> anyhow::Result<()> {
    require(install)?;
    if install == Install::No || libfaketime().is_some() {
        return Ok(());
    }
    packages(&["faketime"], "missing: libfaketime. Install it (Debian, Ubuntu: apt-get install faketime)")
}

/// The library that gives a process a clock of its own.
#[must_use]
pub fn libfaketime() -> Option<PathBuf> {
    std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path()).find_map(|place| {
        let file = place.join("faketime/libfaketimeMT.so.1");
        file.is_file().then_some(file)
    })
}

/// Installs packages with apt-get; `by_hand` is said where that is not possible.
pub(super) fn packages(missing: &[&str], by_hand: &str) -> anyhow::Result<()> {
    let Some(mut apt) = apt_get() else { anyhow::bail!("{by_hand}") };
    eprintln!("installing the packages {} with apt-get", missing.join(" "));
    // The packages would start servers of their own on the standard ports, which nobody asked for.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let keep_quiet = nix::unistd::geteuid().is_root() && !policy.exists();
    if keep_quiet {
        std::fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        std::fs::set_permissions(policy, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let installed = apt_get_update().and_then(|()| {
        let status = apt.args(["install", "-y", "--no-install-recommends"]).args(missing).status()?;
        anyhow::ensure!(status.success(), "apt-get failed ({status}). {by_hand}");
        Ok(())
    });
    if keep_quiet {
        std::fs::remove_file(policy)?;
    }
    installed
}

fn apt_get_update() -> anyhow::Result<()> {
    let Some(mut apt) = apt_get() else { return Ok(()) };
    // Old lists may do; if not, the installation says so.
    let _ = apt.arg("update").stdout(Stdio::null()).status()?;
    Ok(())
}

/// apt-get as root, if that is possible without asking anyone.
fn apt_get() -> Option<Command> {
    let apt = find("apt-get")?;
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new(apt)
    } else {
        let sudo = find("sudo")?;
        let may = Command::new(&sudo)
            .args(["-n", "true"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success());
        let mut command = Command::new(sudo);
        may.then(|| command.args(["-n", "DEBIAN_FRONTEND=noninteractive"]).arg(apt))?;
        command
    };
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    Some(command)
}
