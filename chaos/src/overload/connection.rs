//! One connection of an overload.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use testbed::client::{Packet, Sender};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Answers after this time are late: the server's deadline, and half a second for both networks and a busy machine.
const LATE: Duration = Duration::from_millis(5_500);
/// Unanswered messages of a connection: below the gateway's limit, so that none waits in a socket.
const UNANSWERED_MAX: usize = 200;
/// Messages that one connection sends before it looks for answers.
const BATCH_MAX: u32 = 64;
/// Between two looks whether a message is due.
const TICK: Duration = Duration::from_millis(5);
/// The longest latency that is recorded, in microseconds.
const LATENCY_MAX_US: u64 = 120_000_000;

/// How the connections send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mode {
    /// With this many unanswered messages on each connection.
    Window(usize),
    /// This many messages per second on each connection.
    Rate(f64),
    Stop,
}

/// The counters of all connections.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) accepted: AtomicU64,
    pub(super) offered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) held_back: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) unanswered: AtomicU64,
    pub(super) odd: AtomicU64,
    /// Microseconds until an answer.
    pub(super) answers: Mutex<Histogram<u64>>,
}

impl Counts {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            accepted: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
            late: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            odd: AtomicU64::new(0),
            answers: Mutex::new(Histogram::new_with_max(LATENCY_MAX_US, 3)?),
        })
    }

    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends as `mode` tells, nothing twice, and records every answer in the sender.
pub(super) async fn run(
    gateway: &str,
    mut sender: Sender,
    mut mode: watch::Receiver<Mode>,
    counts: &Counts,
) -> anyhow::Result<Sender> {
    let mut socket = sender.credentials.websocket(gateway, &sender.user, None).await?;
    let mut in_flight: HashMap<usize, Instant> = HashMap::new();
    let mut due = Instant::now();
    loop {
        let now = *mode.borrow_and_update();
        let mut wake = Instant::now() + LATE * 2;
        match now {
            Mode::Window(window) => {
                while in_flight.len() < window {
                    socket.feed(next(&mut sender, &mut in_flight, counts)).await?;
                }
                due = Instant::now();
            }
            Mode::Rate(per_second) => {
                let pause = Duration::from_secs_f64(1.0 / per_second);
                // A connection that is far behind skips messages.
                due = due.max(Instant::now() - pause * BATCH_MAX);
                while due <= Instant::now() {
                    if in_flight.len() < UNANSWERED_MAX {
                        socket.feed(next(&mut sender, &mut in_flight, counts)).await?;
                    } else {
                        Counts::count(&counts.held_back);
                    }
                    due += pause;
                }
                // A wakeup for each message would take processor time from the system.
                wake = due.max(Instant::now() + TICK);
            }
            Mode::Stop if in_flight.is_empty() => return Ok(sender),
            Mode::Stop => {}
        }
        socket.flush().await?;
        tokio::select! {
            frame = socket.next() => {
                record(frame, &mut sender, &mut in_flight, counts)?;
                while let Some(frame) = socket.next().now_or_never() {
                    record(frame, &mut sender, &mut in_flight, counts)?;
                }
            }
            changed = mode.changed() => changed?,
            () = sleep_until(wake) => {
                if now == Mode::Stop {
                    // An answer after twice the deadline is not expected.
                    counts.unanswered.fetch_add(in_flight.len() as u64, Ordering::Relaxed);
                    return Ok(sender);
                }
            }
        }
    }
}

fn next(sender: &mut Sender, in_flight: &mut HashMap<usize, Instant>, counts: &Counts) -> Message {
    let n = sender.add();
    in_flight.insert(n, Instant::now());
    Counts::count(&counts.offered);
    Message::text(sender.frame(n, false))
}

fn record(
    frame: Option<Result<Message, Error>>,
    sender: &mut Sender,
    in_flight: &mut HashMap<usize, Instant>,
    counts: &Counts,
) -> anyhow::Result<()> {
    let Message::Text(text) = frame.context("closed")?? else { return Ok(()) };
    // Pushes are many, and are not checked.
    if !text.starts_with(r#"{"cmd":2"#) {
        return Ok(());
    }
    let answer: Packet = serde_json::from_str(&text).with_context(|| format!("not the protocol: {text}"))?;
    let n: usize =
        answer.msg_id.as_deref().and_then(|id| id.rsplit_once('-')).context("not our msg_id")?.1.parse()?;
    if let Some(begin) = in_flight.remove(&n) {
        let latency = begin.elapsed();
        counts.answers.lock().saturating_record(u64::try_from(latency.as_micros())?);
        if latency > LATE {
            Counts::count(&counts.late);
        }
        match answer.code {
            0 => Counts::count(&counts.accepted),
            429 | 503 => Counts::count(&counts.refused),
            code if sender.sent[n].kind.may_end_with(code) => Counts::count(&counts.refused),
            _ => Counts::count(&counts.odd),
        }
    }
    match answer.code {
        0 => drop(sender.record_ack(n, answer.seq.context("code 0 without seq")?)),
        code => drop(sender.record_refusal(n, code)),
    }
    Ok(())
}
