//! Child processes that end with their owner.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Dead;
use super::programs;

/// Lines of a log that are shown when its process failed.
const TAIL_LINES: usize = 30;
/// Bytes of a log that are read for its last lines.
const TAIL_BYTES: u64 = 64 * 1024;

/// A running program in a process group of its own, with its output in a file. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; `set_up` adds arguments and environment. Its output is appended to `log`.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(
        name: &str,
        program: &Path,
        log: &Path,
        set_up: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Self> {
        let output =
            File::options().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
        // The kernel kills it with its parent: a parent that is killed cannot clean up.
        let mut command = match programs::find("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        set_up(&mut command);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child = spawn(command).with_context(|| format!("starting {name}: {}", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// As given at the start.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `Some` if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// An error with the end of the log if it has ended.
    ///
    /// # Errors
    /// See above.
    pub fn must_run(&mut self) -> anyhow::Result<()> {
        match self.ended() {
            None => Ok(()),
            Some(status) => {
                let (name, log) = (&self.name, self.log.display());
                let tail = self.tail(TAIL_LINES);
                Err(Dead(format!("{name} ended ({status}); its log {log} ends with:\n{tail}")).into())
            }
        }
    }

    /// The file with its output.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// The last lines of its output: at most `lines`, and at most 64 KiB.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
            let mut end = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut end)?;
            Ok(end)
        };
        let end = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
        let all: Vec<_> = end.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Sends `signal` to the whole process group.
    pub fn signal(&self, signal: Signal) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            // It may have ended already.
            let _ = killpg(Pid::from_raw(group), signal);
        }
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }

    /// SIGTERM, then SIGKILL after `timeout`. Returns the exit status; `None` if it had to be killed.
    pub async fn terminate(&mut self, timeout: Duration) -> Option<ExitStatus> {
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.kill();
        None
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// If it has ended.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }

    /// Processor time used so far by the process group.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        group_cpu(self.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts `command` on a thread that lives as long as this process. The kernel takes the *thread* that starts a child for
/// its parent: servers that several tests share would end with the thread of the first test.
fn spawn(command: Command) -> anyhow::Result<Child> {
    type Job = (Command, SyncSender<std::io::Result<Child>>);
    static STARTER: LazyLock<SyncSender<Job>> = LazyLock::new(|| {
        let (jobs, queue) = sync_channel::<Job>(0);
        std::thread::spawn(move || {
            for (mut command, reply) in queue {
                // The caller waits for it.
                let _ = reply.send(command.spawn());
            }
        });
        jobs
    });
    let (reply, child) = sync_channel(1);
    STARTER.send((command, reply)).ok().context("the thread that starts processes has ended")?;
    Ok(child.recv().context("the thread that starts processes has ended")??)
}

/// User and system time of all processes of a group (proc(5): fields 5, 14 and 15 of `stat`, in ticks of 10 ms).
fn group_cpu(group: u32) -> Duration {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Duration::ZERO };
    let ticks = entries
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| {
            // The name, in parentheses, may hold blanks.
            let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
            (number(5)? == u64::from(group)).then_some(number(14)? + number(15)?)
        });
    Duration::from_millis(ticks.sum::<u64>() * 10)
}
