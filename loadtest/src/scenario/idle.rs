//! Idle connections, which send nothing but heartbeats: what they cost a gateway.
//!
//! The clients are bare sockets without tasks or buffers: the handshake and the heartbeat are bytes written by hand, so
//! that the load generator does not cost more than what it measures. On loopback they use several addresses, because one
//! has only 28,000 ports.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::deployment::Deployment;
use super::outcome::{Goal, Outcome};
use super::sampler::Sampler;
use super::scale::Scale;
use super::target::Target;
use testbed::client::Report;
use testbed::meter::{Used, cpu_of};
use testbed::stack::System;

const CONNECTIONS: usize = 50_000;
/// Connections of one loopback address.
const PER_ADDRESS: usize = 20_000;
/// Connections that are opened at the same time.
const CONNECTING: usize = 64;
/// Connections that are opened before memory is measured: what the first ones load serves all.
const WARM_UP: usize = 50;
/// As the protocol asks clients to.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
/// How long heartbeats are observed: a little more than one from each connection.
const OBSERVED_FOR: Duration = Duration::from_secs(40);
/// Between the last login and the observation of a system at rest.
const AFTER_LOGINS: Duration = Duration::from_secs(3);
/// `{"cmd":0}` in a masked text frame; the mask is 0.
const HEARTBEAT: &[u8] = b"\x81\x89\0\0\0\0{\"cmd\":0}";
/// Longest head of a response that is read.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The measurements of idle connections.
#[derive(Debug, Clone, Serialize)]
pub struct Idle {
    /// Connections that were opened, and answered a heartbeat at the end.
    pub connections: usize,
    /// The gateway's memory; `None` for a running deployment, whose processes are not known.
    pub memory: Option<Memory>,
    /// Share of one core that the gateway needs for all heartbeats; where it was measured.
    pub heartbeat_core_share: Option<f64>,
}

/// Resident memory of a gateway.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Memory {
    /// Before the connections.
    pub before_bytes: u64,
    /// With the connections.
    pub after_bytes: u64,
    /// The difference for each connection.
    pub bytes_per_connection: u64,
}

/// Opens `connections`, each by a user of its own: to the first gateway of a system of its own, or spread over those of a
/// running deployment. With `heartbeats`, all send heartbeats for a while.
///
/// # Errors
/// If a connection cannot be opened, or does not answer.
pub async fn idle(target: &mut Target, connections: usize, heartbeats: bool) -> anyhow::Result<Idle> {
    let deployment = match target.own_system() {
        Some(_) => target.deployment().with_first(1),
        None => target.deployment().clone(),
    };
    for n in 0..WARM_UP {
        let user = deployment.name(&format!("warm{n}"));
        deployment.connect(n, &user).await?.request(0, r#"{"cmd":0}"#).await?;
    }
    let before_bytes = target.own_system().map(resident).transpose()?;
    let mut streams = connect_all(&deployment, connections).await?;
    let after_bytes = target.own_system().map(resident).transpose()?;
    let gateway = match target.own_system() {
        Some(system) => Some(system.gateway(0).process().context("the gateway does not run")?.id()),
        None => None,
    };
    let heartbeat_core_share = if heartbeats { observe_heartbeats(&streams, gateway).await? } else { None };
    // Every connection must still be open.
    for (n, stream) in streams.iter_mut().enumerate() {
        beat(stream).await.with_context(|| format!("connection {n} of {connections}"))?;
    }
    let memory = before_bytes.zip(after_bytes).map(|(before_bytes, after_bytes)| Memory {
        before_bytes,
        after_bytes,
        bytes_per_connection: after_bytes.saturating_sub(before_bytes) / connections.max(1) as u64,
    });
    Ok(Idle { connections, memory, heartbeat_core_share })
}

/// Those that are open already send heartbeats meanwhile.
async fn connect_all(deployment: &Deployment, connections: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut addresses = Vec::new();
    for gateway in deployment.gateways() {
        addresses.push(resolved(gateway).await?);
    }
    let connecting: Vec<_> =
        (0..connections).map(|n| connect(deployment, addresses[n % addresses.len()], n)).collect();
    let mut connecting = futures_util::stream::iter(connecting).buffer_unordered(CONNECTING);
    let mut streams = Vec::with_capacity(connections);
    let mut beaten_at = Instant::now();
    while let Some(stream) = connecting.next().await {
        streams.push(stream?);
        if beaten_at.elapsed() > HEARTBEAT_INTERVAL {
            beaten_at = Instant::now();
            for stream in &streams {
                send_heartbeat(stream)?;
            }
        }
    }
    // The answers, so that the next one belongs to the next heartbeat.
    settle(&streams).await;
    Ok(streams)
}

/// The address of `ws://host:port/ws`.
async fn resolved(gateway: &str) -> anyhow::Result<SocketAddr> {
    anyhow::ensure!(
        !gateway.starts_with("wss:"),
        "idle connections have no TLS: give ws:// of the gateway itself"
    );
    let host = gateway.trim_start_matches("ws://").split('/').next().unwrap_or_default();
    let mut addresses = tokio::net::lookup_host(host).await.with_context(|| format!("looking up {host}"))?;
    addresses.next().with_context(|| format!("{host} has no address"))
}

async fn connect(deployment: &Deployment, address: SocketAddr, n: usize) -> anyhow::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if n >= PER_ADDRESS && address.is_ipv4() && address.ip().is_loopback() {
        let last = u8::try_from(1 + n / PER_ADDRESS)?;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))?;
    }
    let mut stream = socket.connect(address).await.with_context(|| format!("connection {n}"))?;
    stream.set_nodelay(true)?;
    let user = deployment.name(&format!("idle{n}"));
    let host_and_path = deployment.gateway(n).trim_start_matches("ws://");
    let path = host_and_path.find('/').map_or("/ws", |at| &host_and_path[at..]);
    let (query, header) = match deployment.credentials().token(&user).await? {
        Some(token) => (String::new(), format!("Authorization: Bearer {token}\r\n")),
        None => (format!("?user_id={user}"), String::new()),
    };
    let request = format!(
        "GET {path}{query} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{header}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        head.push(stream.read_u8().await?);
    }
    let status = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    anyhow::ensure!(
        status.starts_with(b"HTTP/1.1 101"),
        "connection {n} was refused: {}",
        String::from_utf8_lossy(status)
    );
    // The login is complete when this is answered.
    beat(&mut stream).await.with_context(|| format!("connection {n}"))?;
    Ok(stream)
}

/// A heartbeat, and its answer.
async fn beat(stream: &mut TcpStream) -> anyhow::Result<()> {
    stream.write_all(HEARTBEAT).await?;
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).await?;
    anyhow::ensure!(read > 2 && answer[0] == 0x81, "no answer to a heartbeat: {:?}", &answer[..read]);
    Ok(())
}

/// A heartbeat, without waiting for the answer; earlier answers are dropped.
fn send_heartbeat(stream: &TcpStream) -> anyhow::Result<()> {
    drop_answers(stream);
    anyhow::ensure!(
        stream.try_write(HEARTBEAT)? == HEARTBEAT.len(),
        "a heartbeat did not fit into its socket"
    );
    Ok(())
}

fn drop_answers(stream: &TcpStream) {
    let mut answer = [0; 256];
    while stream.try_read(&mut answer).is_ok_and(|read| read > 0) {}
}

async fn settle(streams: &[TcpStream]) {
    tokio::time::sleep(Duration::from_millis(500)).await;
    streams.iter().for_each(drop_answers);
}

/// How much of a core each kind of process uses for `connections` that are spread over all gateways and send nothing but
/// heartbeats.
///
/// # Errors
/// If a connection cannot be opened, or does not answer.
pub(crate) async fn shares_at_rest(
    deployment: &Deployment,
    connections: usize,
    observed_for: Duration,
    mut used: impl FnMut() -> Used,
) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut streams = connect_all(deployment, connections).await?;
    // What follows a login is not rest.
    tokio::time::sleep(AFTER_LOGINS).await;
    let (begun, before) = (Instant::now(), used());
    send_heartbeats(&streams, observed_for).await?;
    let (elapsed, after) = (begun.elapsed().as_secs_f64(), used());
    settle(&streams).await;
    for (n, stream) in streams.iter_mut().enumerate() {
        beat(stream).await.with_context(|| format!("connection {n} of {connections}"))?;
    }
    let share = |(kind, after): (String, Duration)| {
        let spent = after.saturating_sub(before.get(&kind).copied().unwrap_or_default());
        (kind, spent.as_secs_f64() / elapsed)
    };
    Ok(after.into_iter().map(share).collect())
}

/// Every connection sends a heartbeat every 30 s, spread evenly. Returns the share of a core that the process `gateway`
/// used.
async fn observe_heartbeats(streams: &[TcpStream], gateway: Option<u32>) -> anyhow::Result<Option<f64>> {
    let cpu = || gateway.map(|gateway| cpu_of(gateway).context("the gateway has ended")).transpose();
    let (begun, before) = (Instant::now(), cpu()?);
    send_heartbeats(streams, OBSERVED_FOR).await?;
    let elapsed = begun.elapsed().as_secs_f64();
    let share =
        cpu()?.zip(before).map(|(after, before)| after.saturating_sub(before).as_secs_f64() / elapsed);
    settle(streams).await;
    Ok(share)
}

/// Every connection sends a heartbeat every 30 s, spread evenly.
async fn send_heartbeats(streams: &[TcpStream], lasting: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    let pause = HEARTBEAT_INTERVAL / u32::try_from(streams.len().max(1))?;
    let mut due = begun;
    for stream in streams.iter().cycle() {
        if begun.elapsed() > lasting {
            break;
        }
        send_heartbeat(stream)?;
        due += pause;
        // A timer's tick is a millisecond: one sleep covers several heartbeats.
        if due > Instant::now() + Duration::from_millis(2) {
            tokio::time::sleep_until(due).await;
        }
    }
    Ok(())
}

fn resident(system: &mut System) -> anyhow::Result<u64> {
    system.gateway(0).process().context("the gateway does not run")?.resident_bytes()
}

/// 50,000 connections with heartbeats.
pub(super) async fn idle_scenario(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    idle_outcome(target, scale.of(CONNECTIONS), true).await
}

/// Opens idle connections, and measures as [`idle`] does.
///
/// # Errors
/// As [`idle`].
pub async fn idle_outcome(
    target: &mut Target,
    connections: usize,
    heartbeats: bool,
) -> anyhow::Result<Outcome> {
    let sampler = Sampler::start("idle", target, &std::sync::Arc::new(Report::default())).await?;
    let measured = idle(target, connections, heartbeats).await?;
    let (samples, marks) = sampler.finish();
    let mut outcome = Outcome { name: "idle".to_owned(), samples, marks, ..Outcome::default() };
    let sent = if heartbeats { ", each with a heartbeat every 30 s" } else { "" };
    outcome.what = format!("{connections} idle connections{sent}; each answered a heartbeat at the end");
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    let (kib, connections) = (|bytes: u64| bytes as f64 / 1024.0, connections as f64);
    outcome.figure("connections", connections, "", Some(Goal::AtLeast(50_000.0)).filter(|_| heartbeats));
    if let Some(memory) = measured.memory {
        let each = kib(memory.bytes_per_connection);
        outcome.figure("resident memory of each", each, "KiB", Some(Goal::Under(12.0)));
    }
    if let Some(share) = measured.heartbeat_core_share {
        outcome.figure("gateway's share of a core", share * 100.0, "%", Some(Goal::Under(2.0)));
    }
    if let Some(memory) = measured.memory {
        outcome.figure("gateway before", kib(memory.before_bytes) / 1024.0, "MiB", None);
        outcome.figure("gateway with them", kib(memory.after_bytes) / 1024.0, "MiB", None);
    }
    Ok(outcome)
}
