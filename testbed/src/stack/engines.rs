//! Which servers are used: those of this machine, or another set from a folder of its own.
//!
//! Debian stable has older servers than production may run. A folder made by mmdebstrap holds the newest of them, and they
//! run from it beside the machine's own: each in a mount namespace of its own, which ends with the process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use super::apt::{self, Install};
use super::process::Process;
use super::programs;

/// Set to `latest`, or to a folder: the servers come from there.
pub const ENGINES_ENV: &str = "IM_ENGINES";
/// Packages of the newest set: MySQL 9, RabbitMQ 4, Valkey.
const LATEST: &str = "mysql-server-core,mysql-client-core,rabbitmq-server,valkey-server";
/// Mounts the system's files and `$1` into `$0`, in this namespace only, and executes the program.
const INSIDE: &str = r#"mount --rbind /proc "$0/proc" && mount --rbind /dev "$0/dev" && mkdir -p "$0$1" \
&& mount --bind "$1" "$0$1" && root="$0" && shift && exec chroot "$root" "$@""#;

/// A server's program, and the folder that it is installed in if that is not `/`.
#[derive(Debug, Clone)]
pub(super) struct Program {
    path: PathBuf,
    root: Option<PathBuf>,
}

impl Program {
    /// The first of `names` that is installed.
    pub(super) fn find(names: &[&str]) -> Option<Self> {
        let root = root();
        names.iter().find_map(|name| {
            let mut paths = programs::DEBIAN_FOLDERS.iter().map(|folder| Path::new(folder).join(name));
            let path = match &root {
                None => paths.find(|path| path.is_file()).or_else(|| programs::find(name))?,
                // Links to a place in the folder cannot be followed from outside.
                Some(root) => paths.find(|path| {
                    root.join(path.strip_prefix("/").unwrap_or(path)).symlink_metadata().is_ok()
                })?,
            };
            Some(Self { path, root: root.clone() })
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is installed in a folder of its own.
    pub(super) fn is_inside(&self) -> bool {
        self.root.is_some()
    }

    /// Starts it; of all other folders it sees only `folder`, under the same name. `set_up` as for [`Process::start`].
    pub(super) fn start(
        &self,
        name: &str,
        log: &Path,
        folder: &Path,
        set_up: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Process> {
        let Some(root) = &self.root else { return Process::start(name, &self.path, log, set_up) };
        let unshare = programs::find("unshare").context("unshare is not installed")?;
        Process::start(name, &unshare, log, |command| {
            command.args(["--mount", "sh", "-c", INSIDE]).args([root, folder, &self.path]);
            set_up(command);
        })
    }

    /// A command that runs it, with the same view of the folders as [`start`](Self::start).
    pub(super) fn command(&self, folder: &Path) -> Command {
        let Some(root) = &self.root else { return Command::new(&self.path) };
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", INSIDE]).args([root, folder, &self.path]);
        command
    }
}

/// The folder of the set that is used; `None` for this machine's own.
fn root() -> Option<PathBuf> {
    let set = std::env::var_os(ENGINES_ENV).filter(|set| !set.is_empty())?;
    Some(if set == "latest" { cache() } else { PathBuf::from(set) })
}

fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("im-engines/latest")
}

/// Makes sure that the chosen set is there. Returns whether one was chosen.
///
/// # Errors
/// Names what is missing.
pub(super) async fn require(install: Install) -> anyhow::Result<bool> {
    let Some(root) = root() else { return Ok(false) };
    if !root.is_dir() {
        anyhow::ensure!(root == cache(), "{ENGINES_ENV}: there is no folder {}", root.display());
        build(&root, install).await?;
    }
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "{ENGINES_ENV}: only root may run servers from a folder"
    );
    Ok(true)
}

/// Takes about half a minute and 650 MB.
async fn build(root: &Path, install: Install) -> anyhow::Result<()> {
    if programs::find("mmdebstrap").is_none() {
        anyhow::ensure!(
            install == Install::Allowed,
            "{ENGINES_ENV}: install mmdebstrap first, or give --install"
        );
        apt::install(&["mmdebstrap"], "missing: mmdebstrap").await?;
    }
    eprintln!("making a folder with the newest servers: {}", root.display());
    // Renamed when it is complete: an interrupted build must not be taken for a finished one.
    let unfinished = root.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    std::fs::create_dir_all(&unfinished)?;
    let made = tokio::process::Command::new("mmdebstrap")
        .args(["--variant=minbase", "--mode=root", "--aptopt=Acquire::Check-Valid-Until \"false\""])
        .arg(format!("--include={LATEST}"))
        .arg("unstable")
        .arg(&unfinished)
        .stdin(Stdio::null())
        .status()
        .await?;
    anyhow::ensure!(made.success(), "mmdebstrap failed ({made})");
    std::fs::write(unfinished.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    Ok(std::fs::rename(&unfinished, root)?)
}
