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
    let plan = shards(system, &["plan", "--workers", "1"]).await?;
    let count = plan["shards"].as_u64().context("imctl shards plan: no number of shards")?;
    for wanted in [count + 1, count] {
        shards(system, &["set", &wanted.to_string(), "--apply"]).await?;
    }
    Ok(())
}

/// Runs `imctl shards`.
async fn shards(system: &System, arguments: &[&str]) -> anyhow::Result<Value> {
    let mut command = system.imctl()?;
    command.args(["--json", "shards"]).args(arguments);
    let output = Command::from(command).kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "imctl shards {}: {said}", arguments.join(" "));
    Ok(serde_json::from_slice(&output.stdout)?)
}
