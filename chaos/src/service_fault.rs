//! Faults of one process.

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use testbed::stack::{Process, Service, TemporaryFolder, libfaketime};
use tokio::time::sleep;

const FROZEN: Duration = Duration::from_secs(20);
/// How long a clock is wrong in each direction.
const WRONG_CLOCK: Duration = Duration::from_secs(6);

/// SIGKILL, and a new start after `down`.
pub(crate) async fn kill_and_restart(service: &mut Service, down: Duration) -> anyhow::Result<()> {
    service.kill();
    sleep(down).await;
    service.start_again().await
}

/// SIGTERM, and a new start after the end.
pub(crate) async fn drain_and_restart(service: &mut Service) -> anyhow::Result<()> {
    let status = service.terminate().await.context("it had to be killed")?;
    anyhow::ensure!(status.success(), "{} ended with {status}", service.name());
    service.start_again().await
}

/// SIGSTOP, and SIGCONT after a while.
pub(crate) async fn freeze(process: Option<&Process>) -> anyhow::Result<()> {
    let process = process.context("the process does not run")?;
    process.signal(Signal::SIGSTOP);
    sleep(FROZEN).await;
    process.signal(Signal::SIGCONT);
    Ok(())
}

/// Restarts it with a clock of its own (libfaketime), and sets that an hour ahead, then an hour back. Timers use another
/// clock, which stays right.
pub(crate) async fn wrong_clock(service: &mut Service) -> anyhow::Result<()> {
    let library = libfaketime().context("libfaketime is not installed: apt-get install faketime")?;
    let folder = TemporaryFolder::new()?;
    let offset = folder.path().join("offset");
    std::fs::write(&offset, "+0")?;
    let environment = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", offset.display().to_string()),
        ("FAKETIME_CACHE_DURATION", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    for (key, value) in &environment {
        service.set(key, value);
    }
    drain_and_restart(service).await?;
    for hours in ["+1h", "-1h"] {
        std::fs::write(&offset, hours)?;
        sleep(WRONG_CLOCK).await;
    }
    for (key, _) in &environment {
        service.unset(key);
    }
    drain_and_restart(service).await
}
