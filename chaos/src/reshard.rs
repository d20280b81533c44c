//! Changes of the number of work queues.

use anyhow::Context as _;
use serde_json::Value;
use testbed::stack::System;
use tokio::process::Command;

/// One work queue more, then as many as before.
///
/// # Errors
/// What `imctl` says.
pub(crate) async fn grow_and_shrink(system: &System) -> anyhow::Result<()> {
    // Without `--apply` it changes nothing.
    let count = set(system, &["1"]).await?["from"].as_u64().context("no number of shards")?;
    for wanted in [count + 1, count] {
        set(system, &[&wanted.to_string(), "--apply"]).await?;
    }
    Ok(())
}

async fn set(system: &System, arguments: &[&str]) -> anyhow::Result<Value> {
    let mut command = system.imctl()?;
    command.args(["--json", "shards", "set"]).args(arguments);
    let output = Command::from(command).kill_on_drop(true).output().await?;
    let is_plan = arguments.len() == 1;
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(is_plan || output.status.success(), "imctl shards set {arguments:?}: {}", said());
    serde_json::from_slice(&output.stdout).with_context(said)
}
