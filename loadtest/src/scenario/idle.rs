//! Connections that do nothing: what do they cost?

use serde::Serialize;

use crate::client::Client;
use crate::stack::System;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Idle {
    /// Connections to one gateway.
    pub connections: usize,
    /// Resident memory of the gateway before.
    pub before_bytes: u64,
    /// And with them.
    pub after_bytes: u64,
    /// The difference for each.
    pub bytes_per_connection: u64,
}

/// Opens `connections` to the first gateway of `system`, each by a user of its own.
///
/// # Errors
/// If one cannot be opened, or does not answer.
pub async fn idle(system: &mut System, connections: usize) -> anyhow::Result<Idle> {
    let url = system.gateway(0).ws_url();
    // What the first connections load stays for all.
    for n in 0..50 {
        Client::connect(&url, &format!("warm{n}")).await?.request(0, r#"{"cmd":0}"#).await?;
    }
    let before_bytes = resident(system)?;
    let mut clients = Vec::with_capacity(connections);
    for n in 0..connections {
        let mut client = Client::connect(&url, &format!("idle{n}")).await?;
        client.request(0, r#"{"cmd":0}"#).await?;
        clients.push(client);
    }
    let after_bytes = resident(system)?;
    // All still there?
    for client in &mut clients {
        client.request(0, r#"{"cmd":0}"#).await?;
    }
    let bytes_per_connection = after_bytes.saturating_sub(before_bytes) / connections.max(1) as u64;
    Ok(Idle { connections, before_bytes, after_bytes, bytes_per_connection })
}

fn resident(system: &mut System) -> anyhow::Result<u64> {
    let process = system.gateway(0).process().ok_or_else(|| anyhow::anyhow!("the gateway does not run"))?;
    process.resident_bytes()
}
