//! Connections that do nothing but give a sign of life: what do they cost?
//!
//! The clients are bare sockets without tasks or buffers: the handshake and the heartbeat are bytes written by hand, so
//! that the load generator does not cost more than what it measures. They come from several loopback addresses, because
//! one has only 28,000 ports.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::catalog::Scale;
use super::outcome::{Goal, Outcome};
use super::sampler::Sampler;
use testbed::client::{Client, Report};
use testbed::meter::cpu_of;
use testbed::stack::System;

const CONNECTIONS: usize = 50_000;
/// Connections from one address.
const PER_ADDRESS: usize = 20_000;
/// Connections that are made at once.
const CONNECTING: usize = 64;
/// As the protocol tells clients to.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
/// How long heartbeats are watched: a little more than one from each.
const WATCHED_FOR: Duration = Duration::from_secs(40);
/// `{"cmd":0}` in a masked text frame; the mask is 0.
const HEARTBEAT: &[u8] = b"\x81\x89\0\0\0\0{\"cmd\":0}";

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
    /// Share of one core that the gateway needs for everyone's heartbeats; where they were watched.
    pub heartbeat_core_share: Option<f64>,
}

/// Opens `connections` to the first gateway of `system`, each by a user of its own. With `heartbeats`, everyone gives
/// signs of life for a while.
///
/// # Errors
/// If one cannot be opened, or does not answer.
pub async fn idle(system: &mut System, connections: usize, heartbeats: bool) -> anyhow::Result<Idle> {
    let url = system.gateway(0).ws_url();
    let address: SocketAddr = url.trim_start_matches("ws://").trim_end_matches("/ws").parse()?;
    // What the first connections load stays for all.
    for n in 0..50 {
        Client::connect(&url, &format!("warm{n}")).await?.request(0, r#"{"cmd":0}"#).await?;
    }
    let before_bytes = resident(system)?;
    let connecting: Vec<_> = (0..connections).map(|n| connect(address, n)).collect();
    let mut connecting = futures_util::stream::iter(connecting).buffer_unordered(CONNECTING);
    let mut streams = Vec::with_capacity(connections);
    while let Some(stream) = connecting.next().await {
        streams.push(stream?);
    }
    let after_bytes = resident(system)?;
    let gateway = system.gateway(0).process().context("the gateway does not run")?.id();
    let heartbeat_core_share =
        if heartbeats { Some(watch_heartbeats(&streams, gateway).await?) } else { None };
    // All still there?
    for stream in &mut streams {
        beat(stream).await?;
    }
    let bytes_per_connection = after_bytes.saturating_sub(before_bytes) / connections.max(1) as u64;
    Ok(Idle { connections, before_bytes, after_bytes, bytes_per_connection, heartbeat_core_share })
}

async fn connect(address: SocketAddr, n: usize) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if n >= PER_ADDRESS {
        let last = u8::try_from(1 + n / PER_ADDRESS)?;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))?;
    }
    let mut stream = socket.connect(address).await.with_context(|| format!("connection {n}"))?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /ws?user_id=idle{n} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    anyhow::ensure!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    // Its login is done when this is answered.
    beat(&mut stream).await?;
    Ok(stream)
}

/// One sign of life, and its answer.
async fn beat(stream: &mut TcpStream) -> anyhow::Result<()> {
    stream.write_all(HEARTBEAT).await?;
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).await?;
    anyhow::ensure!(read > 2 && answer[0] == 0x81, "no answer to a heartbeat: {:?}", &answer[..read]);
    Ok(())
}

/// Everyone beats every 30 s, spread evenly. Returns the gateway's share of a core.
async fn watch_heartbeats(streams: &[TcpStream], gateway: u32) -> anyhow::Result<f64> {
    let (begun, before) = (Instant::now(), cpu_of(gateway).context("the gateway has ended")?);
    let pause = HEARTBEAT_INTERVAL / u32::try_from(streams.len().max(1))?;
    let (mut due, mut answer) = (begun, [0; 256]);
    for stream in streams.iter().cycle() {
        if begun.elapsed() > WATCHED_FOR {
            break;
        }
        // The answers to earlier ones.
        while stream.try_read(&mut answer).is_ok_and(|read| read > 0) {}
        anyhow::ensure!(
            stream.try_write(HEARTBEAT)? == HEARTBEAT.len(),
            "a heartbeat did not fit into its socket"
        );
        due += pause;
        // A timer's tick is a millisecond: it sleeps for several heartbeats at once.
        if due > Instant::now() + Duration::from_millis(2) {
            tokio::time::sleep_until(due).await;
        }
    }
    let used = cpu_of(gateway).context("the gateway has ended")?.saturating_sub(before);
    let share = used.as_secs_f64() / begun.elapsed().as_secs_f64();
    // The rest of the answers, so that the next one is its own.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for stream in streams {
        while stream.try_read(&mut answer).is_ok_and(|read| read > 0) {}
    }
    Ok(share)
}

fn resident(system: &mut System) -> anyhow::Result<u64> {
    let process = system.gateway(0).process().ok_or_else(|| anyhow::anyhow!("the gateway does not run"))?;
    process.resident_bytes()
}

/// 50,000 on one gateway, with heartbeats.
pub(super) async fn idle_scenario(system: &mut System, scale: &Scale) -> anyhow::Result<Outcome> {
    let connections = scale.of(CONNECTIONS);
    let sampler = Sampler::start("idle", system, &std::sync::Arc::new(Report::default())).await?;
    let measured = idle(system, connections, true).await?;
    let (samples, marks) = sampler.finish();
    let mut outcome = Outcome { samples, marks, ..Outcome::default() };
    outcome.what = format!("{connections} idle connections on one gateway, each with a heartbeat every 30 s");
    #[allow(clippy::cast_precision_loss)] // below 2^52
    let (kib, connections) = (|bytes: u64| bytes as f64 / 1024.0, connections as f64);
    outcome.figure("connections", connections, "", Some(Goal::AtLeast(50_000.0)));
    let each = kib(measured.bytes_per_connection);
    outcome.figure("resident memory of each", each, "KiB", Some(Goal::Under(12.0)));
    if let Some(share) = measured.heartbeat_core_share {
        outcome.figure("gateway's share of a core", share * 100.0, "%", Some(Goal::Under(2.0)));
    }
    outcome.figure("gateway before", kib(measured.before_bytes) / 1024.0, "MiB", None);
    outcome.figure("gateway with them", kib(measured.after_bytes) / 1024.0, "MiB", None);
    Ok(outcome)
}
