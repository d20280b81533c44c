//! Installs packages with apt-get, without starting the servers in them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::programs;

/// Whether missing packages may be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Install {
    /// With apt-get, on Debian or Ubuntu, as root or with a `sudo` that asks for no password.
    Allowed,
    /// Report what is missing.
    No,
}

impl Install {
    /// [`Allowed`](Self::Allowed) where a command has the option `--install`.
    #[must_use]
    pub fn when(allowed: bool) -> Self {
        if allowed { Self::Allowed } else { Self::No }
    }
}

/// Installs `packages` with apt-get. `by_hand` is the error where this user may not do that, or apt-get fails.
///
/// Dropping the future (Ctrl-C) interrupts apt-get, waits for its end, and removes what was changed for its time.
pub(super) async fn install(packages: &[&str], by_hand: &str) -> anyhow::Result<()> {
    let apt_get = programs::find("apt-get");
    let (Some(apt_get), Some(root)) = (apt_get, Root::find()) else { anyhow::bail!("{by_hand}") };
    eprintln!("installing with apt-get: {}", packages.join(" "));
    // Before the commands, so that it is dropped after them.
    let _no_starts = NoServerStarts::begin(&root, Path::new(POLICY))?;
    // A failure is no error: the package lists that are there may be good enough.
    let _ = Running::start(&root, root.apt_get(&apt_get).args(["update", "-qq"]))?.wait().await?;
    let install = ["install", "-y", "--no-install-recommends"];
    let status = Running::start(&root, root.apt_get(&apt_get).args(install).args(packages))?.wait().await?;
    anyhow::ensure!(status.success(), "apt-get install failed ({status}). {by_hand}");
    Ok(())
}

/// How a command becomes root's.
#[derive(Debug, Clone)]
enum Root {
    Already,
    Sudo(PathBuf),
}

impl Root {
    /// `None` if this user is not root, and `sudo` is missing or would ask for a password.
    fn find() -> Option<Self> {
        if nix::unistd::geteuid().is_root() {
            return Some(Self::Already);
        }
        let root = Self::Sudo(programs::find("sudo")?);
        let allowed = root.command("true").stdin(Stdio::null()).stderr(Stdio::null()).status();
        allowed.is_ok_and(|status| status.success()).then_some(root)
    }

    fn command(&self, program: &str) -> Command {
        match self {
            Self::Already => Command::new(program),
            Self::Sudo(sudo) => {
                let mut command = Command::new(sudo);
                command.args(["-n", program]);
                command
            }
        }
    }

    fn apt_get(&self, apt_get: &Path) -> Command {
        let mut command = self.command("env");
        command.arg("DEBIAN_FRONTEND=noninteractive").arg(apt_get);
        command
    }

    /// Runs a shell script with arguments, and waits for it.
    fn shell(&self, script: &str, arguments: &[&str]) -> std::io::Result<ExitStatus> {
        self.command("sh").args(["-c", script, "sh"]).args(arguments).stdin(Stdio::null()).status()
    }
}

/// A command of root. Dropped before its end, it is interrupted as by Ctrl-C, and waited for: apt-get ignores that while
/// it must not be interrupted.
struct Running {
    root: Root,
    child: Child,
}

impl Running {
    fn start(root: &Root, command: &mut Command) -> std::io::Result<Self> {
        let child = command.stdin(Stdio::null()).spawn()?;
        Ok(Self { root: root.clone(), child })
    }

    async fn wait(mut self) -> std::io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        eprintln!("interrupting apt-get, and waiting for its end");
        // It may end at this moment.
        let _ = match (&self.root, i32::try_from(self.child.id())) {
            (Root::Already, Ok(id)) => kill(Pid::from_raw(id), Signal::SIGINT).is_ok(),
            // sudo passes it on; a signal of another user is refused.
            _ => self.root.shell(r#"kill -INT "$1""#, &[&self.child.id().to_string()]).is_ok(),
        };
        let _ = self.child.wait();
    }
}

/// Asked by every package whether it may start its server (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// 101: it may not.
const NO_STARTS: &str = "#!/bin/sh\n# Of `loadtest --install`, for the time of an installation.\nexit 101\n";

/// While it exists, packages do not start the servers in them: nobody asked for those on the standard ports.
struct NoServerStarts {
    root: Root,
    /// `None` if the machine has a policy of its own.
    file: Option<String>,
}

impl NoServerStarts {
    fn begin(root: &Root, file: &Path) -> anyhow::Result<Self> {
        // One of ours is of a run that was killed.
        if std::fs::read_to_string(file).map_or(file.exists(), |policy| policy != NO_STARTS) {
            return Ok(Self { root: root.clone(), file: None });
        }
        let name = file.display().to_string();
        // Before the file is written, so that half of it is removed too.
        let policy = Self { root: root.clone(), file: Some(name.clone()) };
        let script = r#"printf %s "$2" >"$1" && chmod 755 "$1""#;
        let status = root.shell(script, &[&name, NO_STARTS])?;
        anyhow::ensure!(status.success(), "writing {name} failed ({status})");
        Ok(policy)
    }
}

impl Drop for NoServerStarts {
    fn drop(&mut self) {
        let Some(file) = &self.file else { return };
        if !self.root.shell(r#"rm -f "$1""#, &[file]).is_ok_and(|status| status.success()) {
            eprintln!("could not remove {file}: remove it, or packages start no servers on this machine");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_policy_exists_during_an_installation_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy-rc.d");
        let policy = NoServerStarts::begin(&Root::Already, &file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), NO_STARTS);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        drop(policy);
        assert!(!file.exists());
    }

    #[test]
    fn a_policy_of_a_killed_run_is_removed_and_one_of_the_machine_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy-rc.d");
        std::fs::write(&file, NO_STARTS).unwrap();
        drop(NoServerStarts::begin(&Root::Already, &file).unwrap());
        assert!(!file.exists());
        std::fs::write(&file, "#!/bin/sh\nexit 0\n").unwrap();
        drop(NoServerStarts::begin(&Root::Already, &file).unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "#!/bin/sh\nexit 0\n");
    }

    #[tokio::test]
    async fn a_dropped_command_is_interrupted_and_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (started, ended) = (folder.path().join("started"), folder.path().join("ended"));
        let script = format!(
            "trap 'sleep 0.1; touch {}; exit' INT; touch {}; while :; do sleep 0.01; done",
            ended.display(),
            started.display()
        );
        let running = Running::start(&Root::Already, Command::new("sh").args(["-c", &script])).unwrap();
        while !started.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(running);
        assert!(ended.exists());
    }
}
