//! The origin of figures: date, commit, machine, options and gateways, without which they cannot be compared later.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The machine of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// Processors that this process may use.
    pub cores: usize,
    /// The kernel's name of the processor.
    pub processor: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
}

/// The origin of figures, beside them in every report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The version of this program.
    pub version: String,
    /// The commit of the sources, if they are beside the program or in the working folder; with a `+` if files differ.
    pub commit: Option<String>,
    /// The machine of the load generator.
    pub machine: Machine,
    /// The start of the run in seconds since 1970.
    pub begun_unix_s: u64,
    /// The same, as a date (UTC).
    #[serde(default)]
    pub date: String,
    /// All options of the command, without secrets and addresses of servers.
    #[serde(default)]
    pub options: Value,
    /// Addresses of the gateways of a running deployment; empty for a system of its own.
    #[serde(default)]
    pub gateways: Vec<String>,
}

impl Record {
    /// The origin of a run that starts now.
    #[must_use]
    pub fn new(options: Value, gateways: &[String]) -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
            machine: Machine::this(),
            begun_unix_s: since.as_secs(),
            date: date(since.as_secs()),
            options,
            gateways: gateways.to_vec(),
        }
    }
}

/// A date as `2026-11-26 20:48:33 UTC`. The calendar follows Howard Hinnant's `civil_from_days`: years begin in March, so
/// that the leap day is the last one.
fn date(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
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

/// The program is usually built inside of its sources; another repository's commit would be wrong.
fn commit() -> Option<String> {
    let program = std::env::current_exe().ok();
    let beside_program = program.as_deref().and_then(Path::parent).and_then(commit_of);
    beside_program.or_else(|| commit_of(&std::env::current_dir().ok()?))
}

fn commit_of(folder: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if !Path::new(&top).join("loadtest/Cargo.toml").is_file() {
        return None;
    }
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|files| !files.is_empty());
    Some(if changed { commit + "+" } else { commit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix_s, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_709_251_200, "2024-03-01 00:00:00 UTC"),
            (1_795_725_713, "2026-11-26 20:41:53 UTC"),
        ] {
            assert_eq!(date(unix_s), expected);
        }
    }
}
