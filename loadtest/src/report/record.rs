//! Where figures come from: without commit, machine and time nobody can compare them later.

use serde::{Deserialize, Serialize};

/// The machine of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// Processors that this process may use.
    pub cores: usize,
    /// As the kernel names it.
    pub processor: String,
    /// MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
}

/// What stands beside every figure in JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Of this program.
    pub version: String,
    /// Of the working folder, if it is one; with a `+` if files differ from it.
    pub commit: Option<String>,
    /// Where it ran.
    pub machine: Machine,
    /// When it began, in seconds since 1970.
    pub begun_unix_s: u64,
}

impl Record {
    /// Looks around.
    #[must_use]
    pub fn here_and_now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
            machine: Machine::this(),
            begun_unix_s: since.as_secs(),
        }
    }
}

impl Machine {
    fn this() -> Self {
        let field = |file: &str, name: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let memory = field("/proc/meminfo", "MemTotal");
        let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            processor: field("/proc/cpuinfo", "model name"),
            memory_mib: kib / 1024,
            kernel: kernel.trim().to_owned(),
        }
    }
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|files| !files.is_empty());
    Some(if changed { commit + "+" } else { commit })
}
